"""What tunekit asks of a place that holds an experiment.

A store holds files under keys such as ``train_00007/checkpoint_000050/model.pt``, always relative to the experiment's
folder. Its methods are the steps of publishing a checkpoint rather than those of a file system, because the steps are
what every kind of storage can do safely: a local disk commits by renaming a folder, an object store by creating the
manifest if it is absent. ``CheckpointIO`` is the only caller that knows the protocol; nobody else cares which store it
is.

Rules for every store:

* Reading what is not there raises ``FileNotFoundError``; any other trouble raises ``StorageError``.
* Each method can be called again after a crash in the middle of it, and then does what was left to do.
* Methods may be called from several threads at once, for different folders.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import xxhash

from tunekit.errors import StorageError
from tunekit.store import layout


class PutOutcome(StrEnum):
    """What became of ``put_if_absent`` and ``replace``."""

    CREATED = "created"
    """The key did not exist, or had the expected tag, and now holds our bytes."""
    MINE = "mine"
    """The key holds exactly our bytes already: an earlier try of ours went through."""
    LOST = "lost"
    """The key holds somebody else's bytes, or is gone."""
    UNKNOWN = "unknown"
    """The store failed and cannot be read back; ask again later."""


class Renaming:
    """What stores have in common that make files visible by renaming the folder around them."""

    def data_folder(self, staging: str) -> str:  # noqa: ARG002 - as of the protocol
        """Say that files need no folder of their own."""
        return ""

    def abort_uploads(self, older_than_s: float) -> list[str]:  # noqa: ARG002 - as of the protocol
        """Find none: nothing is uploaded."""
        return []


