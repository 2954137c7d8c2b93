"""Local folders with files of user code: what is in them, what their content is, how they are taken over."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import xxhash

from tunekit.errors import SaveError
from tunekit.store.layout import MANIFEST, path_problem
from tunekit.store.ops import Ops

_BUFFER_BYTES = 1 << 20
"""Small enough to stay in the processor's cache between reading and hashing, large enough to make calls rare."""
_SMALL_BYTES = 1 << 16
"""Where a map of its own begins to pay."""

NOT_A_FILE = -1
"""Size of what is not a regular file."""

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"""How file systems that cannot link a file refuse to."""
_NOT_EMPTY = {errno.ENOTEMPTY, errno.EEXIST}
_DROPPINGS = (".DS_Store", "Thumbs.db", "desktop.ini")
"""What desktop systems leave in every folder that somebody looked at."""


def walk(folder: Path, prefix: str = "", *, skips_gone: bool = False) -> Iterator[tuple[str, os.stat_result]]:
    """Yield everything below ``folder`` with its relative path, parents first, in sorted order, following no link.

    Args:
        folder: Where to begin.
        prefix: Goes before each path.
        skips_gone: Whether what disappears meanwhile is left out, rather than an error; not so ``folder`` itself.
    """
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    gone = (FileNotFoundError, NotADirectoryError) if skips_gone else ()
    for entry in entries:
        try:
            info = entry.stat(follow_symlinks=False)
        except gone:
            continue
        yield prefix + entry.name, info
        if stat.S_ISDIR(info.st_mode):
            with contextlib.suppress(*gone):
                yield from walk(Path(entry.path), f"{prefix}{entry.name}/", skips_gone=skips_gone)


def sizes(folder: Path) -> dict[str, int]:
    """Return what ``Store.sizes`` returns, for a local folder."""
    found: dict[str, int] = {}
    try:
        for name, info in walk(folder, skips_gone=True):
            found.pop(f"{name.rpartition('/')[0]}/", None)
            if stat.S_ISDIR(info.st_mode):
                found[f"{name}/"] = 0
            else:
                found[name] = info.st_size if stat.S_ISREG(info.st_mode) else NOT_A_FILE
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return found


def is_dropping(name: str) -> bool:
    """Return whether a file is one that systems leave behind by themselves, and so says nothing about damage."""
    last = name.rpartition("/")[2]
    return last in _DROPPINGS or last.startswith(".nfs")


def scan(folder: Path) -> tuple[list[str], list[str]]:
    """Return the files and the folders below ``folder``, relative and sorted, if they can become a checkpoint.

    Raises:
        SaveError: There is something else than files and folders, or a name that cannot be stored everywhere.
    """
    files: list[str] = []
    folders: list[str] = []
    problems: list[str] = []
    for name, info in walk(folder):
        kind = stat.S_IFMT(info.st_mode)
        if problem := _problem(name, kind):
            problems.append(f"{name!r}: {problem}")
        (folders if kind == stat.S_IFDIR else files).append(name)
    if problems:
        raise SaveError(
            f"the folder to be saved cannot be a checkpoint: {'; '.join(problems)}",
            hint="a checkpoint holds plain files and folders: copy what a link points to, and leave out the rest",
            problems=problems,
            path=str(folder),
        )
    return files, folders


def _problem(name: str, kind: int) -> str:
    if kind in _KINDS:
        return f"it is {_KINDS[kind]}, but must be a file or a folder"
    if name == MANIFEST:
        return "this name is reserved for the record that tunekit keeps in every checkpoint"
    return path_problem(name)


def digest(path: Path) -> tuple[int, str]:
    """Return size and xxh3-128 of a regular file's content.

    Raises:
        OSError: It cannot be read, or is a link.
    """
    hasher = xxhash.xxh3_128()
    size = 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file, _buffer(os.fstat(descriptor).st_size + 1) as buffer:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            size += count
    return size, hasher.hexdigest()


def _buffer(num_bytes: int) -> memoryview:
    """Return memory to read a file into, piece by piece.

    Some processors copy five times more slowly to an address that lies a few bytes behind a page's beginning, which is
    where a large ``bytearray`` begins. A map begins where a page does.
    """
    if num_bytes <= _SMALL_BYTES:
        return memoryview(bytearray(num_bytes))
    return memoryview(mmap.mmap(-1, min(_BUFFER_BYTES, num_bytes)))


def copy_into(ops: Ops, source: Path, target: Path, *, skip: Iterable[str] = ()) -> None:
    """Copy the content of ``source`` into the existing folder ``target``.

    Raises:
        SaveError: Something in ``source`` cannot be part of a checkpoint.
    """
    _transfer(ops, source, target, skip, lambda ops, source, target: ops.copy(source, target))


def link_into(ops: Ops, source: Path, target: Path, *, skip: Iterable[str] = ()) -> list[str]:
    """Give the files of ``source`` a second name in the existing folder ``target``; copy those that cannot have one.

    Only for files that nobody writes to again: both names are the same file.

    Returns:
        The files, relative to ``target``.

    Raises:
        SaveError: Something in ``source`` cannot be part of a checkpoint.
    """
    return _transfer(ops, source, target, skip, _link_or_copy)


def _link_or_copy(ops: Ops, source: Path, target: Path) -> None:
    try:
        ops.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        ops.copy(source, target)


def _transfer(
    ops: Ops, source: Path, target: Path, skip: Iterable[str], put: Callable[[Ops, Path, Path], None]
) -> list[str]:
    """Make the folders of ``source`` in ``target``, have ``put`` make its files there, and return those."""
    left_out = set(skip)
    files: list[str] = []
    for name, info in walk(source):
        if name in left_out:
            continue
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            ops.mkdir(target / name)
        elif kind == stat.S_IFREG:
            put(ops, source / name, target / name)
            files.append(name)
        else:
            scan(source)  # raises, and names everything that is wrong at once
    return files


def delete_tree(ops: Ops, folder: Path, *, first: str = "") -> None:
    """Delete a folder with everything in it, ``first`` before the rest. What is gone already is fine.

    A folder into which somebody still writes may stay, and is not an error.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        _remove_if_possible(ops.unlink, folder)  # what a link points to is not ours to delete
        return
    if first:
        _remove_if_possible(ops.unlink, folder / first)
    try:
        found = list(walk(folder, skips_gone=True))
    except FileNotFoundError:
        found = []
    for name, info in reversed(found):
        remove = ops.rmdir if stat.S_ISDIR(info.st_mode) else ops.unlink
        _remove_if_possible(remove, folder / name)
    _remove_if_possible(ops.rmdir, folder)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the advisory lock of a folder; waits for it. Leaves no file behind, and ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_if_possible(remove: Callable[[Path], None], path: Path) -> None:
    try:
        remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise
