"""A watchdog that says where a training stands whose step does not end.

with Watchdog(tracer, after_s=1800, on_hang=page_me):
    train()
"""

from __future__ import annotations

from perf._record.watchdog import Hang, OpenSpan, Watchdog

__all__ = ["Hang", "OpenSpan", "Watchdog"]
