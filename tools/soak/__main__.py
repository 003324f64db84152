"""Long trials; the tests have a short form of each.

    python -m tools.soak kill --times 200    kills a recording process again and again
    python -m tools.soak load --minutes 10   threads and tasks record, another exports
    python -m tools.soak fuzz --minutes 10   reads damaged trace files

Exit status: 0 all held, 1 something did not; what, stands above.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.soak import fuzz, kill, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one trial and prints what it saw."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    trials = parser.add_subparsers(dest="trial", required=True)
    trials.add_parser("kill").add_argument("--times", type=int, default=200)
    trials.add_parser("load").add_argument("--minutes", type=float, default=10)
    trials.add_parser("fuzz").add_argument("--minutes", type=float, default=10)
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        if options.trial == "kill":
            faults = kill.trial(Path(folder), options.times, options.seed)
        elif options.trial == "load":
            faults = load.trial(Path(folder), options.minutes * 60)
        else:
            faults = fuzz.trial(options.minutes * 60, options.seed)
    for fault in faults:
        print(f"FAULT {fault}")
    print("all held" if not faults else f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
