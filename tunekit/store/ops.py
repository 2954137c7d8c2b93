"""The system calls by which a local folder is changed, one method each.

Everything that tunekit itself writes to a local disk goes through these few calls, so that a test can stop the world
before, in the middle of and after each of them (``tunekit.testing.FaultyOps``). User code writes as it likes.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

_FICLONE = 0x40049409
"""ioctl number of Linux: make a file share the blocks of another one (XFS, Btrfs, ZFS; ext4 refuses)."""
_CHUNK = 1 << 24
_NO_USE_TRYING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE}
"""Errors that speak of the disk. By any other one a file system says that it cannot copy in this way, each by its own:
EXDEV, EOPNOTSUPP, ENOSYS, EINVAL, ENOTTY, EPERM, EBADF, ETXTBSY have been seen.
"""


class Ops:
    """The operating system's own calls."""

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """Create one folder."""
        path.mkdir(mode)

    def write(self, path: Path, data: bytes) -> None:
        """Create a file, or replace its content. Not durable before ``fsync``."""
        path.write_bytes(data)

    def write_parts(self, path: Path, parts: Iterable[memoryview]) -> None:
        """Create a file, or replace its content, part after part. Not durable before ``fsync``."""
        with path.open("wb", buffering=0) as writer:
            for part in parts:
                rest = part
                while rest:
                    rest = rest[os.write(writer.fileno(), rest) :]

    def copy(self, source: Path, target: Path) -> None:
        """Copy one file's content: by sharing blocks, else inside the kernel, else through memory."""
        with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
            if not _clone(reader.fileno(), writer.fileno()):
                _copy_bytes(reader.fileno(), writer.fileno())

    def fsync(self, path: Path) -> None:
        """Make a file's content, or a folder's entries, survive a loss of power."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network file systems cannot sync a folder; they write its entries through by themselves.
            if error.errno != errno.EINVAL or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise
        finally:
            os.close(descriptor)

    def create(self, path: Path) -> None:
        """Create an empty file, which must not exist."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or folder another name at once. An empty folder of that name is replaced."""
        source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, which must not exist."""
        target.hardlink_to(source)

    def unlink(self, path: Path) -> None:
        """Remove a file's name."""
        path.unlink()

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()


def _clone(reader: int, writer: int) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415  # not there on every platform

    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError as error:
        if error.errno in _NO_USE_TRYING:
            raise
        return False
    return True


def _copy_bytes(reader: int, writer: int) -> None:
    """Copy until the end. Some file systems refuse the call in the kernel, and some only after a first part."""
    try:
        while hasattr(os, "copy_file_range") and os.copy_file_range(reader, writer, _CHUNK):
            pass
    except OSError as error:
        if error.errno in _NO_USE_TRYING:
            raise
    while chunk := os.read(reader, _CHUNK):
        view = memoryview(chunk)
        while view:
            view = view[os.write(writer, view) :]
