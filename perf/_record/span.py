"""The span a user opens: the hot path of the whole package.

Opening and closing take no lock and format no string. What a thread has open is a
chain of spans linked by `parent`, so that opening is one store and closing another;
the chain also tells a flush which spans are open right now. A closed span leaves one
flat tuple (`perf._model.spans.Record`) on its thread's list.
"""

from __future__ import annotations

import itertools
from asyncio import _get_running_loop
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from perf._model.spans import GROUP, NO_PARENT, OPEN, SPAN, RawRecord, TimelineInfo
from perf._record.clock import NS_PER_S

if TYPE_CHECKING:
    from perf._record.launches import DeviceWork
    from perf._record.noop import NoopSpan
    from perf._record.tracer import Tracer

_F = TypeVar("_F", bound=Callable[..., Any])

RELIEF_AT: Final = 4096
"""Records on a thread's list at which the thread itself has them collected."""

new_id = itertools.count(1).__next__  # mutate: ok any number above 0
"""Span ids: unique in the process, also after a fork, in the order of opening."""


class ThreadLog:
    """What one thread has open and has recorded. Written by that thread alone."""

    __slots__ = (
        "alive", "current", "dropped", "info", "loose", "now", "records", "tangled",
    )  # fmt: skip

    def __init__(self, info: TimelineInfo, now: Callable[[], int], alive: Any) -> None:
        self.info = info
        self.now = now
        self.alive = alive
        """A weak reference to something that dies with the thread."""
        self.records: list[RawRecord] = []
        """In the order of closing. Appended by the thread, cut by the collector."""
        self.current: Span = ROOT
        """Innermost open span of the thread's own code."""
        self.loose: dict[int, Span] = {}
        """Open spans that are not in the chain of `current`: those of asyncio tasks,
        and those that outlived the span around them."""
        self.dropped = 0
        """Records lost because nobody collected them in time."""
        self.tangled = False
        """Whether spans of this thread may overlap without nesting."""

    def chain(self) -> Iterator[Span]:
        """Innermost to outermost of `current`. Safe from any thread."""
        return _outwards(self.current)

    def open_around(self, span: Span | None) -> Span:
        """The innermost open span among this one and those around it.

        A context outlives the span it was copied in, and may be copied to another
        thread; parents are open and stay within a timeline. Where the span is of no
        use, what the thread itself has open is around.
        """
        if span is not None and span._log is self:
            for around in _outwards(span):
                if around.end_ns == OPEN:
                    return around
        return self.current

    def open_spans(self) -> list[Span]:
        """What is open now, outermost first. Safe from any thread."""
        # A list: copied in one step, while the owner may change the dict.
        spans = [*self.chain(), *list(self.loose.values())]
        spans.sort(key=_id_of)
        return [span for span in spans if span.end_ns == OPEN]


