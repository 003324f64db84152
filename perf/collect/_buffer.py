"""Gathers the metrics of a step's micro-batches and hands over one point of each."""

from __future__ import annotations

import dataclasses
import os
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from perf._model.log import OnceLog
from perf._model.metrics import MetricsBuffer
from perf.collect._arrays import Array, numbers

if TYPE_CHECKING:
    from perf._model.metrics import Aggregation, Entry

_TRAIN = "train"
_NO_PREFIX = "global"
_OPEN_STEPS = 64  # mutate: ok a limit
"""Steps that wait for their end, at most."""
_ADDITIONS = 16_384  # mutate: ok a limit
"""To one step, at most: whoever never changes the step must not fill memory."""
_WAITING_STEPS = 1024  # mutate: ok a limit
"""Steps that wait for a slow sink, at most."""


def split_name(name: str) -> tuple[str, str]:
    """Returns what a logger calls prefix and name.

    The first "/" parts them: ("loss", "entropy") of "loss/entropy". A name without one
    has the prefix "global".
    """
    prefix, slash, rest = name.partition("/")
    return (prefix, rest) if slash else (_NO_PREFIX, name)


@dataclasses.dataclass(frozen=True, slots=True)
class StepMetrics:
    """What a step comes to."""

    step: int
    mode: str
    """"train", "eval" or the caller's own."""
    scalars: tuple[tuple[str, Any], ...]
    """Names and values, np.float64 or (where no number came out) arrays. A name has as
    many as were added if it has no aggregation function, else one."""
    texts: Mapping[str, list[str]]
    """Names and texts, in the order they were added. For sinks of texts only."""

    def points(self) -> Iterator[tuple[str, str, Any]]:
        """Yields (prefix, name, value) of each scalar; see `split_name`."""
        for name, value in self.scalars:
            yield *split_name(name), value


@dataclasses.dataclass(frozen=True, slots=True)
class BufferStats:
    """What did not go as it should, since the buffer was made."""

    not_finite: Mapping[str, int]
    """Points that are or hold NaN or an infinity, by name. They were handed over."""
    failed: Mapping[str, int]
    """Values that could not be read or aggregated, by name. They are missing."""
    early: int
    """Steps handed over before their end, for memory's sake. What came later made a
    second point."""
    dropped: int
    """Steps that were not handed over: the sink was too slow."""
    sink_errors: int
    """Steps that the sink raised on."""


