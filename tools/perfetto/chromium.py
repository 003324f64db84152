"""A headless Chromium for one page, steered by its DevTools protocol over two pipes.

The pipes spare a WebSocket client: the protocol is JSON messages that end in a NUL.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Final, Self, cast

NAMES: Final = (
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
)
"""Programs that will do, the lightest first."""

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # Root in a container has none, and the only page is our own.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",  # /dev/shm is tiny in most containers.
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    # Nothing outside is asked, so nothing outside can be waited for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)

# Chromium reads its file 3 and writes its file 4. A shell can arrange that without code
# of ours between fork and exec, and its `exec` makes the child Chromium itself.
_TO_FILES_3_AND_4: Final = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null'

_STDERR_SHOWN: Final = 2000
"""How many of the last characters that Chromium printed go into an error."""


class ChromiumError(Exception):
    """The browser is missing, gone or late, or the script in its page failed."""


def find() -> str | None:
    """Returns the path of a browser that will do, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """A context manager: a browser with one empty page, ended on the way out.

    Args:
        width: of the page, in CSS pixels.
        height: likewise.
        scale: pixels of a picture per CSS pixel.
        timeout_s: from now until the last answer.

    Raises:
        ChromiumError: there is no browser; it ended; time is up.
    """

    def __init__(
        self, *, width: int, height: int, scale: float = 1.0, timeout_s: float
    ) -> None:
        program = find()
        if program is None:
            raise ChromiumError(
                f"no Chromium found on the PATH (looked for {', '.join(NAMES)}):"
                " install one, on Debian `apt-get install chromium-headless-shell`"
            )
        self._deadline_s = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self._received = bytearray()
        # Its children may still write there while the folder is removed.
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._stderr = Path(self._profile.name, "stderr")
        flags = *_FLAGS, f"--user-data-dir={self._profile.name}"
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _TO_FILES_3_AND_4, program, *flags, "about:blank"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                start_new_session=True,  # A group of its own, to be ended as one.
            )
        try:
            self._open_page(width, height, scale)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser and everything it started, and removes its profile."""
        # Not yet waited for, so the number still belongs to it.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            cast(IO[bytes], pipe).close()
        self._profile.cleanup()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Calls a method of the DevTools protocol and returns its result."""
        number = next(self._numbers)
        call = {"id": number, "method": method, "params": params, **self._session}
        try:
            cast(IO[bytes], self._process.stdin).write(
                json.dumps(call).encode() + b"\0"
            )
        except BrokenPipeError:
            raise self._error(f"Chromium is gone before {method}") from None
        while (answer := self._receive(method)).get("id") != number:
            pass  # An event: none is subscribed to that matters here.
        if "error" in answer:
            raise self._error(f"{method}: {answer['error']['message']}")
        return cast(dict[str, Any], answer["result"])

    def evaluate(self, script: str) -> Any:  # Any: whatever the script returns.
        """Returns what a JavaScript expression gives in the page, a promise awaited."""
        outcome = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in outcome:
            thrown = outcome["exceptionDetails"].get("exception", {})
            said = thrown.get("description") or thrown.get("value")
            raise ChromiumError(f"the page threw {said}")
        return outcome["result"].get("value")

    def _open_page(self, width: int, height: int, scale: float) -> None:
        target = self.call("Target.createTarget", url="about:blank")
        attached = self.call("Target.attachToTarget", flatten=True, **target)
        self._session = {"sessionId": attached["sessionId"]}
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def _receive(self, method: str) -> dict[str, Any]:
        pipe = cast(IO[bytes], self._process.stdout).fileno()
        while (end := self._received.find(b"\0")) < 0:
            left_s = max(0.0, self._deadline_s - time.monotonic())
            if not select.select([pipe], [], [], left_s)[0]:
                raise self._error(f"no answer to {method} within {self._timeout_s:g} s")
            data = os.read(pipe, 1 << 20)
            if not data:
                raise self._error(f"Chromium ended during {method}")
            self._received += data
        message = json.loads(self._received[:end])
        del self._received[: end + 1]
        return cast(dict[str, Any], message)

    def _error(self, what: str) -> ChromiumError:
        printed = self._stderr.read_text(errors="replace")[-_STDERR_SHOWN:]
        return ChromiumError(f"{what}; Chromium printed:\n{printed}")
