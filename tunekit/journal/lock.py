"""One driver at a time in a folder, and a number for each.

The lock is the system's own, on an open file: it vanishes with the process that holds it, however that process dies, so
there is never a stale one to remove. What is written in the file is there to name the holder. The lock belongs to
the open file and not to the process; so that no child keeps it alive, programs started from here do not inherit it
(Python opens files so), and a forked child closes it.

**Taking over.** No lock can be taken from a process that lives, or is stopped, or runs on another machine. So who takes
over locks a file of its own and gives it the name ``driver.lock``. From there on everybody else meets the new lock, and
the driver before finds a name in that file that is not its own: it looks before and after each commit, and acts upon no
commit after which it has not found its own name. So all that it ever acted upon was in the journal before the new
driver began to read. What it may still write goes into a file that has lost its name: see ``log``.

Before the file is given its new name, ``driver.takeover`` is created, which stays until the end of the journal is out
of reach of the driver before. A driver that dies in between leaves that to the next one.

**Opening.** An experiment is opened (its header compared and perhaps replaced, its journal's torn end cut off) under a
second lock, ``driver.opening``, and only after that can a driver be taken over. So these steps, which change files by
name, are never those of a driver that is no longer in charge, and two that take over come one after the other.

A driver's *generation* counts the drivers that this experiment has had.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import time
import weakref
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from xxhash import xxh3_64_hexdigest

from tunekit.errors import ExperimentExistsError, JournalCorruptError, StorageError, TunekitError
from tunekit.journal.durable import make_folder, replace_file, sync_folder, write_all
from tunekit.journal.flocks import is_at, is_shared, remove_locked, try_lock, wait_for_lock
from tunekit.journal.header import HEADER_NAME
from tunekit.journal.right import DriverRight
from tunekit.store.base import advice

LOCK_NAME = "driver.lock"
GENERATION_NAME = "driver.generation"
TAKEOVER_NAME = "driver.takeover"
OPENING_NAME = "driver.opening"
_OPENING_S = 30.0
"""Seconds to wait for a driver that is just opening the experiment."""
_TRIES = 3
_LOCKS_HINT = "choose a storage_path on a file system that this user may write to and that supports file locks"


class _Holder(msgspec.Struct, frozen=True):
    pid: int
    host: str
    since: float
    """Unix seconds."""
    token: str = ""
    """Unlike that of any other driver; empty for one that does not look whether it has been taken over."""

    def __str__(self) -> str:
        return show_holder(self.pid, self.host, self.since)


def show_holder(pid: int, host: str, since: float) -> str:
    """Return what a person wants to know of a driver; ``since`` is in Unix seconds."""
    moment = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"process {pid} on {host}, since {moment}"


class DriverLock(DriverRight):
    """The right to be the driver of the experiment in one folder.

    Args:
        folder: The experiment.
        opening_s: Seconds to wait for a driver that is just opening it.
    """

    def __init__(self, folder: Path, *, opening_s: float = _OPENING_S) -> None:
        """Only note the folder."""
        self._folder = folder
        self._path = folder / LOCK_NAME
        self._opening_s = opening_s
        self._fd: int | None = None
        self._opening: int | None = None
        self._signature = b""
        self._generation = 0

    @property
    def generation(self) -> int:
        """Which driver of this experiment the holder is, counted from 1; 0 before the lock was first acquired."""
        return self._generation

    def acquire(self, *, takeover: bool = False) -> int:
        """Take the lock, at once or not at all, and return the generation.

        Args:
            takeover: Whether to replace the lock of another driver, which is then no driver any more.

        Raises:
            ExperimentExistsError: Another driver holds it, or is just opening the experiment.
            StorageError: The folder cannot be used or cannot be locked.
            JournalCorruptError: The file with the generation is damaged.
        """
        _held.add(self)
        try:
            make_folder(self._folder)
            mine = _Holder(os.getpid(), socket.gethostname(), time.time(), secrets.token_hex(8))
            self._signature = msgspec.json.encode(mine) + b"\n"
            if takeover:
                self._open_door()
                self._take_or_replace()
            else:
                self._take()
            self.took_over = (self._folder / TAKEOVER_NAME).exists()
            self._generation = _next_generation(self._folder / GENERATION_NAME)
        except OSError as error:
            self.release()
            if isinstance(error, TunekitError):
                raise
            raise StorageError(
                f"the experiment in {self._folder} could not be locked: {error}",
                hint=advice(error, _LOCKS_HINT),
            ) from error
        except BaseException:
            self.release()
            raise
        return self._generation

    def check(self) -> None:
        """Raise if another driver has taken over. Costs a few microseconds; the file is opened anew each time.

        Raises:
            ExperimentExistsError: One has.
            StorageError: The file with the name of the holder cannot be read.
        """
        try:
            content = self._path.read_bytes()
        except OSError as error:
            raise StorageError(
                f"{self._path}, which says who drives the experiment, could not be read: {error}",
                hint="The folder may have been moved or removed. Run the script again where it is now.",
            ) from error
        if content == self._signature:
            return
        other = _parse_holder(content)
        raise ExperimentExistsError(
            f"another driver has taken over the experiment in {self._folder}: {other or 'it has just started'}. "
            "This one has stopped, and writes nothing more",
            hint="It was started with takeover=True, and goes on with everything that was recorded.",
            path=str(self._folder),
            pid=other.pid if other else None,
        )

    def end_is_closed(self) -> None:
        """Note that no driver before can reach the journal any more."""
        if self.took_over:
            (self._folder / TAKEOVER_NAME).unlink(missing_ok=True)
            sync_folder(self._folder)
            self.took_over = False

    def opened(self) -> None:
        """Note that the experiment is open, so that from here on it can be taken over."""
        if self._opening is not None:
            fd, self._opening = self._opening, None
            remove_locked(fd, self._folder / OPENING_NAME)

    def release(self) -> None:
        """Give the lock back. Does nothing when it is not held."""
        self.opened()
        self.close()

    def close(self) -> None:
        """Close what is open, and change nothing."""
        _held.discard(self)
        for fd in (self._fd, self._opening):
            if fd is not None:
                os.close(fd)
        self._fd = self._opening = None

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Take the lock if it is free, and nobody is just putting another one in its place."""
        self._fd = try_lock(self._path)
        if self._fd is None:
            raise self._refusal()
        self._open_door()
        if not is_at(self._fd, self._path):
            raise self._refusal()
        self._sign(self._fd)

    def _open_door(self) -> None:
        """Wait until nobody else is opening the experiment."""
        self._opening = wait_for_lock(self._folder / OPENING_NAME, self._opening_s)
        if self._opening is None:
            raise self._refusal("It is just opening the experiment, and can be taken over once that is done.")

    def _take_or_replace(self) -> None:
        """Take the lock if it is free; else put a lock of one's own in its place."""
        for _ in range(_TRIES):
            self._fd = try_lock(self._path)
            if self._fd is not None:
                self._sign(self._fd)
                return
            if not is_shared(self._path):
                break
        holder = _read_holder(self._path)
        if is_shared(self._path) or holder is None or not holder.token:
            raise self._refusal("It is no driver, or of an older tunekit, and cannot be taken over.")
        self._replace()

    def _replace(self) -> None:
        replace_file(self._folder / TAKEOVER_NAME, self._signature)
        draft = self._path.with_name(f".{LOCK_NAME}.{os.getpid()}.draft")
        draft.unlink(missing_ok=True)
        self._fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._sign(self._fd)
        os.fsync(self._fd)
        draft.replace(self._path)
        sync_folder(self._folder)

    def _sign(self, fd: int) -> None:
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        write_all(fd, self._signature)

    def _refusal(self, why: str = "") -> ExperimentExistsError:
        holder = _read_holder(self._path)
        return ExperimentExistsError(
            f"another driver is running the experiment in {self._folder}: {holder or 'it has just started'}",
            hint=(f"{why} " if why else "")
            + "Wait until it ends, or end it: the lock is free as soon as its process is gone. "
            "To go on in its place whatever it does, use fit(takeover=True). "
            "To run beside it, give this sweep another name.",
            path=str(self._folder),
            pid=holder.pid if holder else None,
        )


def folder_nonce(folder: Path) -> str:
    """Return a text that only this folder shows, and only while its present driver runs.

    A worker that finds another one, or none, at the driver's path sees another disk. Empty: there is no experiment.

    Raises:
        StorageError: The folder cannot be read.
    """
    try:
        content = [(folder / name).read_bytes() for name in (HEADER_NAME, GENERATION_NAME, LOCK_NAME)]
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        message = f"{folder} cannot be read on {socket.gethostname()}: {error}"
        raise StorageError(message, hint="check that the file system is mounted there and lets this user in") from error
    return xxh3_64_hexdigest(b"\0".join(content))


def _read_holder(path: Path) -> _Holder | None:
    """Return who holds the lock; None while the holder is just writing that down."""
    with contextlib.suppress(OSError):
        return _parse_holder(path.read_bytes())
    return None


def _parse_holder(content: bytes) -> _Holder | None:
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        return msgspec.json.decode(content, type=_Holder)
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


def _close_in_child() -> None:
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_close_in_child)
