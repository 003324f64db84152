"""Timelines of spans, by step (drop-in for `tunix.perf.experimental.timeline`)."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from perf._record import clock
from perf._record.hot import new_id
from perf._record.span import error_text
from perf.adapters.jax_devices import WAITING, when_ready

__all__ = ["AsyncTimeline", "BatchAsyncTimelines", "Span", "Timeline"]

_INF = float("inf")


@dataclasses.dataclass
class Span:
    """A stretch of time with a name and tags, in seconds on the tracer's clock.

    Attributes:
        name: what the span is called.
        begin, end: seconds; `end` is inf while the span is open.
        id: unique in the process.
        parent_id: the span of the same timeline in which this one was opened.
        tags: str to anything; see `perf.experimental.constants`.
    """

    name: str
    begin: float
    end: float = dataclasses.field(default=_INF, init=False)
    id: int
    parent_id: int | None = None
    # Any: a mapping or None when the span is made, a dict of its own afterwards.
    tags: Any = None

    def __post_init__(self) -> None:
        self.tags = dict(self.tags or {})

    def add_tag(self, key: str, value: Any) -> None:
        """Adds a tag; replacing one is logged as a warning."""
        if key in self.tags:
            logging.getLogger("perf").warning(
                "span %r (id %s): tag %r was %r and is now %r",
                self.name, self.id, key, self.tags[key], value,
            )  # fmt: skip
        self.tags[key] = value

    @property
    def ended(self) -> bool:
        """Whether the span was closed."""
        return self.end != _INF

    @property
    def duration(self) -> float:
        """Seconds; inf while open."""
        return self.end - self.begin


Step = Mapping[int, Span]
"""The spans of one step, by id."""


class Timeline:
    """The spans of a thread or device, by the step in which they ended.

    Any thread may use it. A span may cross the end of a step: it belongs to the one in
    which it ends.

    Args:
        id: of the timeline.
        born: seconds; times are printed relative to it.
    """

    def __init__(self, id: str, born: float) -> None:
        self.id = id
        self.born = born
        self._lock = threading.RLock()
        self._open: list[Span] = []
        self._current: dict[int, Span] = {}
        self._committed: list[dict[int, Span]] = []
        self._forgotten_steps = 0
        """How many came before the first of `committed_steps`."""

    @property
    def committed_steps(self) -> Sequence[Step]:
        """The steps that have ended, oldest first."""
        with self._lock:
            return list(self._committed)

    @property
    def cur_step(self) -> Step:
        """What ended since the last step, and what is open."""
        with self._lock:
            return dict(self._current)

    @property
    def all_steps(self) -> Sequence[Step]:
        """The steps that have ended and the present one."""
        with self._lock:
            return [*self.committed_steps, self.cur_step]

    @property
    def root(self) -> Span:
        """A span over the whole timeline: from its birth to the last end."""
        spans = [span for step in self.all_steps for span in step.values()]
        root = Span("root", min([self.born, *(s.begin for s in spans)]), id=0)
        root.end = max([root.begin, *(s.end for s in spans if s.ended)])
        return root

    def start_span(
        self, name: str, begin: float, tags: Mapping[str, Any] | None = None
    ) -> Span:
        """Opens a span inside the innermost open one.

        Args:
            name: of the span.
            begin: seconds.
            tags: copied.
        """
        with self._lock:
            parent_id = self._open[-1].id if self._open else None
            span = Span(name, begin, id=new_id(), parent_id=parent_id, tags=tags)
            self._current[span.id] = span
            self._open.append(span)
        return span

    def stop_span(self, end: float) -> None:
        """Closes the innermost open span.

        Raises:
            ValueError: none is open, or it began later than `end` seconds.
        """
        with self._lock:
            if not self._open:
                raise ValueError(f"{self.id}: no more spans to end")
            span = self._open[-1]
            if end < span.begin:
                raise ValueError(
                    f"{self.id}: span {span.name!r} cannot end at {end:.6f}, before "
                    f"it began at {span.begin:.6f}"
                )
            self._open.pop().end = end

    def commit_step(self) -> None:
        """Ends a step; spans that are open go on in the next one."""
        with self._lock:
            ended = {key: span for key, span in self._current.items() if span.ended}
            self._current = {
                key: span for key, span in self._current.items() if not span.ended
            }
            self._committed.append(ended)

    def __repr__(self) -> str:
        lines = [f"Timeline({self.id}, {self.born:.6f})"]
        for number, step in enumerate(self.all_steps):
            if step:
                lines.append(f"Step {number}:")
            lines += [self._line(step[key]) for key in sorted(step)]
        return "\n".join(lines)

    def _line(self, span: Span) -> str:
        begin, end = span.begin - self.born, span.end - self.born
        parent = "" if span.parent_id is None else f" (parent={span.parent_id})"
        tags = f", tags={span.tags}" if span.tags else ""
        return f"  [{span.id}] {span.name}: {begin:.6f}, {end:.6f}{parent}{tags}"


class AsyncTimeline(Timeline):
    """A timeline whose spans end when arrays are ready."""

    def span(
        self,
        name: str,
        thread_span_begin: float,
        waitlist: Any,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds a span that ends when the arrays are ready; returns at once.

        Work that fails gives a span with the tag `error`.

        Args:
            name: of the span.
            thread_span_begin: its launch, seconds.
            waitlist: a pytree of arrays; an empty one ends the span now.
            tags: copied.
        """
        with self._lock:
            parent_id = self._open[-1].id if self._open else None
        span = Span(
            name, thread_span_begin, id=new_id(), parent_id=parent_id, tags=tags
        )

        def ended(error: BaseException | None) -> None:
            span.end = clock.seconds(clock.now())
            if error is not None:
                span.tags["error"] = error_text(error)
            with self._lock:
                self._current[span.id] = span

        when_ready(self, self.id, waitlist, ended)

    def wait_pending_spans(self) -> None:
        """Returns when all spans launched before are in the present step."""
        WAITING.settle(self)


class BatchAsyncTimelines:
    """Several device timelines that run the same work."""

    def __init__(self, timelines: list[AsyncTimeline]) -> None:
        self._timelines = timelines

    def span(
        self,
        name: str,
        thread_span_begin: float,
        waitlist: Any,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds the span to each of them; see `AsyncTimeline.span`."""
        for timeline in self._timelines:
            timeline.span(name, thread_span_begin, waitlist, tags)
