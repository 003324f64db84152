"""What every backend has to do: one suite, for ours and for anybody's own."""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from perf.loggers.protocol import LoggingBackend
from perf.loggers.values import as_float

__all__ = ["backend_checks", "check_backend"]

Read = Callable[[], Mapping[tuple[str, int], float]]
"""What arrived: (name, step) to value."""


def check_backend(make: Callable[[], LoggingBackend], read: Read | None = None) -> None:
    """Checks that a backend can be used in a pipeline.

        def test_my_backend(tmp_path):
            check_backend(lambda: MyBackend(tmp_path / "metrics"))

    Args:
        make: makes a fresh backend; called several times, with others still open.
        read: what arrived where the backend writes to, for one more check: that
            scalars come out as they went in.

    Raises:
        AssertionError: with the fact that does not hold.
    """
    for check in backend_checks(make, read):
        check()


def backend_checks(
    make: Callable[[], LoggingBackend], read: Read | None = None
) -> Iterator[Callable[[], None]]:
    """The checks one by one; the docstring of each states its fact."""

    def has_the_two_methods() -> None:
        """It has `log_scalar(event, value, **kwargs)` and `close()`."""
        backend = make()
        assert isinstance(backend, LoggingBackend), type(backend)
        inspect.signature(backend.log_scalar).bind("loss", 0.5, step=1)
        inspect.signature(backend.close).bind()
        backend.close()

    def takes_every_kind_of_number() -> None:
        """Numbers of Python and arrays of one number are taken, NaN and inf too."""
        backend = make()
        for step, value in enumerate(_NUMBERS):
            backend.log_scalar("check/number", value, step=step)
        backend.close()

    def takes_every_name() -> None:
        """Slashes, spaces, dots and letters of any script are taken in a name."""
        backend = make()
        for name in ("a", "/a/b", "a b", "a.b-c_d", "größe/損失", "a" * 200):
            backend.log_scalar(name, 1.0, step=1)
        backend.close()

    def needs_no_step() -> None:
        """A value without a step is taken."""
        backend = make()
        backend.log_scalar("check/stepless", 1.0)
        backend.close()

    def goes_back_in_steps() -> None:
        """A step may be lower than the one before: parts of a run count alone."""
        backend = make()
        for step in (5, 3, 0, 7):
            backend.log_scalar("check/back", float(step), step=step)
        backend.close()

    def closes_twice() -> None:
        """A second `close` does nothing, and what comes after it raises nothing."""
        backend = make()
        backend.log_scalar("check/closed", 1.0, step=1)
        backend.close()
        backend.log_scalar("check/closed", 2.0, step=2)
        backend.close()

    def lives_beside_another() -> None:
        """Two at once do not disturb each other, whichever closes first."""
        one, other = make(), make()
        one.log_scalar("check/one", 1.0, step=1)
        other.log_scalar("check/other", 2.0, step=1)
        one.close()
        other.log_scalar("check/other", 3.0, step=2)
        other.close()

    def is_closed_by_another_thread() -> None:
        """It may be made, used and closed by different threads."""
        backend = make()
        errors: list[BaseException] = []

        def work() -> None:
            try:
                backend.log_scalar("check/thread", 1.0, step=1)
                backend.close()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not errors, errors

    def has_further_methods_of_the_known_shape() -> None:
        """What it has beside the two methods takes what a pipeline hands over."""
        backend: Any = make()
        image = np.zeros((4, 6, 3), np.uint8)
        for name, arguments in (
            ("log_metrics", ({"a": 1.0, "b": np.float32(2)},)),
            ("log_text", ("check/text", "two\nlines")),
            ("log_image", ("check/image", image)),
            ("log_image", ("check/batch", np.stack([image, image]))),
            ("log_histogram", ("check/histogram", np.arange(12.0).reshape(3, 4))),
            ("log_result", ({"accuracy": 0.5, "name": "best"},)),
        ):
            if method := getattr(backend, name, None):
                method(*arguments, step=1)
        for name, mapping in (
            ("log_hparams", {"lr": 1e-3, "batch": 8, "name": "a", "on": True}),
            ("log_tags", {"team": "rl"}),
        ):
            if method := getattr(backend, name, None):
                method(mapping)
        if flush := getattr(backend, "flush", None):
            flush()
        backend.close()

    def gives_back_what_it_took() -> None:
        """Scalars arrive under their name, at their step, with their value."""
        assert read is not None
        backend = make()
        sent = {("check/read", step): 0.5**step for step in range(10)}
        for (name, step), value in sent.items():
            backend.log_scalar(name, value, step=step)
        backend.close()
        found = read()
        assert sent == {
            key: as_float(value) for key, value in found.items() if key in sent
        }

    checks = (
        has_the_two_methods,
        takes_every_kind_of_number,
        takes_every_name,
        needs_no_step,
        goes_back_in_steps,
        closes_twice,
        lives_beside_another,
        is_closed_by_another_thread,
        has_further_methods_of_the_known_shape,
        gives_back_what_it_took,
    )
    yield from (checks if read is not None else checks[:-1])


_NUMBERS: Final[tuple[Any, ...]] = (
    0.5,
    3,
    True,
    -1e-30,
    math.nan,
    math.inf,
    -math.inf,
    np.float32(0.5),
    np.int64(7),
    np.asarray(0.5),
    np.asarray([0.5]),
)
