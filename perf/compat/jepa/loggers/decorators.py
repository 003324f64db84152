"""`jepa.loggers.decorators`: functions that log when they are called.

They can be put one on the other, on functions, coroutines and generators.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from perf.compat.jepa.loggers.base_logger import BaseLogger
from perf.loggers.redaction import error_line

__all__ = ["log_exceptions", "log_execution_time", "log_function_calls"]

F = TypeVar("F", bound=Callable[..., Any])
Say = Callable[[str, float, str, int], None]
"""Logs a metric and a line of text of a level, about the function."""


def log_execution_time(logger: BaseLogger | logging.Logger) -> Callable[[F], F]:
    """Logs the metric `<function>/execution_time_s` and a line for each call.

    Args:
        logger: one of `jepa.loggers`; one of `logging` gets the line alone.
    """

    @contextlib.contextmanager
    def around(say: Say, count: int) -> Iterator[None]:
        begin_s = time.perf_counter()
        try:
            yield
        finally:
            took_s = time.perf_counter() - begin_s
            say("execution_time_s", took_s, f"took {took_s:.6f} s", logging.INFO)

    return _decorator(logger, around)


def log_exceptions(logger: BaseLogger | logging.Logger) -> Callable[[F], F]:
    """Logs what a function raises, which is raised all the same."""

    @contextlib.contextmanager
    def around(say: Say, count: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            say("exceptions", 1.0, f"raised {error_line(error)}", logging.ERROR)
            raise

    return _decorator(logger, around)


def log_function_calls(logger: BaseLogger | logging.Logger) -> Callable[[F], F]:
    """Logs each call of a function and which it is; not what it is called with."""

    @contextlib.contextmanager
    def around(say: Say, count: int) -> Iterator[None]:
        say("calls", count, f"is called: call {count}", logging.INFO)
        yield

    return _decorator(logger, around)


def _decorator(
    logger: BaseLogger | logging.Logger,
    around: Callable[[Say, int], AbstractContextManager[None]],
) -> Callable[[F], F]:
    """A decorator that has each call of a function run in a context of its own."""
    lines = logger.logger if isinstance(logger, BaseLogger) else logger

    def decorate(function: F) -> F:
        name, counter = function.__name__, itertools.count(1)

        def say(metric: str, value: float, line: str, level: int) -> None:
            lines.log(level, "%s %s", name, line)
            if isinstance(logger, BaseLogger):
                try:
                    logger.log_metrics({f"{name}/{metric}": value})
                except Exception as error:  # of somebody's own logger
                    lines.warning("%s is not logged: %s", metric, error_line(error))

        async def run_async(*args: Any, **kwargs: Any) -> Any:
            with around(say, next(counter)):
                return await function(*args, **kwargs)

        def run_generator(*args: Any, **kwargs: Any) -> Any:
            with around(say, next(counter)):
                return (yield from function(*args, **kwargs))

        def run(*args: Any, **kwargs: Any) -> Any:
            with around(say, next(counter)):
                return function(*args, **kwargs)

        wrapper: Callable[..., Any] = run
        if inspect.iscoroutinefunction(function):
            wrapper = run_async
        elif inspect.isgeneratorfunction(function):
            wrapper = run_generator
        return functools.wraps(function)(wrapper)  # type: ignore[return-value]

    return decorate
