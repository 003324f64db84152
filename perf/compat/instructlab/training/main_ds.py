"""`instructlab.training.main_ds`: a training with its metrics logged.

python -m perf.compat.instructlab.training.main_ds --script train.py \
    --run_name "my_run" --logger_type "async,tensorboard,wandb" --output_dir "out/"
"""

from __future__ import annotations

import argparse
import logging
import runpy
import sys
from collections.abc import Sequence

from perf.compat.instructlab.training.logger import (
    setup_metric_logger,
    setup_root_logger,
)

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Sets up logging, then runs a script, or else learns the slope of a line."""
    parser = argparse.ArgumentParser(prog="main_ds", description=main.__doc__)
    parser.add_argument("--script", help="the training")
    parser.add_argument("--run_name", help="names files and runs")
    parser.add_argument("--logger_type", help="a list with commas")
    parser.add_argument("--output_dir", default="logs", help="the folder")
    args, others = parser.parse_known_args(argv)
    setup_root_logger()
    setup_metric_logger(args.logger_type, args.run_name, args.output_dir)
    if args.script:
        sys.argv = [args.script, *others]
        runpy.run_path(args.script, run_name="__main__")
    else:
        _fit_a_line(logging.getLogger("instructlab.training.metrics"))


def _fit_a_line(metrics: logging.Logger, lr: float = 0.1) -> None:
    slope = 0.0
    metrics.info({"lr": lr}, extra={"hparams": True})
    for step in range(20):
        metrics.info({"loss": (slope - 2.0) ** 2}, extra={"step": step})
        slope -= lr * 2 * (slope - 2.0)


if __name__ == "__main__":
    main()
