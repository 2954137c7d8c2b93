"""Makes sure that nobody drives an experiment while it is copied or cleared up.

The lock is the driver's own. Whoever only reads shares it with others who only read, and writes nothing, so that this
works on a disk that is mounted read-only, too; a driver that wants to start meanwhile is refused.

In a bucket it is the driver's lease. Whoever writes holds it as a driver does. Whoever only reads watches it, until it
is certain that nobody lives who holds it, and looks at it again at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tunekit.errors import ExperimentExistsError
from tunekit.journal.flocks import is_at
from tunekit.journal.holder import is_gone, parse_holder
from tunekit.journal.lease import LEASE_NAME, DriverLease
from tunekit.journal.lock import LOCK_NAME
from tunekit.logs import logger_of
from tunekit.store import LocalStore, Store
from tunekit.store.base import storage_errors

_logger = logger_of("tunekit")
_LOOK_S = 1.0
"""Seconds between two looks at a lease."""


@contextmanager
def standing_still(store: Store, *, alone: bool, hint: str) -> Iterator[None]:
    """Keep drivers away.

    Args:
        store: The experiment's folder.
        alone: Whether everybody else is kept away, too; needed for writing.
        hint: What to do when a driver is running.

    Raises:
        ExperimentExistsError: A driver is running.
        StorageError: The folder cannot be locked.
    """
    if not isinstance(store, LocalStore):
        with _leased(store, hint) if alone else _watched(store, hint):
            yield
        return
    path = Path(store.uri) / LOCK_NAME
    if not alone and not path.exists():
        yield  # nobody has ever driven it
        return
    with storage_errors("lock", path):
        descriptor = os.open(path, (os.O_RDWR | os.O_CREAT if alone else os.O_RDONLY) | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _is_driven(store.uri, descriptor, hint) from error
        if not is_at(descriptor, path):  # a driver has just taken over from another one
            raise _is_driven(store.uri, descriptor, hint)
        if alone:
            _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _leased(store: Store, hint: str) -> Iterator[None]:
    """Hold the lease. That a driver died is not made forgotten by it: the next one must know."""
    before, _ = _read_lease(store)
    lease = DriverLease(store, drives=False)
    try:
        lease.acquire()
    except ExperimentExistsError as error:
        raise ExperimentExistsError(error.message, hint=hint, path=store.uri) from error
    try:
        yield
    finally:
        lease.release()
        if lease.took_over:
            store.replace(LEASE_NAME, before, _read_lease(store)[1])


@contextmanager
def _watched(store: Store, hint: str) -> Iterator[None]:
    before = _until_nobody_lives(store, hint)
    yield
    if _read_lease(store)[1] != before:
        raise ExperimentExistsError(
            f"a driver began to run the experiment in {store.uri} meanwhile", hint=hint, path=store.uri
        )


def _until_nobody_lives(store: Store, hint: str) -> str | None:
    """Return the lease's tag once its holder has ended, or has not renewed it for as long as it promised."""
    began, first = time.monotonic(), None
    while True:
        data, tag = _read_lease(store)
        holder = parse_holder(data)
        if holder is None or holder.released or is_gone(holder):
            return tag
        if first is not None and tag != first:
            raise ExperimentExistsError(f"{_running(store.uri)} ({holder})", hint=hint, path=store.uri)
        if time.monotonic() - began > holder.lease_s:
            return tag
        if first is None:
            _logger.warning("watching for up to %.0f s whether a driver lives: %s", holder.lease_s, holder)
        first = tag
        time.sleep(min(_LOOK_S, holder.lease_s / 20))


def _read_lease(store: Store) -> tuple[bytes, str | None]:
    try:
        return store.read_tagged(LEASE_NAME)
    except FileNotFoundError:
        return b"", None


def _running(where: str) -> str:
    return f"the experiment in {where} is running or being copied"


def _sign(descriptor: int) -> None:
    """Write down who we are, so that whoever is refused because of us learns it."""
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, msgspec.json.encode(holder) + b"\n", 0)


def _is_driven(where: str, descriptor: int, hint: str) -> ExperimentExistsError:
    holder = ""
    with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError, RecursionError):
        found = msgspec.json.decode(os.pread(descriptor, 4096, 0))
        holder = f" (process {found['pid']} on {found['host']})"
    return ExperimentExistsError(f"{_running(where)}{holder}", hint=hint, path=where)
