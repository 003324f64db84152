"""What trainings with google-tunix need to be tested."""

from __future__ import annotations

import importlib.util
from typing import Final

import pytest

NEEDS_TUNIX: Final = [
    pytest.mark.tunix,
    pytest.mark.filterwarnings("default::DeprecationWarning"),  # TensorBoard's own
    pytest.mark.skipif(
        any(
            importlib.util.find_spec(name) is None for name in ("tunix", "tensorboard")
        ),
        reason="google-tunix and tensorboard are not both installed: make test-tunix",
    ),
]
