"""Locks of the system on files whose names may be given to other files.

Such a lock belongs to an open file, and vanishes with the process that holds it. Whoever has locked a file must look
whether it is still the one of that name: it may have been removed or replaced between opening and locking.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

_LOOK_S = 0.02
_TRIES = 100


def try_lock(path: Path) -> int | None:
    """Return a descriptor of the locked file, which is created if need be; None: another one holds the lock.

    Raises:
        OSError: The file cannot be opened or locked.
    """
    for _ in range(_TRIES):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(fd, path):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    return None


def wait_for_lock(path: Path, longest_s: float) -> int | None:
    """Return a descriptor of the locked file once the lock is free; None: it was not for so long.

    Raises:
        OSError: The file cannot be opened or locked.
    """
    end = time.monotonic() + longest_s
    while (fd := try_lock(path)) is None and time.monotonic() < end:
        time.sleep(_LOOK_S)
    return fd


def is_shared(path: Path) -> bool:
    """Return whether a file could be locked together with whoever holds its lock."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def is_at(fd: int, path: Path) -> bool:
    """Return whether an open file is the one of this name."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def remove_locked(fd: int, path: Path) -> None:
    """Remove a file whose lock is held, and close it."""
    try:
        if is_at(fd, path):
            with contextlib.suppress(OSError):
                path.unlink()
    finally:
        os.close(fd)
