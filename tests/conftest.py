"""What holds for every test: where JAX runs, and how hypothesis draws."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

# Read by JAX once, when it first looks for devices. Eight of them, so that rollout,
# actor and reference can have meshes of their own.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
# It would attach a writer to every tracer that a test makes.
os.environ.pop("RLPERF_DIR", None)

# A shell has what it starts in the background ignore Ctrl-C, and programs that tests
# start and interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: how long an example takes says something about the machine only. The
# same examples in every automatic run, so that a red one can be looked at.
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(autouse=True, scope="session")
def _nobody_watches_the_interpreters_lock() -> None:
    """What else goes on in the process of the tests is not to be in their files."""
    from perf._write.background import worker
    from perf._write.lock_watch import LockWatch

    worker().lock_watch = LockWatch(look=lambda trainer: None)
