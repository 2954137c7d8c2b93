"""A store in a local folder, or in one that all machines have mounted at the same place.

A checkpoint is staged inside the experiment folder, so that publishing it is a rename: the same few microseconds for a
byte and for a terabyte. The order of the syncs is what makes a loss of power harmless:

1. ``persist``: the files, then every folder inside the staged one, from the bottom up.
2. ``commit``: the manifest, the folder that it was added to; then the rename; then the folder that it was renamed into.

So a visible manifest implies that everything it lists is on the disk. What is staged survives the death of any process;
a loss of power may take it on file systems that do not write a file's way down with the file, which costs the save that
was under way and nothing else. Deleting syncs nothing: a deletion that a loss of power undoes costs space.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from tunekit.errors import StorageError
from tunekit.store import folders, layout
from tunekit.store.base import PutOutcome, Renaming, content_tag, storage_error, storage_errors
from tunekit.store.ops import Ops

_PRIVATE = 0o700
_PATIENCE = 100
"""Tries; each costs microseconds, and losing even three in a row takes bad luck."""
_IN_USE = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.EBUSY}
_NO_FILE = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
"""How opening fails when there is something else than a regular file, or a file above it."""


class LocalStore(Renaming):
    """Files below ``root``.

    Args:
        root: Absolute path of the experiment's folder.
        ops: How the folder is changed; replaced by tests.
        create: Whether to create the folder, for its owner only, when it is not there.

    Raises:
        StorageError: ``root`` is a file, cannot be reached, or does not exist and cannot be created.
    """

    def __init__(self, root: Path, *, ops: Ops | None = None, create: bool = True) -> None:
        """Look at the folder, and create it if asked to."""
        # Links that lead to it are the user's, and may lead elsewhere on another machine; below it, none is followed.
        self._given = root
        self._root = Path(os.path.realpath(root))
        self._ops = ops or Ops()
        self._open(create=create)

    def __repr__(self) -> str:
        """Return the class and the folder."""
        return f"LocalStore({str(self._root)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the folder's path; the receiver does not create it."""
        return (_reopen, (str(self._given),))

    @property
    def uri(self) -> str:
        """The folder's absolute path, without links."""
        return str(self._root)

    @property
    def ops(self) -> Ops:
        """How the folder is changed."""
        return self._ops

    def scratch(self, staging: str) -> Path:
        """Return a new, empty folder in place, so that nothing has to be copied later."""
        path = self._root / staging
        with storage_errors("create", path):
            self._discard(path)
            self._place(path, lambda: self._ops.mkdir(path))
        return path

    def persist(self, staging: str, files: Sequence[str]) -> None:
        """Sync the files and the folders inside; ``commit`` syncs the one around them, with the manifest in it."""
        path = self._root / staging
        inner = {parent for name in files for parent in Path(name).parents} - {Path()}
        with storage_errors("write to", path):
            for name in files:
                self._ops.fsync(path / name)
            for folder in sorted(inner, key=lambda folder: (-len(folder.parts), folder)):
                self._ops.fsync(path / folder)

    def clone(self, folder: str, staging: str) -> None:
        """Give the files a second name: what is published is never written to again, so both may be the same file."""
        source = self.local(folder)
        with storage_errors("clone", source, absent_is_answer=True):
            target = self.scratch(staging)
            try:
                self.persist(staging, folders.link_into(self._ops, source, target, skip=[layout.MANIFEST]))
            except Exception:
                with contextlib.suppress(OSError):
                    self._discard(target)
                raise

    def commit(self, staging: str, folder: str, manifest: bytes) -> None:
        """Write the manifest into the staged folder, then rename that into place."""
        source, target = self._root / staging, self._root / folder
        trash = self._root / layout.trash_name(folder)
        with storage_errors("publish", target, absent_is_answer=True):
            if source.is_dir():
                self._ops.write(source / layout.MANIFEST, manifest)
                self._ops.fsync(source / layout.MANIFEST)
                self._ops.fsync(source)
                if os.path.lexists(target):
                    self._move(target, trash)
                self._place(target, lambda: self._ops.rename(source, target))
            elif not target.is_dir():
                raise FileNotFoundError(errno.ENOENT, "neither staged nor published", str(target))
            self._ops.fsync(target.parent)
            if self._is_alone(target):
                # The first checkpoint of this trial: the entry of the trial's folder may not be durable yet, whether
                # we made it just now or a driver that died did.
                self._ops.fsync(target.parent.parent)
            folders.delete_tree(self._ops, trash)

    def remove(self, folder: str, *, aside: str = "") -> None:
        """Rename the folder out of sight, then delete it, its manifest first."""
        path = self._root / folder
        with storage_errors("remove", path):
            if aside:
                self._move(path, self._free_place(aside))
                return
            if folder.startswith("."):
                self._discard(path)
                self._tidy(path.parent)
                return
            trash = self._root / layout.trash_name(folder)
            self._move(path, trash)
            folders.delete_tree(self._ops, trash, first=layout.MANIFEST)
            self._tidy(trash.parent)

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of every file below ``folder``."""
        path = self._root / folder
        with storage_errors("read", path):
            return {} if path.is_symlink() else folders.sizes(path)

    def has(self, folder: str) -> bool:
        """Return whether there is such a folder."""
        path = self._root / folder
        return path.is_dir() and not path.is_symlink()

    def read(self, key: str) -> bytes:
        """Return the content of one regular file."""
        path = self._root / key
        with storage_errors("read", path, absent_is_answer=True):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError as error:
                if error.errno in _NO_FILE:
                    raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path)) from error
                raise
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
            with os.fdopen(descriptor, "rb") as file:
                return file.read()

    def put_if_absent(self, key: str, data: bytes) -> PutOutcome:
        """Write the bytes aside, then give them their name with a hard link, which fails where there is one."""
        path = self._root / key
        aside = path.with_name(f".{uuid.uuid4().hex}")
        try:
            self._place(aside, lambda: self._ops.write(aside, data))
            self._ops.fsync(aside)
            created = self._give_name(aside, path)
            self._sync_up(path.parent)
        except OSError:
            created = False
        with contextlib.suppress(OSError):
            self._ops.unlink(aside)
        return PutOutcome.CREATED if created else self._whose(path, data)

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """Return the content of one regular file, and its digest."""
        data = self.read(key)
        return data, content_tag(data)

    def replace(self, key: str, data: bytes, tag: str | None) -> PutOutcome:
        """Rename a file with the bytes over the one that has the tag, the folder being locked meanwhile."""
        if tag is None:
            return self.put_if_absent(key, data)
        path = self._root / key
        aside = path.with_name(f".{uuid.uuid4().hex}")
        try:
            with folders.locked(path.parent):
                found, found_tag = self.read_tagged(key)
                if found == data or found_tag != tag:
                    return PutOutcome.MINE if found == data else PutOutcome.LOST
                self._ops.write(aside, data)
                self._ops.fsync(aside)
                self._ops.rename(aside, path)
                self._ops.fsync(path.parent)
        except FileNotFoundError:
            return PutOutcome.LOST
        except (OSError, StorageError):
            with contextlib.suppress(OSError):
                self._ops.unlink(aside)
            return PutOutcome.UNKNOWN
        return PutOutcome.CREATED

    def local(self, folder: str) -> Path:
        """Return the folder itself."""
        path = self._root / folder
        if path.is_symlink() or not path.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such folder", str(path))
        return path

    def _give_name(self, aside: Path, path: Path) -> bool:
        """Return whether ``path`` was free and now is the file ``aside``."""
        try:
            self._ops.link(aside, path)
        except FileExistsError:
            # Over a network the reply to a link that was made may have been lost.
            return aside.samefile(path)
        except OSError as error:
            if error.errno not in folders.NO_LINKS:
                raise
            with contextlib.suppress(FileExistsError):
                self._ops.create(path)
                self._ops.rename(aside, path)
                return True
            return False
        return True

    def _whose(self, path: Path, data: bytes) -> PutOutcome:
        try:
            return PutOutcome.MINE if path.read_bytes() == data else PutOutcome.LOST
        except OSError:
            return PutOutcome.UNKNOWN

    def _open(self, *, create: bool) -> None:
        try:
            exists = stat.S_ISDIR(self._root.stat().st_mode)
        except FileNotFoundError:
            if not create:
                raise storage_error("open", self._root, FileNotFoundError(errno.ENOENT, "")) from None
            with storage_errors("create", self._root):
                self._make_root(self._root, _PRIVATE)
            return
        except OSError as error:
            raise storage_error("open", self._root, error) from error
        if not exists:
            raise storage_error("open", self._root, NotADirectoryError(errno.ENOTDIR, ""))

    def _make_root(self, path: Path, mode: int) -> None:
        if not path.parent.exists():
            self._make_root(path.parent, 0o777)
        with contextlib.suppress(FileExistsError):
            self._ops.mkdir(path, mode)
        self._ops.fsync(path.parent)

    def _place(self, path: Path, put: Callable[[], None]) -> None:
        """Put something at ``path`` after making the folder that is to hold it.

        Folders that nothing is left in are removed at any time by whoever notices, so the folder may disappear between
        the two steps; then both are done again.
        """
        for left in reversed(range(_PATIENCE)):
            try:
                self._make(path.parent)
                put()
            except FileNotFoundError:
                if not left:
                    raise
            else:
                return

    def _make(self, folder: Path) -> None:
        if folder == self._root or folder.is_dir():
            return
        self._make(folder.parent)
        with contextlib.suppress(FileExistsError):
            self._ops.mkdir(folder)

    def _sync_up(self, folder: Path) -> None:
        """Sync a folder and those that it lies in, up to the root."""
        while True:
            self._ops.fsync(folder)
            if folder == self._root:
                return
            folder = folder.parent

    def _move(self, source: Path, target: Path) -> None:
        """Rename; ``source`` may be gone already, and what is in the way of it goes first."""
        if not os.path.lexists(source):
            return
        folders.delete_tree(self._ops, target)
        self._place(target, lambda: self._ops.rename(source, target))

    def _discard(self, path: Path) -> None:
        """Delete what nobody needs, but somebody may still write into: a worker of a driver that died.

        It is renamed first, so that such a worker does not find it any more, to a name that nothing else has.
        """
        if not os.path.lexists(path):
            return
        trash = self._root / layout.TRASH
        if path.parent == trash:
            folders.delete_tree(self._ops, path)
            return
        target = trash / f"{path.name}.{uuid.uuid4().hex}"
        try:
            self._place(target, lambda: self._ops.rename(path, target))
        except OSError:
            target = path  # A full disk may have no room for another folder.
        folders.delete_tree(self._ops, target)
        self._tidy(trash)

    @staticmethod
    def _is_alone(path: Path) -> bool:
        """Return whether nothing else is in the folder. Looks at two entries, however many there are."""
        with os.scandir(path.parent) as entries:
            return len(list(islice(entries, 2))) == 1

    def _free_place(self, aside: str) -> Path:
        place = self._root / aside
        count = 1
        while os.path.lexists(place):
            count += 1
            place = self._root / f"{aside}-{count}"
        return place

    def _tidy(self, parent: Path) -> None:
        """Remove a parent that nothing is left in: a folder is there only while it is needed."""
        try:
            self._ops.rmdir(parent)
        except OSError as error:
            if error.errno not in _IN_USE:
                raise


def _reopen(root: str) -> LocalStore:
    return LocalStore(Path(root), create=False)
