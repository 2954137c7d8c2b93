"""The files of a store one by one: what copying, checking and clearing up need beyond the steps of publishing.

``Store`` speaks of checkpoints as they come to be. Whoever moves an experiment speaks of files that are there already:
which ones, how large, how old; read one, put one. ``shelves`` and
``object_shelf`` answer for every kind of store.

A checkpoint that is copied keeps its bytes, the manifest's included, wherever it goes, so that what was copied by other
means (``rsync``, ``aws s3 sync``) looks the same. What differs is how it becomes visible: a folder is filled aside and
renamed, with its manifest in it; in a bucket the data goes where it shall be, and the manifest comes last.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from pathlib import Path
from typing import NamedTuple, Protocol

import xxhash

from tunekit.store.base import Store, storage_errors

OnBytes = Callable[[int], None]
"""Told how many more bytes have been copied."""

_CHUNK_BYTES = 1 << 20


class Found(NamedTuple):
    """A file that is there."""

    size: int
    """Bytes; -1 for what is not a regular file."""
    modified: float = 0.0
    """Unix seconds."""


class Shelf(Protocol):
    """The files of one store."""

    @property
    def stages_inside(self) -> bool:
        """Whether attempts stage their files where they will be visible, beside those that already are."""
        ...

    @property
    def store(self) -> Store:
        """The store that they are in."""
        ...

    def files(self, folder: str = "") -> dict[str, Found]:
        """Return every file below ``folder`` by its path relative to it; an empty folder has a ``/`` at the end."""
        ...

    def opened(self, key: str) -> AbstractContextManager[Path]:
        """Give a local file with the content of ``key``, to be read and not to be changed.

        Raises:
            FileNotFoundError: There is no regular file of this name.
        """
        ...

    def put(self, key: str, source: Path, on_bytes: OnBytes, *, num_bytes: int | None = None) -> str:
        """Store a local file as ``key``, all of it or nothing, durably, and return the xxh3-128 of what was read.

        Below the ``place`` of a checkpoint neither is promised before ``show``.

        Args:
            key: Its name. What had it is replaced.
            source: The local file.
            on_bytes: Told how many more bytes have been copied.
            num_bytes: Store only so many from its beginning; None: all.

        Raises:
            FileNotFoundError: The local file is gone. It may be one of an experiment that is running.
            StorageError: It cannot be read, or the storage failed.
        """
        ...

    def place(self, folder: str) -> str:
        """Return where the data of a checkpoint is put that ``show`` then makes visible as ``folder``."""
        ...

    def staged(self, staging: str) -> str:
        """Return the folder in which the data of a staged checkpoint is, as its manifest says where in it."""
        ...

    def show(self, folder: str, manifest: bytes, names: Sequence[str]) -> None:
        """Make the files ``names`` at the place of ``folder`` visible, the manifest last. An older one gives way."""
        ...

    def drop(self, key: str) -> None:
        """Remove one file. Not being there is fine."""
        ...

    def clear(self, place: str) -> None:
        """Remove a file, or a folder with everything in it."""
        ...

    def tidy(self) -> None:
        """Remove what copies that were interrupted have left aside. Nobody may be copying to here."""
        ...


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a local folder, and remove it afterwards."""
    import tempfile  # noqa: PLC0415  # few stores need it

    with tempfile.TemporaryDirectory(prefix="tunekit-") as folder:
        yield Path(folder)


@contextmanager
def reading(source: Path) -> Iterator[FileIO]:
    """Open a local file, which from then on may be renamed or removed.

    Raises:
        FileNotFoundError: It is gone.
        StorageError: It cannot be opened, or is a link.
    """
    with storage_errors("read", source, absent_is_answer=True):
        handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with FileIO(handle) as reader:
        yield reader


def copy_hashed(reader: FileIO, target: Path, on_bytes: OnBytes, *, num_bytes: int | None = None) -> str:
    """Copy an open file, or only so many bytes from its beginning, and return the xxh3-128 of what was copied.

    Raises:
        OSError: It cannot be read or written.
    """
    hasher = xxhash.xxh3_128()
    view = memoryview(bytearray(_CHUNK_BYTES))
    with target.open("wb", buffering=0) as writer:
        left = sys.maxsize if num_bytes is None else num_bytes
        while count := reader.readinto(view[:left]):
            left -= count
            hasher.update(view[:count])
            rest = view[:count]
            while rest:
                rest = rest[writer.write(rest) :]
            on_bytes(count)
    return hasher.hexdigest()
