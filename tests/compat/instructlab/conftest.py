"""No service is to be reached from a test, and no file to be left behind."""

from __future__ import annotations

import sys

import pytest

from tests.loggers.conftest import _alone

__all__ = ["_alone"]


@pytest.fixture(autouse=True)
def _forgetful(_alone: None) -> None:
    """W&B would go on with the folder of the test before."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