class StepBuffer:
    """Gathers metrics over a step; each is aggregated by its own function.

    JAX arrays stay on their devices until their step is handed over, so that adding
    does not block. Handing over reads them, which waits for the devices; it happens in
    the thread that ends the step, one step at a time, in the order in which they ended.

    In order (the default) a step ends with the first metric of a later one, or with
    `finish`. A metric of the training ends earlier steps of every mode, one of another
    mode those of its own: an evaluation is logged when training goes on.

    Asynchronously, `in_order=False`, metrics of several steps arrive in any order and
    `finish` alone ends them.

    What arrives for a step that was handed over makes a second point of it. Memory is
    bounded: a 65th open step ends the oldest, so do 16,384 additions to one step, and
    of more than 1,024 steps that wait for the sink the oldest are dropped.

    No method raises because of a value, an aggregation function or the sink: that is
    logged once, counted in `stats()`, and left out. All may be called from any thread.
    A forked child begins anew: the steps so far are its parent's.

    Args:
        sink: Given each step and mode as it ends.
        in_order: Whether the caller's steps follow each other.
    """

    def __init__(
        self, sink: Callable[[StepMetrics], Any], *, in_order: bool = True
    ) -> None:
        self._sink = sink
        self._in_order = in_order
        self._log = OnceLog()
        self._begin_anew()
        self._early = 0
        self._dropped = 0
        self._not_finite: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._sink_errors = 0
        _buffers.add(self)

    def _begin_anew(self) -> None:
        """Also in a forked child: who had the lock is in the parent, and its steps."""
        self._changed = threading.Condition()
        # Held for all that follows: _changed. Let go while values are read and the sink
        # is called.
        self._open: dict[tuple[int, str], MetricsBuffer] = {}
        self._additions: Counter[tuple[int, str]] = Counter()
        self._ended: deque[MetricsBuffer] = deque()
        self._deliverer: int | None = None
        """The thread that hands over. One at a time, or steps would overtake."""

    def add(
        self, metrics: Mapping[str, Entry], step: int, mode: object = _TRAIN
    ) -> None:
        """Adds what is known of a step by now.

        Args:
            metrics: Names to values and aggregation functions. Of a name's functions
                the first counts. Arrays of numpy are copied.
            step: The global step it belongs to.
            mode: "train", "eval", or an enum's member whose `str` is that.
        """
        key = (int(step), str(mode))
        wrong: list[tuple[str, Exception]] = []
        with self._changed:
            if self._in_order:
                self._end(lambda each: each[0] < key[0] and key[1] in (_TRAIN, each[1]))
            if key not in self._open:
                if len(self._open) == _OPEN_STEPS:
                    self._end_early(min(self._open))
                self._open[key] = MetricsBuffer(key[0], mode=key[1])
            _put(metrics, self._open[key], wrong)
            self._additions[key] += 1
            if self._additions[key] == _ADDITIONS:
                self._end_early(key)
        for name, error in wrong:
            self._note_failure(name, key[0], error)
        self._deliver()

    def finish(self, step: int) -> None:
        """Ends this step and all before it, in every mode."""
        with self._changed:
            self._end(lambda each: each[0] <= step)
        self._deliver()

    def close(self) -> None:
        """Ends all steps, and returns when all were handed over."""
        with self._changed:
            self._end(lambda each: True)
        self._deliver()
        with self._changed:
            if self._deliverer != threading.get_ident():
                self._changed.wait_for(lambda: self._deliverer is None)

    def stats(self) -> BufferStats:
        """Returns what went wrong so far."""
        with self._changed:
            return BufferStats(
                dict(self._not_finite),
                dict(self._failed),
                self._early,
                self._dropped,
                self._sink_errors,
            )

    def _end(self, chosen: Callable[[tuple[int, str]], bool]) -> None:
        for key in sorted(filter(chosen, self._open)):
            if len(self._ended) == _WAITING_STEPS:
                self._ended.popleft()
                self._dropped += 1
            self._ended.append(self._open.pop(key))
            del self._additions[key]

    def _end_early(self, key: tuple[int, str]) -> None:
        self._early += 1
        self._end(lambda each: each == key)

    def _deliver(self) -> None:
        """Hands over what has ended. A thread that is at it already does it all."""
        with self._changed:
            if self._deliverer is not None:
                return
            self._deliverer = threading.get_ident()
        try:
            while (buffer := self._next_ended()) is not None:
                self._hand_over(buffer)
        except BaseException:  # Ctrl-C, from within the sink
            self._stop_delivering()
            raise

    def _next_ended(self) -> MetricsBuffer | None:
        with self._changed:
            if self._ended:
                return self._ended.popleft()
            # In the same breath: what ends from now on finds nobody delivering.
            self._stop_delivering()
            return None

    def _stop_delivering(self) -> None:
        with self._changed:
            self._deliverer = None
            self._changed.notify_all()

    def _hand_over(self, buffer: MetricsBuffer) -> None:
        scalars: list[tuple[str, Any]] = []
        texts: dict[str, list[str]] = {}
        for name, (values, aggregation) in buffer.metrics.items():
            try:
                found = _texts(values)
                if found is not None:
                    texts[name] = found
                    continue
                points = _aggregated(values, aggregation)
            except Exception as error:
                self._note_failure(name, buffer.global_steps, error)
                continue
            for point in points:
                scalars.append((name, point))
                if not np.isfinite(point).all():
                    self._note_not_finite(name, buffer, point)
        done = StepMetrics(buffer.global_steps, buffer.mode, tuple(scalars), texts)
        try:
            self._sink(done)
        except Exception as error:
            with self._changed:
                self._sink_errors += 1
            self._log.say("sink", "a sink of metrics raised", exc=error)

    def _note_failure(self, name: str, step: int, error: Exception) -> None:
        with self._changed:
            self._failed[name] += 1
        self._log.say(
            f"failed {name}",
            f"metric {name!r} of step {step} cannot be aggregated and is left out",
            exc=error,
        )

    def _note_not_finite(self, name: str, buffer: MetricsBuffer, value: Any) -> None:
        with self._changed:
            self._not_finite[name] += 1
        self._log.say(
            f"not finite {name}",
            f"metric {name!r} is {value} at {buffer.mode} step {buffer.global_steps}",
        )


_buffers: weakref.WeakSet[StepBuffer] = weakref.WeakSet()


def _begin_all_anew() -> None:
    for buffer in list(_buffers):
        buffer._begin_anew()


os.register_at_fork(after_in_child=_begin_all_anew)


def _put(
    metrics: Mapping[str, Entry],
    buffer: MetricsBuffer,
    wrong: list[tuple[str, Exception]],
) -> None:
    """Adds to an open step.

    Args:
        metrics: What to add.
        buffer: The step.
        wrong: Given the names of what is no pair of value and function.
    """
    for name, entry in metrics.items():
        try:
            value, aggregation = entry
        except (TypeError, ValueError) as error:
            wrong.append((name, error))
            continue
        if isinstance(value, np.ndarray):
            value = value.copy()
        buffer.metrics.setdefault(name, ([], aggregation))[0].append(value)


def _texts(values: list[Any]) -> list[str] | None:
    """All texts among some values, or None if the first is a number."""
    found: list[str] = []
    for value in values:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list | tuple) or (
            isinstance(value, np.ndarray) and value.dtype.kind in "OU"
        ):
            flat = np.asarray(value, dtype=object).ravel().tolist()
            if not all(isinstance(each, str) for each in flat):
                return None
            found += flat
        else:
            return None
    return found


def _aggregated(values: list[Any], aggregation: Aggregation | None) -> list[Any]:
    """The points that the values of a metric make: one, or each without a function."""
    arrays = [numbers(value) for value in values]
    if aggregation is None:
        return [_point(array) for array in arrays]
    if len({array.shape for array in arrays}) == 1:
        together = np.stack(arrays)
    else:  # Micro-batches of different sizes: a value each of whatever there is.
        together = np.concatenate([array.ravel() for array in arrays])
    if not together.size:
        return []
    with np.errstate(all="ignore"):
        return [_point(numbers(aggregation(together)))]


def _point(array: Array) -> Any:
    return np.float64(array) if array.ndim == 0 else array
