"""The span a user opens: all of it but the hot path, which is in `hot`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final, Self, TypeVar

from perf._model.spans import NO_PARENT, OPEN, SPAN, RawRecord, TimelineInfo
from perf._record.clock import NS_PER_S
from perf._record.hot import HotLog, HotSpan
from perf._record.names import shown

_F = TypeVar("_F", bound=Callable[..., Any])

_HINT: Final = "make a span for each `with`"


class ThreadLog(HotLog):
    """What one thread has open and has recorded. Written by that thread alone."""

    __slots__ = ("alive", "dropped", "info", "loose", "tangled")

    def __init__(self, info: TimelineInfo, now: Callable[[], int], alive: Any) -> None:
        self.info = info
        self.now = now
        self.alive = alive
        """A weak reference to something that dies with the thread."""
        self.records = []
        self.current = ROOT
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
        if self.current is ROOT and not self.loose:
            return []
        # A list: copied in one step, while the owner may change the dict.
        spans = [*self.chain(), *list(self.loose.values())]
        spans.sort(key=_id_of)
        return [span for span in spans if span.end_ns == OPEN]


class Span(HotSpan):
    """A span: a context manager (`with`, `async with`) and a decorator.

    Made by a tracer's `span`. Each `with` wants a span of its own. False in a condition
    unless it was opened while recording was on.

    Attributes:
        name: what the span is called.
        id: unique in the process; 0 before it was opened.
        tags: what `span(tags=…)` and `tag()` gave, or None.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return self.id != NO_PARENT

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
        """Makes the span on its devices last until these arrays are ready.

        Args:
            waitlist: an array or any pytree of arrays; several calls add up. Its
                arrays are let go as soon as they were waited for. What is on no
                device, arrays of NumPy say, was ready when it was handed over.
        """
        if self.devices is None:
            self._tracer._log.say(
                "no-devices",
                f"span {shown(self.name)} was given no devices: what it launched is "
                "not waited for, and it ends with its block. Pass its devices when it "
                "opens.",
            )
        # At every launch: `ended` without its call.
        elif getattr(self, "end_ns", OPEN) == OPEN:
            self._tracer._launches.wait_for(self, waitlist)

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

    def as_open_record(self) -> RawRecord:
        """The record of a span that has not ended yet."""
        return (
            self.name, self.begin_ns, OPEN, self.id, self.parent.id,
            self.kind, self.tags, self.after,
        )  # fmt: skip

    def nearest(self, kind: int) -> Span:
        """The innermost span of that kind among this one and those around it."""
        span: Span = self
        while span.kind != kind:
            around = span.parent
            # The root is its own. What was opened again later, inside what outlived
            # it, closes the chain to a ring.
            if around.id >= span.id:
                return ROOT
            span = around
        return span

    def _another(self) -> Span:
        tags = None if self.tags is None else {**self.tags}
        return Span(self._tracer, self.name, self.kind, tags, self.after, self.devices)

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
            self._tracer._log.say("closed-twice", f"a span was closed twice: {_HINT}")
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

    def _misused(self) -> None:
        """Entered while open, or closed without having been opened."""
        if self.ended:  # entered while recording was off
            return
        if hasattr(self, "_log"):
            self._tracer._log.say("opened-twice", f"a span was opened twice: {_HINT}")
        else:
            self._tracer._log.say(
                "never-opened", "a span was closed that was never opened"
            )

    def _mark_error(self, exc_type: Any, exc: Any) -> None:
        self.tag("error", error_text(exc))


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
    # A span opened again, inside what outlived it, closes the chain to a ring.
    while span is not ROOT and span.id not in seen:
        yield span
        seen.add(span.id)
        span = span.parent


def _id_of(span: Span) -> int:
    return span.id


def _root() -> Span:
    # The bottom of every chain: never closed, so nobody asks for its tracer or log.
    root = Span.__new__(Span)
    root.name = "root"
    root.id = NO_PARENT
    root.kind = SPAN
    root.tags = root.after = None
    root.parent = root
    root.begin_ns = 0
    root.end_ns = OPEN
    return root


ROOT: Final = _root()
