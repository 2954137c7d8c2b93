"""Makes sure that nobody drives an experiment while it is copied or cleared up.

The lock is the driver's own. Whoever only reads shares it with others who only read, and writes nothing, so that this
works on a disk that is mounted read-only, too; a driver that wants to start meanwhile is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tunekit.errors import ExperimentExistsError
from tunekit.journal.lock import LOCK_NAME
from tunekit.store import LocalStore, Store
from tunekit.store.base import storage_errors


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
        yield
    finally:
        os.close(descriptor)


def _is_driven(where: str, descriptor: int, hint: str) -> ExperimentExistsError:
    holder = ""
    with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError):
        found = msgspec.json.decode(os.pread(descriptor, 4096, 0))
        holder = f" (process {found['pid']} on {found['host']})"
    return ExperimentExistsError(f"the experiment in {where} is running or being copied{holder}", hint=hint, path=where)
