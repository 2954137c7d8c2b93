"""How a file of the user is copied: by sharing its blocks, else in the kernel, else through memory; never by a link."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from tunekit.store import CheckpointIO, LocalStore
from tunekit.store.ops import _FICLONE, Ops

DATA = os.urandom(100_000)
WAYS = ["reflink", "kernel", "memory"]


class FileSystem:
    """Says which ways to copy were tried, and refuses some of them.

    Args:
        refused: An error number by the way that is refused with it.
        stops_after: Bytes after which copying in the kernel is refused.
    """

    def __init__(self, patch: pytest.MonkeyPatch, refused: dict[str, int], stops_after: int = 0) -> None:
        self.tried: list[str] = []
        self.left = stops_after
        self.refused = refused
        self._range, self._read = os.copy_file_range, os.read
        patch.setattr(fcntl, "ioctl", self.ioctl)
        patch.setattr(os, "copy_file_range", self.copy_file_range)
        patch.setattr(os, "read", self.read)

    def ioctl(self, writer: int, request: int, reader: int) -> int:
        assert request == _FICLONE
        self.enter("reflink")
        os.sendfile(writer, reader, 0, os.fstat(reader).st_size)
        os.lseek(reader, 0, os.SEEK_END)
        return 0

    def copy_file_range(self, reader: int, writer: int, count: int) -> int:
        if self.left == 0:
            self.enter("kernel")
            return self._range(reader, writer, count)
        self.tried.append("kernel")
        part = self._range(reader, writer, min(count, self.left))
        self.left -= part
        self.refused["kernel"] = errno.EINVAL
        return part

    def read(self, *args: Any) -> bytes:
        self.enter("memory")
        return self._read(*args)

    def enter(self, way: str) -> None:
        self.tried.append(way)
        if way in self.refused:
            raise OSError(self.refused[way], os.strerror(self.refused[way]))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "mine").write_bytes(DATA)
    return tmp_path / "mine"


def in_order(tried: list[str]) -> list[str]:
    return [way for way in WAYS if way in tried]


REFUSALS = [errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ETXTBSY]


@pytest.mark.parametrize("refusal", REFUSALS, ids=errno.errorcode.get)
@pytest.mark.parametrize("num_refused", [0, 1, 2])
def test_the_cheapest_way_that_the_file_system_has(
    source: Path, monkeypatch: pytest.MonkeyPatch, refusal: int, num_refused: int
) -> None:
    system = FileSystem(monkeypatch, dict.fromkeys(WAYS[:num_refused], refusal))
    Ops().copy(source, source.with_name("copy"))
    assert source.with_name("copy").read_bytes() == DATA
    tried = list(dict.fromkeys(system.tried))
    assert tried[: num_refused + 1] == WAYS[: num_refused + 1]
    assert tried == in_order(tried)
    assert num_refused > 0 or system.tried == ["reflink"]


def test_what_the_kernel_stops_copying_is_finished_through_memory(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = FileSystem(monkeypatch, {"reflink": errno.EOPNOTSUPP}, stops_after=30_000)
    Ops().copy(source, source.with_name("copy"))
    assert source.with_name("copy").read_bytes() == DATA
    assert list(dict.fromkeys(system.tried)) == WAYS


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("way", ["reflink", "kernel"])
def test_a_full_or_broken_disk_is_no_reason_to_try_another_way(
    source: Path, monkeypatch: pytest.MonkeyPatch, way: str, number: int
) -> None:
    system = FileSystem(monkeypatch, {"reflink": errno.EOPNOTSUPP, way: number})
    with pytest.raises(OSError, match=os.strerror(number)):
        Ops().copy(source, source.with_name("copy"))
    assert system.tried[-1] == way


def test_a_file_without_content_is_copied(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    Ops().copy(tmp_path / "empty", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


def test_files_of_the_user_are_copied_and_not_linked(tmp_path: Path) -> None:
    """S003-5: whatever the user does to the files afterwards, in place too, the checkpoint stays as it was."""
    io = CheckpointIO(LocalStore(tmp_path / "e"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model").write_bytes(DATA)
    io.adopt(mine, "train_00007", 5, 1, move=False)
    io.publish("train_00007", 5, 1, io.seal("train_00007", 5, 1, metadata={}))
    kept = io.verify("train_00007", 5) / "model"
    assert not kept.samefile(mine / "model")
    assert (kept.stat().st_nlink, (mine / "model").stat().st_nlink) == (1, 1)
    with (mine / "model").open("r+b") as file:
        file.write(b"changed in place")
    io.verify("train_00007", 5)
