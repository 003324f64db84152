"""No service is to be reached from a test, and no file to be left behind."""

from tests.loggers.conftest import _alone

__all__ = ["_alone"]
