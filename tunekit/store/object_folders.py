"""Local folders of one process that uploads from them and downloads into them.

They lie in a folder of the process in the system's temporary folder (``TMPDIR``), which is removed when the process
ends. One that was killed leaves its folder behind; the next process that needs one removes it. A process says that it
lives by a lock that the operating system takes away from the dead.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PREFIX = "tunekit-objects-"
_LOCK = ".lock"
KEPT = 16
"""Downloaded folders that stay for those who read from them; of more, the oldest go."""


class LocalFolders:
    """The folders of this process.

    Args:
        parent: Where to make them; None: the system's temporary folder.
    """

    def __init__(self, parent: Path | None = None) -> None:
        """Make nothing yet."""
        self._parent = parent
        self._own: tuple[int, Path, int] | None = None
        self._lock = threading.RLock()
        self._downloads: deque[Path] = deque()
        self.scratch: dict[str, Path] = {}
        """The folder that user code writes into, by the full place that it is staged for."""
        self.uploaded: set[str] = set()
        """The full places that this process has uploaded to, or has begun to."""

    def new(self) -> Path:
        """Return a new, empty folder."""
        with self._lock:
            return Path(tempfile.mkdtemp(dir=self._root()))

    def downloaded(self, fill: Callable[[Path], None]) -> Path:
        """Return a new folder after it was filled.

        Whoever needs it no more may remove it. Otherwise it goes when ``KEPT`` others have come after it, or when the
        process ends.
        """
        path = self.new()
        try:
            fill(path)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        with self._lock:
            self._downloads.append(path)
            gone = [self._downloads.popleft() for _ in range(len(self._downloads) - KEPT)]
        for each in gone:
            shutil.rmtree(each, ignore_errors=True)
        return path

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            own, self._own = self._own, None
            self._downloads.clear()
            self.scratch.clear()
            if own is None or own[0] != os.getpid():
                return  # a forked child must not tidy up after its parent
            with suppress(OSError):
                _remove(own[1])
            os.close(own[2])

    def _root(self) -> Path:
        if self._own is None or self._own[0] != os.getpid():
            parent = self._parent or Path(tempfile.gettempdir())
            _remove_dead(parent)
            self._own = (os.getpid(), *_made(parent))
            atexit.register(self.close)
        return self._own[1]


def _made(parent: Path) -> tuple[Path, int]:
    """Return a new folder, and what holds the lock on it.

    Another process that looks for what the dead have left may see the folder before it is locked, and remove it. Once
    it is locked and still there, nobody does.
    """
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        held = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        if (path / _LOCK).exists():
            return path, held
        os.close(held)


def _remove_dead(parent: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody else's, or being made or removed at this very moment
            held = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
            finally:
                os.close(held)


def _remove(folder: Path) -> None:
    """Remove a folder, and its lock last: without it nobody would find out that the rest is nobody's."""
    for entry in folder.iterdir():
        if entry.name != _LOCK:
            shutil.rmtree(entry, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


FOLDERS = LocalFolders()
"""Those of this process."""
