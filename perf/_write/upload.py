"""Parts of a trace on their way to a remote folder.

A part is a file that is complete. It lies in a folder of this machine, the spool, until
it is there; what a process leaves behind in the spool, the next one that writes to the
same remote folder takes over.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import re
import socket
import stat
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from perf._model.log import OnceLog
from perf._write.files import MB, Disk, is_there

SPOOL_VARIABLE: Final = "RLPERF_SPOOL_DIR"
"""Environment variable: where parts wait for their upload."""
_FIRST_PAUSE_S: Final = 1.0
"""After an upload that failed; each further one doubles it."""
_MAX_PAUSE_S: Final = 60.0
_MAX_TRIES: Final = 10
"""To lock a folder: there are file systems without locks."""


def as_url(folder: str | os.PathLike[str]) -> str | None:
    """A folder as a URL; None if it is a local one."""
    text = os.fspath(folder)
    # Two letters at least: one would be a drive of Windows. One slash is enough: that
    # is what pathlib makes of two.
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+", text)
    return f"{found[1]}://{text[found.end() :]}" if found else None


class Remote(Protocol):
    """A remote folder."""

    def reach(self) -> None:
        """Raises if it cannot be reached."""

    def put(self, part: Path) -> None:
        """Copies a file there, over one of that name. Raises if that fails."""


def remote_folder(url: str) -> Remote:
    """A folder of any kind that `etils.epath` knows.

    Raises:
        ValueError: it knows no such kind, or is not installed.
    """
    try:
        from etils import epath
    except ImportError as error:
        raise ValueError(
            f"trace folder {url!r}: {error}; remote folders need rlperf[remote]"
        ) from None
    try:
        return _Epath(epath.Path(url))
    except KeyError as error:
        raise ValueError(
            f"trace folder {url!r}: etils.epath knows no {error}; it knows gs://, "
            "s3:// and what is registered with it (epath.register_path_cls)"
        ) from None


class _Epath:
    def __init__(self, folder: Any) -> None:
        self._folder = folder

    def reach(self) -> None:
        # Whether there is anything in it does not matter.
        self._folder.exists()

    def put(self, part: Path) -> None:
        with part.open("rb") as source:
            with (self._folder / part.name).open("wb") as target:
                while block := source.read(MB):
                    target.write(block)


class Spool:
    """The local folder of one writer in which parts for a remote folder wait.

    A lock on the folder says that its owner lives: it ends with the process, however
    that ends.
    """

    def __init__(self, url: str) -> None:
        default = Path(tempfile.gettempdir(), f"rlperf-spool-{os.getuid()}")
        readable = re.sub(r"[^\w.-]+", "-", url)[:80]
        unique = hashlib.blake2b(url.encode(), digest_size=4).hexdigest()
        given = os.environ.get(SPOOL_VARIABLE)
        root = Path(given or default)
        self._guarded = None if given else root
        """Everybody knows its name and may make it, in a folder of everybody's."""
        self.is_private = True
        """Whether it is this user's, as far as is known."""
        self._shared = root / f"{readable}-{unique}"
        """Of all processes of this machine that write to the same remote folder."""
        # Host and number say whose it is; only chance makes it no other's: a container
        # that starts again has the same of both, and finds its volume as it left it.
        name = f"{socket.gethostname()}_{os.getpid()}_{os.urandom(4).hex()}"
        self.folder = self._shared / name
        self._is_owned = False
        self._lock: int | None = None
        """None while it is owned: a file system without locks."""

    def own(self) -> None:
        """Makes the folder; until `release` nobody takes it over.

        Raises:
            OSError: it cannot be made.
        """
        if self._is_owned:
            return
        if self._guarded is not None:
            self.is_private = _made_private(self._guarded)
        for _ in range(_MAX_TRIES):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._is_owned = True
            self._lock = _locked(self.folder)
            if self._lock is not None:
                return
            # Somebody asks just now whether its owner lives, with the lock in hand.
            time.sleep(0.001)  # mutate: ok any time of this size

    def left_behind(self) -> tuple[list[Path], OSError | None]:
        """Takes over the parts of processes that live no more.

        Returns:
            (parts, error): those that are here now, oldest first, and why there may be
            more: a folder cannot be read or written.
        """
        found: list[Path] = []
        failed: OSError | None = None
        for folder in self._shared.glob("*"):
            lock = _locked(folder)
            if lock is not None:
                try:
                    found.extend(
                        part.rename(self.folder / part.name)
                        for part in folder.iterdir()
                    )
                    folder.rmdir()
                except OSError as error:
                    failed = error
                finally:
                    os.close(lock)
        return sorted(found), failed

    def release(self) -> None:
        """Lets go of the folder, and removes it if it is empty."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        self.forget()

    def forget(self) -> None:
        """After a fork: the lock is the parent's, which still holds it."""
        self._is_owned = False
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _made_private(folder: Path) -> bool:
    """Makes a folder that nobody else may look into; False if it is somebody else's."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        return False
    folder.chmod(0o700)
    return True


def _locked(folder: Path) -> int | None:
    """A lock on a folder, as a file descriptor; None if somebody else has it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it before may have removed the folder.
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    os.close(descriptor)
    return None


