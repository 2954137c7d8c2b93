"""A store in this process' memory, for tests and for sweeps that shall leave nothing behind.

All stores with the same URI in one process see the same files; other processes see nothing of them. User code still
needs real folders to write into and to read from: they are temporary ones, removed when the process ends.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from tunekit.store import layout
from tunekit.store.base import PutOutcome, storage_errors


class _Memory:
    """What every store of this process shares: one lock, and a dictionary of files per URI."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.files: dict[str, dict[str, bytes]] = {}
        self.scratch: dict[tuple[str, str], Path] = {}
        self._folder: Path | None = None

    def folder(self) -> Path:
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


class MemoryStore:
    """Files in a dictionary of this process.

    Args:
        uri: Names the dictionary: ``memory://`` and any path.
    """

    def __init__(self, uri: str) -> None:
        """Share the dictionary of this URI."""
        self._uri = uri.rstrip("/") if uri != "memory://" else uri
        with _MEMORY.lock:
            self._files = _MEMORY.files.setdefault(self._uri, {})

    def __repr__(self) -> str:
        """Return the class and the URI."""
        return f"MemoryStore({self._uri!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the URI. In another process that is another, empty store."""
        return (MemoryStore, (self._uri,))

    @property
    def uri(self) -> str:
        """The URI that names the dictionary."""
        return self._uri

    @property
    def files(self) -> dict[str, bytes]:
        """The dictionary itself, for tests that look inside or do damage."""
        return self._files

    def scratch(self, staging: str) -> Path:
        """Return a new temporary folder, and forget what was staged."""
        with _MEMORY.lock:
            self.remove(staging)
            path = _MEMORY.scratch[self._uri, staging] = _MEMORY.folder()
        return path

    def persist(self, staging: str, files: Sequence[str]) -> None:
        """Take the files into memory; the temporary folder goes away."""
        with _MEMORY.lock:
            path = _MEMORY.scratch.get((self._uri, staging))
        if path is None:
            return  # taken in before
        with storage_errors("read", path):
            content = {f"{staging}/{name}": (path / name).read_bytes() for name in files}
        with _MEMORY.lock:
            self._files.update(content)
            self._files[f"{staging}/"] = b""
            del _MEMORY.scratch[self._uri, staging]
        shutil.rmtree(path, ignore_errors=True)

    def commit(self, staging: str, folder: str, manifest: bytes) -> None:
        """Give the staged files their final keys, in one step for all who look."""
        with _MEMORY.lock:
            staged = self._below(staging)
            if not staged:
                if not self._below(folder):
                    raise FileNotFoundError(f"neither {staging} nor {folder} is in {self._uri}")
                return
            self.remove(folder)
            for name in staged:
                content = self._files.pop(f"{staging}/{name}")
                if name:
                    self._files[f"{folder}/{name}"] = content
            self._files[f"{folder}/{layout.MANIFEST}"] = manifest

    def remove(self, folder: str, *, aside: str = "") -> None:
        """Forget the keys, or give them another name, in one step."""
        with _MEMORY.lock:
            place, count = aside, 1
            while aside and self._below(place):
                count += 1
                place = f"{aside}-{count}"
            for name in self._below(folder):
                content = self._files.pop(f"{folder}/{name}")
                if aside:
                    self._files[f"{place}/{name}"] = content
            for uri, staging in list(_MEMORY.scratch):
                if uri == self._uri and f"{staging}/".startswith(f"{folder}/"):
                    shutil.rmtree(_MEMORY.scratch.pop((uri, staging)), ignore_errors=True)

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of every file below ``folder``."""
        with _MEMORY.lock:
            found = {name: len(self._files[f"{folder}/{name}"]) for name in self._below(folder) if name}
            for uri, staging in _MEMORY.scratch:
                if uri == self._uri and staging.startswith(f"{folder}/"):
                    found.setdefault(f"{staging[len(folder) + 1 :]}/", 0)
        return found

    def read(self, key: str) -> bytes:
        """Return the content of one file."""
        with _MEMORY.lock:
            try:
                return self._files[key]
            except KeyError:
                raise FileNotFoundError(f"{key} is not in {self._uri}") from None

    def put_if_absent(self, key: str, data: bytes) -> PutOutcome:
        """Create the key if it is not there."""
        with _MEMORY.lock:
            if key not in self._files:
                self._files[key] = bytes(data)
                return PutOutcome.CREATED
            return PutOutcome.MINE if self._files[key] == data else PutOutcome.LOST

    def local(self, folder: str) -> Path:
        """Return a new temporary folder with a copy of the files."""
        with _MEMORY.lock:
            content = {name: self._files[f"{folder}/{name}"] for name in self._below(folder)}
        if not content:
            raise FileNotFoundError(f"{folder} is not in {self._uri}")
        path = _MEMORY.folder()
        for name, data in content.items():
            if name.endswith("/") or not name:
                continue
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path

    def _below(self, folder: str) -> list[str]:
        start = f"{folder}/"
        return [key[len(start) :] for key in self._files if key.startswith(start)]
