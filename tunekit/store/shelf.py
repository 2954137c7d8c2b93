"""The files of a store one by one: what copying, checking and clearing up need beyond the steps of publishing.

``Store`` speaks of checkpoints as they come to be. Whoever moves an experiment speaks of files that are there already:
which ones, how large, how old; read one, put one. ``shelf_of`` answers for every kind of store.

A checkpoint that is copied keeps its bytes, the manifest's included, wherever it goes, so that what was copied by other
means (``rsync``, ``aws s3 sync``) looks the same. What differs is how it becomes visible: a folder is filled aside and
renamed, with its manifest in it; in a bucket the data goes where it shall be, and the manifest comes last.
"""

from __future__ import annotations

import os
import stat
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import xxhash

from tunekit.errors import ConfigError
from tunekit.store import folders, layout
from tunekit.store.base import Store, storage_errors
from tunekit.store.local import LocalStore
from tunekit.store.memory import MemoryStore

OnBytes = Callable[[int], None]
"""Told how many more bytes have been copied."""

_CHUNK_BYTES = 1 << 20
COPYING = f"{layout.STAGING}/copy~"
"""Begin of the name of a folder that is being filled with a checkpoint."""
_DRAFT = f"{layout.STAGING}/draft~"


class Found(NamedTuple):
    """A file that is there."""

    size: int
    """Bytes; -1 for what is not a regular file."""
    modified: float = 0.0
    """Unix seconds."""


