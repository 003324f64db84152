"""`jepa.loggers.decorators`: functions, coroutines and generators that log calls."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from perf.compat.jepa.loggers.base_logger import BaseLogger
from perf.loggers.redaction import error_line

__all__ = ["log_exceptions", "log_execution_time", "log_function_calls"]

F = TypeVar("F", bound=Callable[..., Any])
Say = Callable[[int, float, Any], "tuple[str, float, str] | None"]
"""From which call it was, its seconds and its error, to a metric, value and line."""


def log_execution_time(logger: BaseLogger) -> Callable[[F], F]:
    """Logs the metric `<function>/execution_time_s` and a line for each call."""
    return _logging(
        logger, lambda _, took_s, __: ("execution_time_s", took_s, f"took {took_s} s")
    )


def log_function_calls(logger: BaseLogger) -> Callable[[F], F]:
    """Logs how often a function was called; not what it was called with."""
    return _logging(
        logger, lambda count, *_: ("calls", count, f"was called: call {count}")
    )


def log_exceptions(logger: BaseLogger) -> Callable[[F], F]:
    """Logs what a function raises, which is raised all the same."""
    return _logging(
        logger,
        lambda _, __, error: (
            error and ("exceptions", 1.0, f"raised {error_line(error)}")
        ),
        logging.ERROR,
    )


def _logging(
    logger: BaseLogger, say: Say, level: int = logging.INFO
) -> Callable[[F], F]:
    """A decorator that has something said of each call of a function."""

    def decorate(function: F) -> F:
        inner = function.func if isinstance(function, functools.partial) else function
        name = getattr(inner, "__name__", type(inner).__name__)
        # An object that can be called is what its class has for that.
        called = inner if hasattr(inner, "__name__") else type(inner).__call__
        counter = itertools.count(1)

        @contextlib.contextmanager
        def call() -> Iterator[None]:
            begin_s, error = time.perf_counter(), None
            try:
                yield
            except Exception as raised:
                error = raised
                raise
            finally:
                said = say(next(counter), time.perf_counter() - begin_s, error)
                if said is not None:
                    logger.logger.log(level, "%s %s", name, said[2])
                    try:
                        logger.log_metrics({f"{name}/{said[0]}": said[1]})
                    except Exception as own:  # of somebody's own logger
                        logger.logger.warning("not logged: %s", error_line(own))

        async def run_async(*args: Any, **kwargs: Any) -> Any:
            with call():
                return await function(*args, **kwargs)

        async def run_async_generator(*args: Any, **kwargs: Any) -> Any:
            with call():
                generator = function(*args, **kwargs)
                step, value = generator.asend, None
                while True:
                    try:
                        item = await step(value)
                    except StopAsyncIteration:
                        return
                    try:
                        step, value = generator.asend, (yield item)
                    except GeneratorExit:
                        await generator.aclose()
                        raise
                    except BaseException as error:
                        step, value = generator.athrow, error

        def run_generator(*args: Any, **kwargs: Any) -> Any:
            with call():
                return (yield from function(*args, **kwargs))

        def run(*args: Any, **kwargs: Any) -> Any:
            with call():
                return function(*args, **kwargs)

        wrapper: Callable[..., Any] = run
        if inspect.iscoroutinefunction(called):
            wrapper = run_async
        elif inspect.isasyncgenfunction(called):
            wrapper = run_async_generator
        elif inspect.isgeneratorfunction(called):
            wrapper = run_generator
        # It has the parameters and results of the function, whatever they are.
        return functools.wraps(function)(wrapper)  # type: ignore[return-value]

    return decorate
