"""Webhooks: errors and results as JSON to a URL."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlparse

import numpy as np

from perf.loggers.backends.jsonl import plain
from perf.loggers.config import ConfigError
from perf.loggers.filters import is_main_process

__all__ = ["WebhookBackend"]


class WebhookBackend:
    """Posts errors and results; neither metrics nor lines below ERROR are sent.

    The body is `{"text": …, "level": …}` for a line of text, and `{"text": …,
    "results": {…}, "step": …}` for results.

    Args:
        url: where to. It counts as a secret, like the headers.
        headers: more headers, such as `Authorization`.
        results: whether results are sent.
        timeout_s: for one request.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        results: bool = True,
        timeout_s: float = 10.0,
    ) -> None:
        if urlparse(url).scheme not in ("http", "https"):
            raise ConfigError("webhook.url", "an address with http(s)", "another text")
        self._url = url
        # YAML reads `X-Api-Version: 1.5` as a number.
        own = {name: str(value) for name, value in (headers or {}).items()}
        self._headers = {"Content-Type": "application/json", **own}
        self._results = results
        self._timeout_s = timeout_s
        self.stall_timeout_s = timeout_s + 1
        self._active = is_main_process()
        self.secrets = (url, urlparse(url).path, *own.values())

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Sends nothing."""

    def log_result(self, results: Mapping[str, Any], **kwargs: Any) -> None:
        """Sends results."""
        if self._results:
            values = {name: plain(value) for name, value in results.items()}
            text = ", ".join(f"{name}: {value}" for name, value in values.items())
            self._post({"text": text, "results": values, **kwargs})

    def notify(self, message: str, level: int) -> None:
        """Sends a line, if it is an error."""
        if level >= logging.ERROR:
            self._post({"text": message, "level": logging.getLevelName(level)})

    def close(self) -> None:
        """Sends nothing any more."""
        self._active = False

    def _post(self, body: Mapping[str, Any]) -> None:
        if not self._active:
            return
        request = urllib.request.Request(
            self._url, json.dumps(body).encode(), self._headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                response.read()
        except urllib.error.HTTPError as error:
            status = error.code
            error.close()
            # Its own text, and those of its causes, would tell the address.
            raise ConnectionError(f"the webhook answered {status}") from None
