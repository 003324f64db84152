"""Has JAX profile the devices when a step was unusual."""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import threading
import time
from pathlib import Path
from typing import Final, Self

from perf._model.log import OnceLog, logger
from perf._model.process import process_index
from perf._read.step_analysis import StepAnomaly
from perf._record.span import error_text

_BEGIN_S: Final = 5.0  # mutate: ok any time that a profiler needs
"""How long the training waits for a profile to begin, at most."""
_WRITE_S: Final = 30.0  # mutate: ok any time that a profiler needs
"""How long a program's end waits for one to be written, at most."""


class ProfileOnAnomaly:
    """Takes a device profile of what follows an unusual step: a hook for `on_anomaly`.

    The profile lies in `folder/step_<number of the step>`, of one process of several in
    `folder/step_<number>_process_<index>`; one log line says so. It has no calls of
    Python functions: these would slow the steps down. What fails is logged once and
    never raised. A profile that does not begin does not count; one that began does,
    even if it is lost. An anomaly starts none while one is taken, nor if one was being
    taken or written in the course of that step. JAX takes one profile at a time: while
    one is taken `jax.profiler.start_trace` raises.

    Args:
        folder: a local one; it is made.
        seconds: how long each profile lasts.
        at_most: how many are taken, over all.

    Raises:
        ValueError: one of the numbers is out of range.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, seconds: float = 10, at_most: int = 3
    ) -> None:
        if not 0 < seconds <= threading.TIMEOUT_MAX:
            raise ValueError(f"seconds={seconds!r}: expected more than 0")
        if at_most < 0:
            raise ValueError(f"at_most={at_most!r}: expected 0 or more")
        self._folder = Path(folder).absolute()
        self._seconds = seconds
        self._left = at_most
        self._ended_s = float("-inf")
        self._enough = threading.Event()
        # All of a profile is done there: a profiler that hangs holds up neither the
        # training nor its end, and a forked child, which has no such thread, cannot
        # stop its parent's. This first one is never started.
        self._thread = threading.Thread()
        self._log = OnceLog()

    def __call__(self, step: int, anomaly: StepAnomaly) -> None:
        """Starts a profile, unless there is a reason not to.

        Args:
            step: the number of the step, which has just ended.
            anomaly: what is unusual about it.
        """
        if self._left < 1 or self._thread.is_alive():
            return
        if time.monotonic() - anomaly.seconds < self._ended_s:
            return  # The step was slow because it was profiled.
        begun = threading.Event()
        self._thread = threading.Thread(
            target=self._take,
            args=(step, anomaly.text, begun),
            name="perf-device-profile",
            daemon=True,
        )
        try:
            self._thread.start()
        except RuntimeError as error:  # there are as many as the system allows
            self._failed(step, "was not taken", error)
        else:
            begun.wait(_BEGIN_S)  # The next step is in it from its beginning.

    def close(self) -> None:
        """Ends the profile that is being taken, and waits for it; takes no more."""
        self._left = 0
        if self._thread.is_alive():
            self._enough.set()
            self._thread.join(_WRITE_S)
            if self._thread.is_alive():
                self._log.say("close", "a device profile is not written yet: given up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _take(self, step: int, what: str, begun: threading.Event) -> None:
        index = process_index()
        # Two processes of one host would write the same file.
        own = "" if index is None else f"_process_{index}"
        folder = self._folder / f"step_{step}{own}"
        try:
            import jax.profiler

            # If it cannot write, JAX says so at the end, and starts no profile again.
            folder.mkdir(parents=True, exist_ok=True)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0
            jax.profiler.start_trace(folder, profiler_options=options)
        except Exception as error:
            self._failed(step, "was not taken", error)
            with contextlib.suppress(OSError):
                folder.rmdir()
            return
        finally:
            begun.set()
        self._left -= 1
        # Only now: hooks run in reverse, and JAX's own would end it under our hands.
        atexit.register(self.close)
        self._enough.wait(self._seconds)
        try:
            jax.profiler.stop_trace()
        except Exception as error:
            self._failed(step, "is lost", error)
        else:
            with contextlib.suppress(Exception):  # a handler's
                logger.warning(
                    "step %s: %s. A device profile of what followed: rlperf report "
                    "TRACE --device-profile %s",
                    step,
                    what,
                    shlex.quote(str(folder)),
                )
        finally:
            self._ended_s = time.monotonic()
            atexit.unregister(self.close)

    def _failed(self, step: int, what: str, error: Exception) -> None:
        self._log.say(
            f"profile-{type(error).__name__}",
            f"the device profile after step {step} {what}: {error_text(error)}",
            exc=error,
        )
