"""Which colour a stage or a bucket has on a report's page."""

from __future__ import annotations

from typing import Final

from perf._read.accounting import (
    HOST,
    OCCUPIED,
    OTHER_ROLE,
    UNACCOUNTED,
    WAIT,
    stages_of,
)
from perf.report.analysis import Report

_COLOURS: Final = 8
"""Of stages, in the style sheet; further ones share the last."""


class Colours:
    """Classes of the style sheet: a stage has the same one all over the page.

    The longest of the critical path come first, then what else holds devices.
    """

    def __init__(self, report: Report) -> None:
        stages = [s for s, _ in report.path.most_common() if s != UNACCOUNTED]
        for bucket, _ in report.account.buckets.most_common():
            if bucket.startswith(OCCUPIED):
                stages += [s for s in stages_of(bucket) if s not in stages]
        self._numbers = {
            stage: min(number, _COLOURS - 1) for number, stage in enumerate(stages)
        }

    def __contains__(self, stage: str) -> bool:
        """Whether it is on the critical path or holds devices."""
        return stage in self._numbers

    def of_stage(self, stage: str) -> str:
        """Of a stage of the critical path, or of what holds devices."""
        if stage == UNACCOUNTED:
            return "unaccounted"
        return f"c{self._numbers.get(stage, _COLOURS - 1)}"

    def of_bucket(self, bucket: str) -> str:
        """Of a bucket of the accounts."""
        if bucket.startswith(OCCUPIED):
            return self.of_stage(stages_of(bucket)[0])
        for kind in (HOST, WAIT):
            if bucket.startswith(kind):
                return kind.rstrip("/")
        return "other" if bucket == OTHER_ROLE else bucket
