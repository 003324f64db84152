"""Slack: errors and results to a channel, through slack-sdk."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlparse

import numpy as np

from perf.loggers.config import ConfigError
from perf.loggers.filters import is_main_process
from perf.loggers.values import format_metrics

__all__ = ["SlackBackend"]


class SlackBackend:
    """Posts errors and results to an incoming webhook; metrics are not sent.

    Args:
        webhook_url: of the webhook. It is a secret.
        channel: to be named in the message; the webhook itself decides.
        error_notifications: whether lines at level ERROR and above are sent.
        completion_notifications: whether results are sent.
        timeout_s: for one request. Refused for too many, or by a failing server, it is
            made again, once.
    """

    def __init__(
        self,
        webhook_url: str,
        channel: str = "",
        error_notifications: bool = True,
        completion_notifications: bool = True,
        timeout_s: int = 10,
    ) -> None:
        if urlparse(webhook_url).scheme not in ("http", "https"):
            raise ConfigError("slack.webhook_url", "an address with http(s)", "a text")
        self._channel = channel
        self._errors = error_notifications
        self._results = completion_notifications
        self.secrets = (webhook_url, urlparse(webhook_url).path)
        self.stall_timeout_s = 2 * timeout_s + 1.0
        self._client: Any = None
        if is_main_process():
            from slack_sdk.http_retry.builtin_handlers import (
                RateLimitErrorRetryHandler,
                ServerErrorRetryHandler,
            )
            from slack_sdk.webhook import WebhookClient

            # Its own logger shows the address and what is sent, at DEBUG.
            silent = logging.Logger("slack", logging.CRITICAL + 1)
            self._client = WebhookClient(
                webhook_url,
                timeout=timeout_s,
                logger=silent,
                retry_handlers=[
                    RateLimitErrorRetryHandler(max_retry_count=1),
                    ServerErrorRetryHandler(max_retry_count=1),
                ],
            )

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Sends nothing."""

    def log_result(self, results: Mapping[str, Any], **kwargs: Any) -> None:
        """Sends results."""
        if self._results:
            values = format_metrics(results).items()
            lines = "\n".join(f"• {name}: {value}" for name, value in values)
            self._send(f":white_check_mark: Results\n{lines}")

    def notify(self, message: str, level: int) -> None:
        """Sends a line, if it is an error."""
        if self._errors and level >= logging.ERROR:
            self._send(f":rotating_light: {logging.getLevelName(level)}: {message}")

    def close(self) -> None:
        """Sends nothing any more."""
        self._client = None

    def _send(self, text: str) -> None:
        if self._client is None:
            return
        prefix = f"{self._channel}: " if self._channel else ""
        response = self._client.send(text=f"{prefix}{text}")
        if response.status_code != 200:
            raise ConnectionError(f"Slack answered {response.status_code}")
