"""Supervised training by an unmodified google-tunix: `make test-tunix`."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.needs import NEEDS_TUNIX

pytestmark = NEEDS_TUNIX

ROOT = Path(__file__).parents[2]
STEPS = [1, 2, 3, 4]


@pytest.mark.row("L7")
def test_supervised_training_logs_the_common_metrics(tmp_path: Path) -> None:
    """Loss, perplexity, learning rate, time, rate and work, where our options say."""
    from tensorboard.backend.event_processing import event_accumulator

    done = subprocess.run(
        [sys.executable, "-m", "tests.adapters.tunix_sft", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    log = event_accumulator.EventAccumulator(str(tmp_path))
    log.Reload()
    found = {
        tag: {event.step: event.value for event in log.Scalars(tag)}
        for tag in log.Tags()["scalars"]
    }
    common = ["loss", "perplexity", "learning_rate", "step_time_sec", "steps_per_sec"]
    for name in [*common, "tflops_per_step"]:
        assert STEPS == sorted(found[f"train/{name}"]), name
    losses = found["train/loss"]
    for step in STEPS:
        perplexity = found["train/perplexity"][step]
        assert pytest.approx(math.exp(losses[step]), rel=1e-3) == perplexity
        time_s, rate = (found[f"train/{name}"][step] for name in common[3:])
        assert pytest.approx(1.0, rel=1e-3) == rate * time_s
    assert losses[4] < losses[1]
    assert {0.5} == {round(v, 6) for v in found["train/learning_rate"].values()}
    assert found["eval/loss"]