class Span:
    """A span: a context manager (`with`, `async with`) and a decorator.

    Made by a tracer's `span`. Each `with` wants a span of its own.

    Attributes:
        name: what the span is called.
        id: unique in the process; 0 before it was opened.
        tags: what `span(tags=…)` and `tag()` gave, or None.
    """

    # No __init__: Tracer.span fills the slots, which saves a call on the hot path.
    # As few of them as can be: each costs at birth and at death.
    __slots__ = (
        "_log", "_tracer", "begin_ns", "end_ns", "id", "name", "parent", "tags",
    )  # fmt: skip
    _log: ThreadLog
    _tracer: Tracer
    begin_ns: int
    end_ns: int
    id: int
    name: str
    parent: Span
    tags: dict[str, Any] | None

    def __enter__(self) -> Self:
        try:
            log: ThreadLog = self._tracer._local.log
        except AttributeError:
            log = self._tracer._new_log()
        self._log = log
        # Here and not when it is made: the order of ids is the order of opening.
        self.id = new_id()
        if _get_running_loop() is None:
            self.parent = log.current
            self.end_ns = OPEN
            now = log.now
            self.begin_ns = now()
            # Last: from here on a flush on another thread sees the span.
            log.current = self
        else:
            self._enter_task(log)
        return self

    def __exit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        try:
            log = self._log
        except AttributeError:
            self._never_opened()
            return
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
                SPAN, self.tags, None,
            )
        )  # fmt: skip
        if len(records) >= RELIEF_AT:
            self._tracer._collector.relieve(log)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        self.__exit__(exc_type, exc, traceback)

    def __call__(self, fn: _F) -> _F:
        """Decorates a function, coroutine function, generator or async generator.

        Each call opens a span of its own with this span's name, devices and tags.
        """
        from perf._record.decorate import traced

        wrapped: _F = traced(fn, self._another)
        return wrapped

    def tag(self, key: str, value: Any) -> Self:
        """Adds or replaces a tag while the span is open.

        Tags given after the span was closed are not recorded.
        """
        # A new dict: a flush may be reading the present one.
        try:
            self.tags = {**(self.tags or {}), key: value}
        except Exception:  # a key that cannot be hashed
            self._tracer._log.say("tag-key", "a tag was refused: its key is no name")
        return self

    add_tag = tag

    def device_end(self, waitlist: Any) -> None:
        """Nothing: this span was given no devices. See `DeviceSpan.device_end`."""

    async_end = device_end

    @property
    def begin(self) -> float:
        """Seconds on the tracer's clock."""
        return self.begin_ns / NS_PER_S

    @property
    def end(self) -> float:
        """Seconds on the tracer's clock; inf while open."""
        return self.end_ns / NS_PER_S if self.ended else float("inf")

    @property
    def ended(self) -> bool:
        """Whether the span was closed (on the host)."""
        return getattr(self, "end_ns", OPEN) != OPEN

    @property
    def duration(self) -> float:
        """Seconds between begin and end on the host; inf while open."""
        return self.end - self.begin

    def __repr__(self) -> str:
        state = f"{self.duration:.6f} s" if self.ended else "open"
        return f"<span {self.name!r} id={self.id} {state}>"

    # -- off the hot path ----------------------------------------------------------

    @property
    def kind(self) -> int:
        """The kind of its record."""
        return SPAN

    @property
    def after(self) -> tuple[int, ...] | None:
        """Ids of recorded predecessors."""
        return None

    def as_open_record(self) -> RawRecord:
        """The record of a span that has not ended yet."""
        return (
            self.name, self.begin_ns, OPEN, self.id, self.parent.id,
            self.kind, self.tags, self.after,
        )  # fmt: skip

    def nearest(self, kind: int) -> Span:
        """The innermost span of that kind among this one and those around it."""
        return next((span for span in _outwards(self) if span.kind == kind), ROOT)

    def _another(self) -> Span | NoopSpan:
        # Through the tracer, so that one switched off costs nothing here either.
        return self._tracer.span(self.name, None, self.tags)

    def _enter_task(self, log: ThreadLog) -> None:
        task_span = self._tracer._task_span
        around = task_span.get()
        if around is None or around.end_ns != OPEN or around._log is not log:
            around = log.open_around(around)
        self.parent = around
        self.end_ns = OPEN
        self.begin_ns = log.now()
        log.tangled = True
        log.loose[self.id] = self
        task_span.set(self)

    def _leave(self, log: ThreadLog) -> bool:
        """Takes out a span that is not the thread's innermost; False if not open."""
        if self.end_ns != OPEN:
            self._tracer._log.say(
                "closed-twice",
                "a span was closed twice: make a span for each `with`",
            )
            return False
        if log.loose.pop(self.id, None) is not None:
            # In the context of another task nothing is to be restored.
            task_span = self._tracer._task_span
            if task_span.get() is self:
                task_span.set(None if self.parent is ROOT else self.parent)
            return True
        # Closed before spans that were opened inside it: an abandoned generator, or
        # contexts left in the wrong order. Those inside go on as loose spans.
        log.tangled = True
        inside = itertools.takewhile(lambda span: span is not self, log.chain())
        log.loose.update((span.id, span) for span in list(inside))
        log.current = self.parent
        return True

    def _never_opened(self) -> None:
        self._tracer._log.say("never-opened", "a span was closed that was never opened")

    def _mark_error(self, exc_type: Any, exc: Any) -> None:
        self.tag("error", error_text(exc))


class DeviceSpan(Span):
    """A span whose work goes on on devices after it was closed on the host.

    Also the form of all spans that are more than a name and tags: groups and those
    with recorded predecessors.
    """

    __slots__ = ("_after", "_kind", "devices", "work")
    _after: tuple[int, ...] | None
    _kind: int
    devices: Any
    work: DeviceWork | None

    def __exit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        try:
            log = self._log
        except AttributeError:
            self._never_opened()
            return
        end_ns = log.now()
        if log.current is self:
            log.current = self.parent
        elif not self._leave(log):
            return
        self.end_ns = end_ns
        if exc is not None:
            self._mark_error(exc_type, exc)
        log.records.append(
            (
                self.name, self.begin_ns, end_ns, self.id, self.parent.id,
                self._kind, self.tags, self._after,
            )
        )  # fmt: skip
        if len(log.records) >= RELIEF_AT:
            self._tracer._collector.relieve(log)
        if self.devices is not None:
            self._tracer._launches.close(self)

    def device_end(self, waitlist: Any) -> None:
        """Makes the span on the devices last until these arrays are ready.

        Args:
            waitlist: an array or any pytree of arrays; several calls add up. Each
                array is let go as soon as it was waited for.
        """
        if self.devices is not None and not self.ended:
            self._tracer._launches.wait_for(self, waitlist)

    async_end = device_end

    @property
    def kind(self) -> int:
        """The kind of its record."""
        return self._kind

    @property
    def after(self) -> tuple[int, ...] | None:
        """Ids of recorded predecessors."""
        return self._after

    def _another(self) -> Span | NoopSpan:
        if self._kind == GROUP:
            return self._tracer._group(self.name)
        return self._tracer.span(self.name, self.devices, self.tags, self._after)


def error_text(error: BaseException) -> str:
    """What the tag `error` says of an exception."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception:  # its own __str__ is broken
        return name


def _outwards(span: Span) -> Iterator[Span]:
    """A span and those around it, without the root."""
    seen = set[int]()
    # A span opened twice closes the chain to a ring.
    while span is not ROOT and span.id not in seen:
        yield span
        seen.add(span.id)
        span = span.parent


def _id_of(span: Span) -> int:
    return span.id


def _root() -> Span:
    # The bottom of every chain: never closed, so nobody asks for its tracer or log.
    root = object.__new__(Span)
    root.name = "root"
    root.id = NO_PARENT
    root.tags = None
    root.parent = root
    root.begin_ns = 0
    root.end_ns = OPEN
    return root


ROOT: Final = _root()
