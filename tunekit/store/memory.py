"""A store in this process' memory, for tests and for sweeps that shall leave nothing behind.

All stores of one process see the same tree of files, from their URI downwards; other processes see nothing of it. User
code still needs real folders to write into and to read from: they are temporary ones, removed when the process ends.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, cast

from tunekit.store import layout
from tunekit.store.base import PutOutcome, Renaming, content_tag, storage_errors

Folder: TypeAlias = "dict[str, Folder | bytes]"
"""A folder of the tree: folders and the content of files by their names."""


class _Memory:
    """What every store of this process shares."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.root: Folder = {}
        self.scratch: dict[str, Path] = {}
        """The temporary folder that user code writes into, by the full place that it is staged for."""
        self._folder: Path | None = None

    def new_folder(self) -> Path:
        """Return a new temporary folder below one that is removed when this process ends."""
        with self.lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="tunekit-"))
                atexit.register(_remove_if_mine, self._folder, os.getpid())
            return Path(tempfile.mkdtemp(dir=self._folder))


def _remove_if_mine(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not tidy up after its parent
        shutil.rmtree(folder, ignore_errors=True)


_MEMORY = _Memory()


class MemoryStore(Renaming):
    """Files in a tree in memory.

    Args:
        uri: The folder's place in the tree: ``memory://`` and a path.
    """

    def __init__(self, uri: str) -> None:
        """Remember the place; nothing is made yet."""
        self._uri = "memory://" + uri.removeprefix("memory://").strip("/")
        self._base = self._uri.removeprefix("memory://")

    def __repr__(self) -> str:
        """Return the class and the URI."""
        return f"MemoryStore({self._uri!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the URI. In another process that is another, empty store."""
        return (MemoryStore, (self._uri,))

    @property
    def uri(self) -> str:
        """The place in the tree."""
        return self._uri

    def scratch(self, staging: str) -> Path:
        """Return a new temporary folder, and forget what was staged."""
        with _MEMORY.lock:
            self.remove(staging)
            path = _MEMORY.scratch[self._full(staging)] = _MEMORY.new_folder()
            self._make(staging)
        return path

    def persist(self, staging: str, files: Sequence[str]) -> None:
        """Take the files into memory; the temporary folder goes away."""
        path = _MEMORY.scratch.get(self._full(staging))
        if path is None:
            return  # taken in before
        with storage_errors("read", path):
            content = {name: (path / name).read_bytes() for name in files}
        with _MEMORY.lock:
            for name, data in content.items():
                self.write(f"{staging}/{name}", data)
            _MEMORY.scratch.pop(self._full(staging), None)
        shutil.rmtree(path, ignore_errors=True)

    def clone(self, folder: str, staging: str) -> None:
        """Stage the same files, without a copy: what is stored is never changed."""
        with _MEMORY.lock:
            found = self._find(folder)
            if not isinstance(found, dict):
                raise FileNotFoundError(f"{folder} is not in {self._uri}")
            self.remove(staging)
            self._make(staging).update(_without_bytes_copied(found, skip=layout.MANIFEST))

    def commit(self, staging: str, folder: str, manifest: bytes) -> None:
        """Give the staged folder its final name, in one step for all who look."""
        with _MEMORY.lock:
            staged = self._find(staging)
            if isinstance(staged, dict):
                self.remove(folder)
                self._move(staging, folder)
                self.write(f"{folder}/{layout.MANIFEST}", manifest)
            elif not isinstance(self._find(folder), dict):
                raise FileNotFoundError(f"neither {staging} nor {folder} is in {self._uri}")

    def remove(self, folder: str, *, aside: str = "") -> None:
        """Forget the folder, or give it another name, in one step."""
        with _MEMORY.lock:
            if self._find(folder) is None:
                return
            place, count = aside, 1
            while aside and self._find(place) is not None:
                count += 1
                place = f"{aside}-{count}"
            if aside:
                self._move(folder, place)
            else:
                self._take(folder)
            if path := _MEMORY.scratch.pop(self._full(folder), None):
                shutil.rmtree(path, ignore_errors=True)

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of every file below ``folder``."""
        with _MEMORY.lock:
            found = self._find(folder)
            if not isinstance(found, dict):
                return {}
            return {name: 0 if data is None else len(data) for name, data in _walk(found)}

    def read(self, key: str) -> bytes:
        """Return the content of one file."""
        with _MEMORY.lock:
            found = self._find(key)
        if not isinstance(found, bytes):
            raise FileNotFoundError(f"{key} is not in {self._uri}")
        return found

    def write(self, key: str, data: bytes) -> None:
        """Set the content of one file. No part of the protocol: for the store itself, and for tests that do damage."""
        with _MEMORY.lock:
            parent, _, name = key.rpartition("/")
            self._make(parent)[name] = bytes(data)

    def put_if_absent(self, key: str, data: bytes) -> PutOutcome:
        """Create the key if it is not there."""
        with _MEMORY.lock:
            found = self._find(key)
            if found is None:
                self.write(key, data)
                return PutOutcome.CREATED
            return PutOutcome.MINE if found == data else PutOutcome.LOST

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """Return the content of one file, and its digest."""
        data = self.read(key)
        return data, content_tag(data)

    def replace(self, key: str, data: bytes, tag: str | None) -> PutOutcome:
        """Set the content of one file if it has this digest."""
        if tag is None:
            return self.put_if_absent(key, data)
        with _MEMORY.lock:
            found = self._find(key)
            if found == data:
                return PutOutcome.MINE
            if not isinstance(found, bytes) or content_tag(found) != tag:
                return PutOutcome.LOST
            self.write(key, data)
            return PutOutcome.CREATED

    def has(self, folder: str) -> bool:
        """Return whether there is such a folder."""
        with _MEMORY.lock:
            return isinstance(self._find(folder), dict)

    def local(self, folder: str) -> Path:
        """Return a new temporary folder with a copy of the files."""
        with _MEMORY.lock:
            found = self._find(folder)
            if not isinstance(found, dict):
                raise FileNotFoundError(f"{folder} is not in {self._uri}")
            content = list(_walk(found))
        path = _MEMORY.new_folder()
        for name, data in content:
            (path / name if data is None else (path / name).parent).mkdir(parents=True, exist_ok=True)
            if data is not None:
                (path / name).write_bytes(data)
        return path

    def _full(self, folder: str) -> str:
        return f"{self._base}/{folder}"

    def _parts(self, folder: str) -> list[str]:
        return [part for part in self._full(folder).split("/") if part]

    def _find(self, key: str) -> Folder | bytes | None:
        found: Folder | bytes | None = _MEMORY.root
        for part in self._parts(key):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def _make(self, folder: str) -> Folder:
        """Return the folder, after making it and those above it."""
        found = _MEMORY.root
        for part in self._parts(folder):
            found = cast("Folder", found.setdefault(part, {}))
        return found

    def _take(self, folder: str) -> Folder | bytes:
        """Take a folder or file out of the tree, and its parent as well if nothing is left in it."""
        parent, _, name = folder.rpartition("/")
        holder = self._make(parent)
        taken = holder.pop(name)
        if parent and not holder:
            self._take(parent)
        return taken

    def _move(self, source: str, target: str) -> None:
        parent, _, name = target.rpartition("/")
        taken = self._take(source)
        self._make(parent)[name] = taken


def _without_bytes_copied(folder: Folder, skip: str = "") -> Folder:
    """Return other folders with the same files, but for one at the top."""
    return {
        name: _without_bytes_copied(value) if isinstance(value, dict) else value
        for name, value in folder.items()
        if name != skip
    }


def _walk(folder: Folder, prefix: str = "") -> Iterator[tuple[str, bytes | None]]:
    """Yield (path, content) of each file, and (path with ``/``, None) of each empty folder."""
    for name, value in folder.items():
        if isinstance(value, bytes):
            yield prefix + name, value
        elif value:
            yield from _walk(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}/", None