class Store(Protocol):
    """A place that holds an experiment folder."""

    @property
    def uri(self) -> str:
        """The absolute local path or URI of the folder. Never persisted inside it."""
        ...

    def scratch(self, staging: str) -> Path:
        """Return a new, empty local folder for ``staging``, in which user code may write what it likes.

        What an earlier call with the same name left is removed.
        """
        ...

    def persist(self, staging: str, files: Sequence[str]) -> None:
        """Make the files of the scratch folder durable in the store, still out of sight."""
        ...

    def clone(self, folder: str, staging: str) -> None:
        """Stage the files of ``folder`` once more, durable as after ``persist``, without moving bytes where possible.

        The manifest at the top of ``folder`` is left out, since what becomes of the clone has its own. What happens to
        ``folder`` afterwards does not matter to the clone. What an earlier call with the same name left is removed.

        Raises:
            FileNotFoundError: There is no such folder.
        """
        ...

    def commit(self, staging: str, folder: str, manifest: bytes) -> None:
        """Make the persisted files visible as ``folder``, its manifest being the last thing to appear, durably.

        What ``folder`` showed before goes out of sight first and is deleted. When nothing is staged any more, but
        ``folder`` is there, an earlier call came that far: what is missing to its end is done.

        Raises:
            FileNotFoundError: Neither is anything staged nor is ``folder`` there.
        """
        ...

    def remove(self, folder: str, *, aside: str = "") -> None:
        """Take ``folder`` out of sight at once, then delete it, or keep it as ``aside``. Not being there is fine.

        Of a place that begins with a dot, the folder around it goes too when nothing is left in it.
        """
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of every file below ``folder`` by its path relative to it; {} if there is no such folder.

        An empty folder appears as its path with a ``/`` at the end. What is not a regular file has the size -1.
        """
        ...

    def has(self, folder: str) -> bool:
        """Return whether there is such a folder, even one without files. Reads no file."""
        ...

    def read(self, key: str) -> bytes:
        """Return the content of one small file.

        Raises:
            FileNotFoundError: There is no regular file of this name.
        """
        ...

    def put_if_absent(self, key: str, data: bytes) -> PutOutcome:
        """Create ``key`` with ``data``, all of it or nothing, unless it exists. Never raises for the store's trouble.

        To tell its own write from another's, a caller puts something unique into ``data``.
        """
        ...

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """Return the content of one small file, and the tag that stands for this content of it in ``replace``.

        A tag means nothing but "as it was read", never is empty, and may be compared for being equal.

        Raises:
            FileNotFoundError: There is no regular file of this name.
        """
        ...

    def replace(self, key: str, data: bytes, tag: str | None) -> PutOutcome:
        """Give ``key`` the content ``data``, all of it or nothing, if it still is as it was when ``tag`` was read.

        Of several who replace what they all have read, one succeeds. With None it is ``put_if_absent``. Never raises
        for the trouble of the store: after UNKNOWN, read again and see.

        To tell its own write from another's, a caller puts something unique into ``data``: a key that holds exactly
        ``data`` answers MINE, whatever the tag.
        """
        ...

    def data_folder(self, staging: str) -> str:
        """Return in which folder inside the committed one the files of ``staging`` will lie; empty: directly in it.

        It is the manifest's field ``data``. A store that cannot rename has an own one for each attempt.
        """
        ...

    def abort_uploads(self, older_than_s: float) -> list[str]:
        """Drop what was uploaded, this long ago, of files that never came to be whole; return their keys.

        Other stores than those in buckets have none.
        """
        ...

    def local(self, folder: str) -> Path:
        """Return a local folder with the files of ``folder`` to read from, without a copy where that is possible.

        Raises:
            FileNotFoundError: There is no such folder.
        """
        ...


def content_tag(data: bytes) -> str:
    """Return a tag for stores that have none of their own: the digest of the content."""
    return xxhash.xxh3_128_hexdigest(data)


_HINTS = {
    errno.ENOSPC: "the disk is full: free some space there, or use another storage_path",
    errno.EDQUOT: "your quota is used up: free some space there, or use another storage_path",
    errno.EACCES: "check the permissions of that folder, or use another storage_path",
    errno.EPERM: "check the permissions of that folder, or use another storage_path",
    errno.EROFS: "it is mounted read-only: use another storage_path",
    errno.ENOTDIR: "a part of the path is a file: use another name or storage_path",
    errno.ENAMETOOLONG: "use a shorter name or storage_path",
}


def advice(error: OSError, otherwise: str = "check that the storage is reachable and healthy") -> str:
    """Return what to do about an error, or else ``otherwise``."""
    return _HINTS.get(error.errno or 0, otherwise)


def storage_error(doing: str, where: str | Path, error: OSError) -> StorageError:
    """Return the StorageError that tells of ``error``, with advice that fits its number."""
    number = error.errno or 0
    what = os.strerror(number) if number else str(error)
    return StorageError(f"could not {doing} {where}: {what}", hint=advice(error), errno=number, path=str(where))


@contextmanager
def storage_errors(doing: str, where: str | Path, *, absent_is_answer: bool = False) -> Iterator[None]:
    """Turn an OSError of the operating system into a StorageError.

    Args:
        doing: What was tried, as in "could not <doing> <where>".
        where: The path that it was tried on.
        absent_is_answer: Whether FileNotFoundError passes, because the caller asks whether something is there.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if absent_is_answer and isinstance(error, FileNotFoundError):
            raise
        raise storage_error(doing, where, error) from error


def probe(store: Store) -> bool:
    """Write a small file, read it back, try to write it under conditions that are not met, and remove it.

    Returns:
        Whether conditions are honoured. Some services ignore them in silence; then only one writer is safe.

    Raises:
        StorageError: The store does not take writes, or gives back something else.
    """
    data = uuid.uuid4().hex.encode()
    folder = f"{layout.STAGING}/.probe-{data.decode()}"
    key = f"{folder}/nonce"
    outcome = store.put_if_absent(key, data)
    try:
        intact = outcome in {PutOutcome.CREATED, PutOutcome.MINE} and store.read(key) == data
    except FileNotFoundError:
        intact = False
    if not intact:
        raise StorageError(
            f"could not write to {store.uri}: a test file was not stored as it was written (outcome: {outcome})",
            hint="check permissions and free space of the storage path, or use another one",
            path=store.uri,
        )
    honoured = _honours_conditions(store, key, data)
    store.remove(folder)
    return honoured


def _honours_conditions(store: Store, key: str, data: bytes) -> bool:
    try:
        _, tag = store.read_tagged(key)
        outcomes = [
            store.put_if_absent(key, data + b"2"),
            store.replace(key, data + b"3", tag),
            store.replace(key, data + b"4", tag),
        ]
        last = store.read(key)
    except FileNotFoundError:
        return False
    return outcomes == [PutOutcome.LOST, PutOutcome.CREATED, PutOutcome.LOST] and last == data + b"3"
