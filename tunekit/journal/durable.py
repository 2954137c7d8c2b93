"""Writing to a local file system so that what was written is there after a crash."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

_NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})
"""What file systems without hard links (exFAT, many network and user-space ones) answer."""


def write_all(fd: int, data: bytes) -> None:
    """Write everything, however many calls the system makes of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: files that were created, renamed or removed."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Create a folder durably, with its parents; leave one that exists as it is."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=mode)
    sync_folder(folder.parent)


def cut(path: Path, size: int) -> None:
    """Cut a file to its first ``size`` bytes, or remove it when nothing is to remain; durably."""
    if size == 0:
        path.unlink()
        sync_folder(path.parent)
        return
    fd = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    finally:
        os.close(fd)


def cut_same(path: Path, size: int, same: os.stat_result) -> None:
    """Cut a file to its first ``size`` bytes, durably, if it is still the same one. Its name stays in any case."""
    fd = os.open(path, os.O_WRONLY)
    try:
        if os.path.samestat(os.fstat(fd), same):
            os.ftruncate(fd, size)
            os.fsync(fd)
    finally:
        os.close(fd)


def create_file(path: Path, data: bytes) -> None:
    """Write a new file that is either there as a whole or not at all.

    On a file system without hard links the caller must be the only one who creates it.

    Raises:
        FileExistsError: There is a file of this name; it is left as it is.
    """
    draft = _write_draft(path, data)
    try:
        _link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def _link(draft: Path, path: Path) -> None:
    """Give the draft its name, unless there is a file of that name."""
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        draft.replace(path)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file over an older one, so that a reader finds the one or the other as a whole."""
    draft = _write_draft(path, data)
    try:
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_drafts(folder: Path) -> None:
    """Remove what a process left beside its files that was killed while it wrote. Nobody may be writing there now."""
    for draft in folder.glob(".*.draft"):
        draft.unlink(missing_ok=True)


def _write_draft(path: Path, data: bytes) -> Path:
    """Write the data, durably, beside ``path``."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(fd, data)
        os.fsync(fd)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return draft
