"""Opening and closing a span: the hot path of the whole package.

It takes no lock and formats no string. What a thread has open is a chain of spans
linked by `parent`, so that opening is one store and closing another; the chain also
tells a flush which spans are open right now. A closed span leaves one flat tuple
(`perf._model.spans.Record`) on its thread's list.

`_hot.c` is the same in C, at a third of the cost; it is taken where a C compiler was at
hand when the package was installed. Both hold the same tests (tests/record run with
each). What is not needed for every span is in the classes made of these: `span.Span`,
`span.ThreadLog`, `tracer.Tracer`.
"""

from __future__ import annotations

import itertools
import os
import threading
from asyncio import _get_running_loop
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from perf._model.compiled import PURE_PYTHON_VARIABLE
from perf._model.spans import NO_PARENT, OPEN, SPAN, RawRecord

if TYPE_CHECKING:
    from perf._record.launches import DeviceWork
    from perf._record.span import Span, ThreadLog
    from perf._record.tracer import Tracer

RELIEF_AT: Final = 4096
"""Records on a thread's list at which the thread itself has them collected."""

_new_id = itertools.count(1).__next__  # mutate: ok any number above 0


class HotLog:
    """What opening and closing touch of a thread's log."""

    __slots__ = ("current", "now", "records")
    current: Span
    """Innermost open span of the thread's own code."""
    now: Callable[[], int]
    """The clock, in nanoseconds."""
    records: list[RawRecord]
    """In the order of closing. Appended by the thread, cut by the collector."""


class HotSpan:
    """A span that can be opened and closed.

    Args:
        tracer: that records it.
        name: what happens in it.
        kind: of its record, `SPAN` or `GROUP`.
        tags: a dict of its own, or None.
        after: ids of recorded predecessors, or None.
        devices: where its work runs that goes on after it was closed, or None.
    """

    __slots__ = (
        "_log", "_tracer", "after", "begin_ns", "devices", "end_ns", "id", "kind",
        "name", "parent", "tags", "work",
    )  # fmt: skip
    _log: ThreadLog
    """Where it was opened; unset before."""
    _tracer: Tracer
    after: tuple[int, ...] | None
    begin_ns: int
    devices: Any
    end_ns: int
    """`OPEN` while it is open; 0 if it was entered while recording was off."""
    id: int
    kind: int
    name: str
    parent: Span
    tags: dict[str, Any] | None
    work: DeviceWork | None
    """On its devices: none before the first arrays were given."""

    if TYPE_CHECKING:  # Of `span.Span`.

        def _enter_task(self, log: ThreadLog) -> None: ...
        def _leave(self, log: ThreadLog) -> bool: ...
        def _mark_error(self, exc_type: Any, exc: Any) -> None: ...
        def _misused(self) -> None: ...

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        kind: int,
        tags: dict[str, Any] | None,
        after: tuple[int, ...] | None,
        devices: Any,
    ) -> None:
        self._tracer = tracer
        self.name = name
        self.kind = kind
        self.tags = tags
        self.after = after
        self.devices = devices
        self.work = None
        self.id = NO_PARENT

    def __enter__(self) -> Self:
        if getattr(self, "end_ns", 0) == OPEN:
            self._misused()
            return self
        tracer = self._tracer
        if not tracer._on:
            self.begin_ns = self.end_ns = 0
            return self
        try:
            log: ThreadLog = tracer._local.log
        except AttributeError:
            log = tracer._new_log()
        self._log = log
        # Here and not when it is made: the order of ids is the order of opening.
        self.id = _new_id()
        if _get_running_loop() is None:
            self.parent = log.current
            self.end_ns = OPEN
            now = log.now
            self.begin_ns = now()
            # Last: from here on a flush on another thread sees the span.
            log.current = self  # type: ignore[assignment]  # always a `span.Span`
        else:
            self._enter_task(log)
        return self

    def __exit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        if getattr(self, "end_ns", 0) == 0:
            self._misused()
            return
        log = self._log
        now = log.now
        end_ns = now()
        parent = self.parent
        if log.current is self:
            log.current = parent
        elif not self._leave(log):
            return
        self.end_ns = end_ns
        if exc is not None:
            self._mark_error(exc_type, exc)
        records = log.records
        records.append(
            (
                self.name, self.begin_ns, end_ns, self.id, parent.id,
                self.kind, self.tags, self.after,
            )
        )  # fmt: skip
        if len(records) >= RELIEF_AT:
            self._tracer._collector.relieve(log)
        if self.devices is not None:
            close = self._tracer._launches.close
            close(self)  # type: ignore[arg-type]  # always a `span.Span`


class HotTracer:
    """What makes spans."""

    _local: threading.local
    """Has the thread's log as `log`, once it has one."""
    _on: bool
    _span_type: type[Span]

    if TYPE_CHECKING:  # Of `tracer.Tracer`.

        def _ids(self, after: Any) -> tuple[int, ...] | None: ...
        def _refuse_tags(self, tags: Any) -> None: ...

    def span(
        self,
        name: str,
        devices: Any = None,
        tags: Mapping[str, Any] | None = None,
        after: Any = None,
    ) -> Span:
        """A span around a block (`with`, `async with`) or a function (decorator).

        Args:
            name: what happens in it, e.g. "rollout". Few distinct ones: put what
                varies into tags.
            devices: where the work that it launches runs, in any form that JAX users
                call devices; the span is recorded there too, until the arrays given
                to its `device_end` are ready.
            tags: kept with the span, copied.
            after: spans, or ids of spans, whose results this one consumes.
        """
        copied = None
        if tags is not None:
            try:
                copied = {**tags}
            except Exception:
                self._refuse_tags(tags)
        ids = None if after is None else self._ids(after)
        tracer: Any = self  # always a `tracer.Tracer`
        return self._span_type(tracer, name, SPAN, copied, ids, devices)


new_id = _new_id
"""Span ids: unique in the process, also after a fork, in the order of opening."""
is_compiled = False
"""Whether opening and closing are done in C."""


def bind() -> None:
    """Tells the compiled half the constants that it shares with this one."""
    if is_compiled:
        _hot.bind(OPEN, SPAN, _get_running_loop, RELIEF_AT)


if not os.environ.get(PURE_PYTHON_VARIABLE):
    try:
        from perf._record import _hot  # type: ignore[attr-defined]  # compiled
    except ImportError:
        pass
    else:
        is_compiled = True
        bind()
        HotLog = _hot.HotLog  # type: ignore[misc]
        HotSpan = _hot.HotSpan  # type: ignore[misc]
        HotTracer = _hot.HotTracer  # type: ignore[misc]
        new_id = _hot.new_id
