"""One driver at a time, and a number for each.

The lock is the system's own, on an open file: it vanishes with the process that holds it, however that process dies, so
there is never a stale one to remove. What is written in the file is only there to name the holder. The lock belongs to
the open file and not to the process; so that no child keeps it alive, programs started from here do not inherit it
(Python opens files so), and a forked child closes it.

A driver's *generation* counts the drivers that this experiment has had.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
import weakref
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from xxhash import xxh3_64_hexdigest

from tunekit.errors import ExperimentExistsError, JournalCorruptError, StorageError
from tunekit.journal.durable import make_folder, replace_file, write_all
from tunekit.journal.header import HEADER_NAME

LOCK_NAME = "driver.lock"
GENERATION_NAME = "driver.generation"


class _Holder(msgspec.Struct, frozen=True):
    pid: int
    host: str
    since: float
    """Unix seconds."""

    def __str__(self) -> str:
        return show_holder(self.pid, self.host, self.since)


def show_holder(pid: int, host: str, since: float) -> str:
    """Return what a person wants to know of a driver; ``since`` is in Unix seconds."""
    moment = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"process {pid} on {host}, since {moment}"


class DriverLock:
    """The right to be the driver of the experiment in one folder. A context manager that can be used again."""

    def __init__(self, folder: Path) -> None:
        """Only note the folder."""
        self._folder = folder
        self._fd: int | None = None
        self._generation = 0

    @property
    def generation(self) -> int:
        """Which driver of this experiment the holder is, counted from 1; 0 before the lock was first acquired."""
        return self._generation

    def acquire(self) -> int:
        """Take the lock, at once or not at all, and return the generation.

        Raises:
            ExperimentExistsError: Another driver holds it.
            StorageError: The folder cannot be used or cannot be locked.
            JournalCorruptError: The file with the generation is damaged.
        """
        try:
            make_folder(self._folder)
            self._fd = os.open(self._folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
            _held.add(self)
            self._lock(self._fd)
            self._generation = _next_generation(self._folder / GENERATION_NAME)
        except OSError as error:
            self.release()
            if isinstance(error, ExperimentExistsError | StorageError):
                raise
            raise StorageError(
                f"the experiment in {self._folder} could not be locked: {error}",
                hint="Choose a storage_path on a file system that this user may write to and that supports file locks.",
            ) from error
        except BaseException:
            self.release()
            raise
        return self._generation

    def release(self) -> None:
        """Give the lock back. Does nothing when it is not held."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            _held.discard(self)
            os.close(fd)

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read_holder(fd)
            raise ExperimentExistsError(
                f"another driver is running the experiment in {self._folder}: {holder or 'it has just started'}",
                hint="Wait until it ends, or end it: the lock is free as soon as its process is gone. "
                "To run beside it, give this sweep another name.",
                path=str(self._folder),
                pid=holder.pid if holder else None,
            ) from error
        os.ftruncate(fd, 0)
        write_all(fd, msgspec.json.encode(_Holder(os.getpid(), socket.gethostname(), time.time())) + b"\n")

    def __enter__(self) -> Self:
        """Acquire."""
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release."""
        self.release()


def folder_nonce(folder: Path) -> str:
    """Return a text that only this folder shows, and only while its present driver runs.

    A worker that finds another one, or none, at the driver's path sees another disk.

    Raises:
        StorageError: There is no experiment in the folder, or it cannot be read.
    """
    try:
        content = [(folder / name).read_bytes() for name in (HEADER_NAME, GENERATION_NAME, LOCK_NAME)]
    except OSError as error:
        message = f"there is no experiment in {folder}, as seen from {socket.gethostname()}: {error}"
        raise StorageError(message, hint="give a storage_path that every node of the cluster sees") from error
    return xxh3_64_hexdigest(b"\0".join(content))


def _read_holder(fd: int) -> _Holder | None:
    """Return who holds the lock; None while the holder is just writing that down."""
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=_Holder)
    return None


def _next_generation(path: Path) -> int:
    """Count one on, durably."""
    before = 0
    with contextlib.suppress(FileNotFoundError):
        before = _parse_generation(path, path.read_bytes())
    replace_file(path, _show_generation(before + 1))
    return before + 1


def _show_generation(generation: int) -> bytes:
    text = str(generation)
    return f"{text} {xxh3_64_hexdigest(text.encode())}\n".encode()


def _parse_generation(path: Path, content: bytes) -> int:
    number = content.split(b" ")[0]
    if not number.isdigit() or content != _show_generation(int(number)):
        raise JournalCorruptError(
            f"{path} is damaged: got {content[:60]!r}, but must be a number and its checksum",
            hint="Remove the file. Drivers are then counted from 1 again, which harms nothing when none is running.",
            path=str(path),
        )
    return int(number)


_held: weakref.WeakSet[DriverLock] = weakref.WeakSet()


def _release_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)