class Uploads:
    """Uploads one writer's parts, off its thread, until they are there.

    Args:
        url: the remote folder.
        remote: likewise.
        wait_s: how long `settle` waits at most, all calls together.
        disk: keeps account of the parts that wait.
    """

    def __init__(self, url: str, remote: Remote, wait_s: float, disk: Disk) -> None:
        self.uploaded = 0
        """Parts that are in the remote folder."""
        self.failures = 0
        """Attempts that failed."""
        self.last_error = ""
        self.own_ns = 0
        """Processor time of the uploading thread."""
        self._url = url
        self._remote = remote
        self._disk = disk
        self._log = OnceLog()
        self._spool = Spool(url)
        self._state = threading.Condition()
        """Held while nothing is done but reading and writing what follows."""
        self._waiting: deque[Path] = deque()
        """Oldest first; the first is being uploaded."""
        self._thread: threading.Thread | None = None
        self._ends = False
        """Whether no further parts come."""
        self._in_a_hurry = False
        self._patience_s = wait_s
        self._asked_s = 0.0  # mutate: ok nobody settles before finishing
        """When `finish` was called."""

    @property
    def folder(self) -> Path:
        """Where parts are to be written."""
        return self._spool.folder

    @property
    def waiting(self) -> tuple[Path, ...]:
        """Parts that are complete and not yet uploaded; oldest first."""
        with self._state:
            return tuple(self._waiting)

    def start(self) -> None:
        """Takes the local folder, and looks after what waits there. Never raises."""
        with self._state:
            with contextlib.suppress(OSError):  # as writing to it will tell
                self._spool.own()
            if not self._spool.is_private:
                self._log.say(
                    "spool",
                    f"{self.folder.parent.parent} is another user's, who may read what "
                    f"waits there: name another folder in {SPOOL_VARIABLE}",
                )
            if self._thread is not None:
                return
            # A daemon: an upload may hang, and the interpreter would wait for it at
            # exit. Begun early: at the interpreter's exit none can be started any more.
            self._thread = threading.Thread(
                target=self._run, name="perf-upload", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError:  # too many; the parts stay where they are
                self._thread = None

    def put(self, part: Path) -> None:
        """Uploads a part when those before it are uploaded. Returns at once."""
        with self._state:
            self._waiting.append(part)
            self._state.notify_all()

    def drop(self, parts: Iterable[Path]) -> None:
        """Some that wait were deleted, to make room."""
        with self._state:
            for part in parts:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(part)

    def finish(self, *, for_ever: bool) -> None:
        """What waits is wanted soon. Returns at once.

        Args:
            for_ever: whether no further parts come.
        """
        with self._state:
            self._asked_s = time.monotonic()
            self._ends = for_ever
            self._in_a_hurry = True
            self._state.notify_all()

    def settle(self) -> bool:
        """After `finish`: waits for the uploads, as long as there is patience.

        Returns:
            Whether all parts are uploaded. If not, a log line says where they are.
        """
        with self._state:
            left_s = self._asked_s + self._patience_s - time.monotonic()
            self._state.wait_for(lambda: not self._waiting, max(0.0, left_s))
            taken_s = time.monotonic() - self._asked_s
            self._patience_s = max(0.0, self._patience_s - taken_s)
            waiting = len(self._waiting)
            if self._ends and not waiting:
                self._spool.release()
        if waiting:
            self._log.say(
                "left",
                f"{waiting} trace files were not uploaded to {self._url} in time: they "
                f"stay in {self.folder}. The next process here that writes to that "
                "folder uploads them; or copy them there by hand.",
            )
        return not waiting

    def forget(self) -> None:
        """After a fork: the child lets go of its copy of the parent's lock."""
        self._spool.forget()

    # -- the thread --------------------------------------------------------------------

    def _run(self) -> None:
        self._take_over()
        # So that a folder that cannot be reached is known now, not with the first part.
        # It has connections and helper threads made, too, which is no longer possible
        # at the interpreter's exit.
        try:
            self._remote.reach()
        except Exception as error:
            self._failed(error, "cannot be reached")
        pause_s = _FIRST_PAUSE_S
        while (part := self._next()) is not None:
            if self._uploaded(part):
                pause_s = _FIRST_PAUSE_S
                continue
            # Not all hosts of a run at the same moment.
            some_s = pause_s * random.uniform(0.5, 1)
            with self._state:
                hurries = self._state.wait_for(lambda: self._in_a_hurry, some_s)
                self._in_a_hurry = False
            pause_s = _FIRST_PAUSE_S if hurries else min(2 * pause_s, _MAX_PAUSE_S)

    def _take_over(self) -> None:
        parts, error = self._spool.left_behind()
        if error is not None:
            self._log.say("left-behind", f"what others left in the spool: {error}")
        for part in parts:
            with contextlib.suppress(OSError):  # if it is gone, its upload will tell
                self._disk.grow(part, part.stat().st_size)
                self._disk.close(part)
        with self._state:
            self._waiting.extendleft(reversed(parts))

    def _next(self) -> Path | None:
        """The part to be uploaded; None if no more come, and the thread is to end."""
        with self._state:
            self._state.wait_for(lambda: self._waiting or self._ends)
            if self._waiting:
                return self._waiting[0]
            self._spool.release()
            return None

    def _uploaded(self, part: Path) -> bool:
        begin_ns = time.thread_time_ns()
        try:
            self._remote.put(part)
        except Exception as error:
            if is_there(part):
                self._failed(error, f"{part.name} was not uploaded")
                return False
        else:
            self.uploaded += 1
            with contextlib.suppress(OSError):
                part.unlink()
        finally:
            self.own_ns += time.thread_time_ns() - begin_ns
        self._disk.forget(part)
        with self._state:
            with contextlib.suppress(ValueError):  # deleted to make room
                self._waiting.remove(part)
            self._state.notify_all()
        return True

    def _failed(self, error: Exception, what: str) -> None:
        self.failures += 1
        self.last_error = f"{type(error).__name__}: {error}"
        self._log.say(
            f"upload-{type(error).__name__}",
            f"remote trace folder {self._url}: {what}: {self.last_error}. Traces wait "
            f"in {self.folder}, and uploading is tried again.",
        )