class Shelf(Protocol):
    """The files of one store."""

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
        """
        ...

    def place(self, folder: str) -> str:
        """Return where the data of a checkpoint is put that ``show`` then makes visible as ``folder``."""
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


def shelf_of(store: Store) -> Shelf:
    """Return the files of ``store``.

    Raises:
        ConfigError: It is a kind of store that can only publish.
    """
    if isinstance(store, LocalStore):
        return LocalShelf(store)
    if isinstance(store, MemoryStore):
        return MemoryShelf(store)
    raise ConfigError(
        f"the files of {store!r} cannot be copied or listed one by one",
        hint="use a local path, memory:// or the URI of an object store",
    )


class LocalShelf:
    """Files of a local folder."""

    def __init__(self, store: LocalStore) -> None:
        """Note the folder."""
        self._store = store
        self._root = Path(store.uri)

    @property
    def store(self) -> Store:
        """The store that they are in."""
        return self._store

    def files(self, folder: str = "") -> dict[str, Found]:
        """Walk through the folder, following no link."""
        path = self._root / folder
        found: dict[str, Found] = {}
        with storage_errors("read", path):
            try:
                for name, info in folders.walk(path, skips_gone=True):
                    found.pop(f"{name.rpartition('/')[0]}/", None)
                    if stat.S_ISDIR(info.st_mode):
                        found[f"{name}/"] = Found(0, info.st_mtime)
                    else:
                        size = info.st_size if stat.S_ISREG(info.st_mode) else folders.NOT_A_FILE
                        found[name] = Found(size, info.st_mtime)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        return found

    @contextmanager
    def opened(self, key: str) -> Iterator[Path]:
        """Give the file itself."""
        path = self._root / key
        if path.is_symlink() or not path.is_file():
            raise FileNotFoundError(2, "not a regular file", str(path))
        yield path

    def put(self, key: str, source: Path, on_bytes: OnBytes, *, num_bytes: int | None = None) -> str:
        """Write the file aside, then rename it, unless it lies aside anyhow."""
        path = self._root / key
        with storage_errors("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if key.startswith(COPYING):
                return copy_hashed(source, path, on_bytes, num_bytes=num_bytes)
            draft = self._root / f"{_DRAFT}{uuid.uuid4().hex}"
            draft.parent.mkdir(exist_ok=True)
            try:
                digest = copy_hashed(source, draft, on_bytes, num_bytes=num_bytes)
                self._store.ops.fsync(draft)
                self._store.ops.rename(draft, path)
            finally:
                draft.unlink(missing_ok=True)
            self._sync_up(path.parent)
            return digest

    def place(self, folder: str) -> str:
        """Return a folder aside, the same at each try, so that a later one finds what an earlier one copied."""
        return f"{COPYING}{folder.replace('/', '~')}"

    def show(self, folder: str, manifest: bytes, names: Sequence[str]) -> None:
        """Sync the files and rename the folder into its place."""
        place = self.place(folder)
        with storage_errors("write", self._root / place):
            (self._root / place).mkdir(parents=True, exist_ok=True)
        self._store.persist(place, names)
        self._store.commit(place, folder, manifest)
        self._store.remove(f"{layout.STAGING}/.none")  # and with it the folder around it, if nothing is left in that

    def drop(self, key: str) -> None:
        """Unlink the file, or remove the folder that nothing is in."""
        path = self._root / key
        with storage_errors("remove", path):
            folders.delete_tree(self._store.ops, path)

    def clear(self, place: str) -> None:
        """Remove it by way of the trash."""
        self._store.remove(place)

    def tidy(self) -> None:
        """Remove it, what was on its way to deletion, and the folders around both if nothing else is left in them."""
        for parent in (layout.STAGING, layout.TRASH):
            places = {f"{parent}/{name.partition('/')[0]}" for name in self.files(parent)}
            for place in sorted(places):
                if place.startswith((COPYING, _DRAFT, layout.TRASH)):
                    self._store.remove(place)
            self._store.remove(f"{parent}/.none")

    def _sync_up(self, folder: Path) -> None:
        while True:
            self._store.ops.fsync(folder)
            if folder == self._root:
                return
            folder = folder.parent


class MemoryShelf:
    """Files of a store in memory."""

    def __init__(self, store: MemoryStore) -> None:
        """Note the store."""
        self._store = store

    @property
    def store(self) -> Store:
        """The store that they are in."""
        return self._store

    def files(self, folder: str = "") -> dict[str, Found]:
        """List them; nothing here has an age."""
        return {name: Found(size) for name, size in self._store.sizes(folder).items()}

    @contextmanager
    def opened(self, key: str) -> Iterator[Path]:
        """Give a temporary file."""
        with temporary_file(self._store.read(key)) as path:
            yield path

    def put(self, key: str, source: Path, on_bytes: OnBytes, *, num_bytes: int | None = None) -> str:
        """Take the file into memory."""
        with storage_errors("read", source):
            data = source.read_bytes()[:num_bytes]
        self._store.write(key, data)
        on_bytes(len(data))
        return xxhash.xxh3_128_hexdigest(data)

    def place(self, folder: str) -> str:
        """Return a folder aside."""
        return f"{COPYING}{folder.replace('/', '~')}"

    def show(self, folder: str, manifest: bytes, names: Sequence[str]) -> None:
        """Give the folder its name."""
        place = self.place(folder)
        if not names:
            self._store.scratch(place)
            self._store.persist(place, [])
        self._store.commit(place, folder, manifest)

    def drop(self, key: str) -> None:
        """Forget the file."""
        self._store.remove(key.rstrip("/"))

    def clear(self, place: str) -> None:
        """Forget it."""
        self._store.remove(place)

    def tidy(self) -> None:
        """Forget it."""
        for name in self._store.sizes(layout.STAGING):
            place = f"{layout.STAGING}/{name.partition('/')[0]}"
            if place.startswith(COPYING):
                self._store.remove(place)


@contextmanager
def temporary_file(data: bytes) -> Iterator[Path]:
    """Give a local file with this content, and remove it afterwards."""
    import tempfile  # noqa: PLC0415  # few stores need it

    with tempfile.TemporaryDirectory(prefix="tunekit-") as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        yield path


def copy_hashed(source: Path, target: Path, on_bytes: OnBytes, *, num_bytes: int | None = None) -> str:
    """Copy a file's content, or only so many bytes from its beginning, and return the xxh3-128 of what was copied.

    Raises:
        OSError: It cannot be read or written, or is a link.
    """
    hasher = xxhash.xxh3_128()
    view = memoryview(bytearray(_CHUNK_BYTES))
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(source, flags), "rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        left = sys.maxsize if num_bytes is None else num_bytes
        while count := reader.readinto(view[:left]):
            left -= count
            hasher.update(view[:count])
            rest = view[:count]
            while rest:
                rest = rest[writer.write(rest) :]
            on_bytes(count)
    return hasher.hexdigest()
