"""The files of local folders and of stores in memory, one by one: see ``shelf``."""

from __future__ import annotations

import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import xxhash

from tunekit.errors import ConfigError
from tunekit.store import folders, layout
from tunekit.store.base import Store, storage_errors
from tunekit.store.local import LocalStore
from tunekit.store.memory import MemoryStore
from tunekit.store.object_shelf import ObjectShelf
from tunekit.store.objects import ObjectStore
from tunekit.store.shelf import Found, OnBytes, Shelf, copy_hashed, reading, temporary_folder

COPYING = f"{layout.STAGING}/copy~"
"""Begin of the name of a folder that is being filled with a checkpoint."""
_DRAFT = f"{layout.STAGING}/draft~"


def shelf_of(store: Store) -> Shelf:
    """Return the files of ``store``.

    Raises:
        ConfigError: It is a kind of store that can only publish.
    """
    if isinstance(store, LocalStore):
        return LocalShelf(store)
    if isinstance(store, MemoryStore):
        return MemoryShelf(store)
    if isinstance(store, ObjectStore):
        return ObjectShelf(store)
    raise ConfigError(
        f"the files of {store!r} cannot be copied or listed one by one",
        hint="use a local path, memory:// or the URI of an object store",
    )


class _RenamingShelf:
    """What shelves have in common whose store makes files visible by renaming the folder around them."""

    stages_inside = False

    def place(self, folder: str) -> str:
        """Return a folder aside, the same at each try, so that a later one finds what an earlier one copied."""
        return f"{COPYING}{folder.replace('/', '~')}"

    def staged(self, staging: str) -> str:
        """Return the folder of that name."""
        return staging


class LocalShelf(_RenamingShelf):
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
        with reading(source) as reader, storage_errors("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if key.startswith(COPYING):
                return copy_hashed(reader, path, on_bytes, num_bytes=num_bytes)
            draft = self._root / f"{_DRAFT}{uuid.uuid4().hex}"
            draft.parent.mkdir(exist_ok=True)
            try:
                digest = copy_hashed(reader, draft, on_bytes, num_bytes=num_bytes)
                self._store.ops.fsync(draft)
                self._store.ops.rename(draft, path)
            finally:
                draft.unlink(missing_ok=True)
            self._sync_up(path.parent)
            return digest

    def show(self, folder: str, manifest: bytes, names: Sequence[str]) -> None:
        """Sync the files and rename the folder into its place."""
        place = self.place(folder)
        with storage_errors("write", self._root / place):
            (self._root / place).mkdir(parents=True, exist_ok=True)
        self._store.persist(place, names)
        self._store.commit(place, folder, manifest)

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


class MemoryShelf(_RenamingShelf):
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
        data = self._store.read(key)
        with temporary_folder() as folder:
            path = folder / "file"
            path.write_bytes(data)
            yield path

    def put(self, key: str, source: Path, on_bytes: OnBytes, *, num_bytes: int | None = None) -> str:
        """Take the file into memory."""
        with storage_errors("read", source, absent_is_answer=True):
            data = source.read_bytes()[:num_bytes]
        self._store.write(key, data)
        on_bytes(len(data))
        return xxhash.xxh3_128_hexdigest(data)

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
