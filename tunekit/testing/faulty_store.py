"""Storage that fails when it is told to, for tests of whatever writes to it.

``Faults`` counts operations that change something, and at a given one lets the process die or the storage refuse.
``FaultyOps`` puts it below a local store, at each system call; ``FaultyStore`` puts it around any store, at each call
of the protocol. A test runs a scenario once to learn how many operations it has, and then once for each of them::

    for number in range(1, count + 1):
        ops = FaultyOps(Faults(crash_at=number, when="during"))
        with pytest.raises(SimulatedCrash):
            scenario(LocalStore(folder, ops=ops))
        ops.lose_power(folder)
        check(LocalStore(folder))
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from tunekit.errors import StorageError
from tunekit.store.base import PutOutcome, Store
from tunekit.store.ops import Ops

When = Literal["before", "during", "after"]
_T = TypeVar("_T")


class SimulatedCrash(BaseException):
    """The process has died. Nothing catches it by accident, since it is no ``Exception``."""


class Faults:
    """Counts operations and decides which of them goes wrong.

    Args:
        crash_at: The operation, counted from 1, at which the process dies; every later one dies as well.
        when: Whether it dies before, in the middle of or after it.
        fail_at: The operation at which the storage refuses.
        error: How it refuses.
        persistent: Whether it refuses all later operations too.
    """

    def __init__(
        self,
        *,
        crash_at: int | None = None,
        when: When = "before",
        fail_at: int | None = None,
        error: int = errno.ENOSPC,
        persistent: bool = False,
    ) -> None:
        """Start counting."""
        self.crash_at = crash_at
        self.when = when
        self.fail_at = fail_at
        self.error = error
        self.persistent = persistent
        self.log: list[str] = []
        """Every operation so far, for messages and for tests that count."""

    @property
    def count(self) -> int:
        """How many operations there were."""
        return len(self.log)

    def run(self, name: str, call: Callable[[], _T], part: Callable[[], object] | None = None) -> _T:
        """Carry an operation out, or not.

        Args:
            name: What to call it in the log.
            call: The operation.
            part: What has happened when the process dies in the middle of it.
        """
        self.log.append(name)
        if self.crash_at is not None and self.count >= self.crash_at:
            first = self.count == self.crash_at
            if first and self.when == "during" and part is not None:
                part()
            if first and self.when == "after":
                call()
            raise SimulatedCrash(f"{self.when} operation {self.crash_at}: {name}")
        if self.fail_at is not None and (self.count == self.fail_at or (self.persistent and self.count > self.fail_at)):
            raise OSError(self.error, os.strerror(self.error), name)
        return call()


class FaultyOps(Ops):
    """The system calls of a local store, counted, with a disk that can lose what was not synced.

    Args:
        faults: Decides what goes wrong; nothing by default.
        syncs_the_way: Whether syncing a file or folder also makes the names on the way to it survive. POSIX does not
            ask for it; ext4, XFS, Btrfs and ZFS do it, because a file and its name are in the same transaction.
    """

    def __init__(self, faults: Faults | None = None, *, syncs_the_way: bool = False) -> None:
        """Begin with nothing synced."""
        self.faults = faults or Faults()
        self._syncs_the_way = syncs_the_way
        self._content: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, tuple[int, bool]]] = {}
        self._held: dict[int, int] = {}

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """Create one folder."""
        self.faults.run(f"mkdir {path.name}", lambda: super(FaultyOps, self).mkdir(path, mode))

    def write(self, path: Path, data: bytes) -> None:
        """Write a file; half of it when the process dies in the middle."""
        half = data[: len(data) // 2]
        self.faults.run(
            f"write {path.name}",
            lambda: super(FaultyOps, self).write(path, data),
            lambda: super(FaultyOps, self).write(path, half),
        )

    def write_parts(self, path: Path, parts: Iterable[memoryview]) -> None:
        """Write a file; its first part when the process dies in the middle."""
        self.faults.run(
            f"write {path.name}",
            lambda: super(FaultyOps, self).write_parts(path, parts),
            lambda: super(FaultyOps, self).write_parts(path, islice(parts, 1)),
        )

    def create(self, path: Path) -> None:
        """Create an empty file."""
        self.faults.run(f"create {path.name}", lambda: super(FaultyOps, self).create(path))

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file; half of it when the process dies in the middle."""
        self.faults.run(
            f"copy {target.name}",
            lambda: super(FaultyOps, self).copy(source, target),
            lambda: target.write_bytes(source.read_bytes()[: source.stat().st_size // 2]),
        )

    def fsync(self, path: Path) -> None:
        """Sync, and remember what would now survive."""
        self.faults.run(f"fsync {path.name}", lambda: self._fsync(path))

    def rename(self, source: Path, target: Path) -> None:
        """Rename."""
        self.faults.run(f"rename {source.name} {target.name}", lambda: super(FaultyOps, self).rename(source, target))

    def link(self, source: Path, target: Path) -> None:
        """Make a hard link."""
        self.faults.run(f"link {target.name}", lambda: super(FaultyOps, self).link(source, target))

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        self.faults.run(f"unlink {path.name}", lambda: super(FaultyOps, self).unlink(path))

    def rmdir(self, path: Path) -> None:
        """Remove a folder."""
        self.faults.run(f"rmdir {path.name}", lambda: super(FaultyOps, self).rmdir(path))

    def sync_all(self, root: Path) -> None:
        """Take everything below ``root`` as synced, without counting it."""
        for parent, _, names in os.walk(root):
            for name in names:
                self._remember(Path(parent, name))
            self._remember(Path(parent))

    def lose_power(self, root: Path) -> None:
        """Bring ``root`` to what a loss of power would leave of it at the very worst: nothing that was not synced.

        A folder has just the entries that it had when it was last synced, so a file can be back that was deleted or
        renamed since; a file has the content that it had when it was last synced, or none.
        """
        number = root.stat().st_ino
        shutil.rmtree(root)
        self._build(number, root, is_folder=True)
        self.close()

    def close(self) -> None:
        """Forget what would survive."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()
        self._content.clear()
        self._entries.clear()

    def _fsync(self, path: Path) -> None:
        # A simulated disk need not be synced really, which would make a scenario with many crashes slow.
        self._remember(path)
        while self._syncs_the_way and path != path.parent:
            info = path.lstat()
            above = self._entries.setdefault(self._hold(path.parent), {})
            above[path.name] = info.st_ino, stat.S_ISDIR(info.st_mode)
            path = path.parent

    def _remember(self, path: Path) -> None:
        number = self._hold(path)
        descriptor = self._held[number]
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self._entries[number] = {
                entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in os.scandir(path)
            }
        else:
            self._content[number] = path.read_bytes()

    def _hold(self, path: Path) -> int:
        """Return the file's number. While the file is open, no other one can be given it and be mistaken for it."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        number = os.fstat(descriptor).st_ino
        if number in self._held:
            os.close(descriptor)
        self._held.setdefault(number, descriptor)
        return number

    def _build(self, number: int, path: Path, *, is_folder: bool) -> None:
        if not is_folder:
            path.write_bytes(self._content.get(number, b""))
            return
        path.mkdir()
        for name, (inner, inner_is_folder) in self._entries.get(number, {}).items():
            self._build(inner, path / name, is_folder=inner_is_folder)


class FaultyStore:
    """A store around another one, with each call that changes something counted.

    Args:
        store: The store that does the work.
        faults: Decides what goes wrong; nothing by default.
    """

    def __init__(self, store: Store, faults: Faults | None = None) -> None:
        """Put the faults around the store."""
        self._store = store
        self.faults = faults or Faults()

    @property
    def uri(self) -> str:
        """The URI of the store inside."""
        return self._store.uri

    def scratch(self, staging: str) -> Path:
        """Count it, then do it."""
        return self._run(f"scratch {staging}", lambda: self._store.scratch(staging))

    def persist(self, staging: str, files: Sequence[str]) -> None:
        """Count it, then do it; half of the files when the process dies in the middle."""
        self._run(f"persist {staging}", lambda: self._store.persist(staging, files))

    def clone(self, folder: str, staging: str) -> None:
        """Count it, then do it."""
        self._run(f"clone {folder}", lambda: self._store.clone(folder, staging))

    def commit(self, staging: str, folder: str, manifest: bytes) -> None:
        """Count it, then do it."""
        self._run(f"commit {folder}", lambda: self._store.commit(staging, folder, manifest))

    def remove(self, folder: str, *, aside: str = "") -> None:
        """Count it, then do it."""
        self._run(f"remove {folder}", lambda: self._store.remove(folder, aside=aside))

    def sizes(self, folder: str) -> dict[str, int]:
        """Pass it on."""
        return self._store.sizes(folder)

    def read(self, key: str) -> bytes:
        """Pass it on."""
        return self._store.read(key)

    def put_if_absent(self, key: str, data: bytes) -> PutOutcome:
        """Count it, then do it. A store that refuses has lost the reply: the write is done, and nobody knows."""
        try:
            return self._run(f"put {key}", lambda: self._store.put_if_absent(key, data))
        except StorageError:
            self._store.put_if_absent(key, data)
            return PutOutcome.UNKNOWN

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """Pass it on."""
        return self._store.read_tagged(key)

    def replace(self, key: str, data: bytes, tag: str | None) -> PutOutcome:
        """Count it, then do it. As with ``put_if_absent``, a store that refuses has lost the reply."""
        try:
            return self._run(f"replace {key}", lambda: self._store.replace(key, data, tag))
        except StorageError:
            self._store.replace(key, data, tag)
            return PutOutcome.UNKNOWN

    def data_folder(self, staging: str) -> str:
        """Pass it on."""
        return self._store.data_folder(staging)

    def abort_uploads(self, older_than_s: float) -> list[str]:
        """Pass it on."""
        return self._store.abort_uploads(older_than_s)

    def has(self, folder: str) -> bool:
        """Pass it on."""
        return self._store.has(folder)

    def local(self, folder: str) -> Path:
        """Pass it on."""
        return self._store.local(folder)

    def _run(self, name: str, call: Callable[[], _T]) -> _T:
        try:
            return self.faults.run(name, call)
        except (StorageError, FileNotFoundError):
            raise
        except OSError as error:
            raise StorageError(f"could not {name}: {error.strerror}", errno=error.errno) from error
