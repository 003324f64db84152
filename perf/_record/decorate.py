"""Spans as decorators, for every kind of function.

A generator shares the thread, and in asyncio the context, of whoever consumes it. Its
span therefore has to step aside at every `yield` and come back at every resumption, or
it would become the parent of what the consumer opens meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import Any

from perf._record.span import ROOT, Span


def traced(fn: Any, make_span: Callable[[], Any]) -> Any:
    """Wraps `fn` so that each call runs inside a new span.

    The span of a generator lasts from its first step to its end.

    Args:
        fn: a function, coroutine function, generator function or async generator
            function.
        make_span: makes the span of one call.
    """
    if inspect.isasyncgenfunction(fn):

        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            generator = fn(*args, **kwargs)
            with make_span() as span:
                scope = _Scope(span) if span else contextlib.nullcontext()
                step, value = generator.asend, None
                while True:
                    try:
                        with scope:
                            item = await step(value)
                    except StopAsyncIteration:
                        return
                    try:
                        step, value = generator.asend, (yield item)
                    except GeneratorExit:
                        with scope:
                            await generator.aclose()
                        raise
                    except BaseException as error:
                        step, value = generator.athrow, error

    elif inspect.isgeneratorfunction(fn):

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return (yield from _steps(fn(*args, **kwargs), make_span))

    elif inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with make_span():
                return await fn(*args, **kwargs)

    else:

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with make_span():
                return fn(*args, **kwargs)

    return wrapper


class _Scope:
    """While entered, the generator's innermost open span is the current one."""

    def __init__(self, span: Span) -> None:
        self._log = span._log
        self._task_span = span._tracer._task_span
        self._bottom = self._top = span
        # How it was opened decides how it is put aside: a span of a task is loose in
        # its thread and current in its context, any other is in the thread's chain.
        self._in_task = span.id in span._log.loose
        self._outer = span.parent
        self._suspend()

    def __enter__(self) -> None:
        if self._here():
            self._resume()

    def __exit__(self, *exc_info: object) -> None:
        if self._here():
            self._suspend()

    def _here(self) -> bool:
        # Resumed by another thread, its spans stay out of that thread's timeline.
        return self._bottom._tracer._own_log() is self._log

    def _resume(self) -> None:
        if self._in_task:
            self._outer = self._task_span.get() or ROOT
            self._task_span.set(self._top)
        else:
            self._outer = self._log.current
            for span in self._chain():
                self._log.loose.pop(span.id, None)
            self._log.current = self._top

    def _suspend(self) -> None:
        if self._in_task:
            self._top = self._task_span.get() or self._bottom
            self._task_span.set(None if self._outer is ROOT else self._outer)
        else:
            self._top = self._log.current
            for span in self._chain():
                self._log.loose[span.id] = span
            self._log.current = self._outer
            self._log.tangled = True

    def _chain(self) -> Iterator[Span]:
        span = self._top
        while span is not self._bottom and span is not ROOT:
            yield span
            span = span.parent
        yield self._bottom


def _steps(
    generator: Generator[Any, Any, Any], make_span: Callable[[], Any]
) -> Generator[Any, Any, Any]:
    with make_span() as span:
        if not span:
            return (yield from generator)
        scope = _Scope(span)
        step, value = generator.send, None
        while True:
            try:
                with scope:
                    item = step(value)
            except StopIteration as stop:
                return stop.value
            try:
                step, value = generator.send, (yield item)
            except GeneratorExit:
                with scope:
                    generator.close()
                raise
            except BaseException as error:
                step, value = generator.throw, error
