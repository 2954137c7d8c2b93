"""What nobody needs any more is removed as far as that is possible, and never stops anybody.

Workers of a driver that was killed may live for a while, and write into what the next driver wants to remove.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunekit.store import CheckpointIO, LocalStore, folders, layout
from tunekit.store.ops import Ops
from tunekit.testing.faulty_store import Faults, FaultyOps

TRIAL = "train_00007"


class Zombie(Ops):
    """While things are removed, somebody writes into ``folder`` as long as it is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def write_late(self) -> None:
        self.count += 1
        with contextlib.suppress(FileNotFoundError):
            (self.folder / f"late{self.count}").write_bytes(b"x")

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.write_late()

    def rmdir(self, path: Path) -> None:
        self.write_late()
        super().rmdir(path)


class Holder(Zombie):
    """Writes even where the folder was renamed to, because it has it open."""

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        if source == self.folder:
            self.folder = target


def staged(root: Path) -> Path:
    folder = CheckpointIO(LocalStore(root)).begin(TRIAL, 3, 1)
    (folder / "model").write_bytes(b"weights")
    return folder


def test_what_a_later_attempt_staged_is_that_of_another_driver(tmp_path: Path) -> None:
    """A driver that has been taken over from does not know of it, and does not take it away."""
    io = CheckpointIO(LocalStore(tmp_path))
    for trial, attempt in ((TRIAL, 1), (TRIAL, 2), (TRIAL, 3), ("other_00009", 1)):
        (io.begin(trial, 3, attempt) / "model").write_bytes(b"weights")
    assert io.sweep(attempts={TRIAL: 2}) == [layout.staging_name(TRIAL, 3, 1), layout.staging_name(TRIAL, 3, 2)]
    assert io.sweep() == [layout.staging_name("other_00009", 3, 1), layout.staging_name(TRIAL, 3, 3)]


def test_sweeping_below_a_writer(tmp_path: Path) -> None:
    ops = Zombie(staged(tmp_path))
    io = CheckpointIO(LocalStore(tmp_path, ops=ops), ops=ops)
    assert io.sweep() == [layout.staging_name(TRIAL, 3, 1)]
    assert ops.count
    assert list(tmp_path.iterdir()) == []


def test_sweeping_below_a_writer_that_has_the_folder_open(tmp_path: Path) -> None:
    ops = Holder(staged(tmp_path))
    io = CheckpointIO(LocalStore(tmp_path, ops=ops), ops=ops)
    io.sweep()
    assert not (tmp_path / layout.STAGING).exists()
    assert list((tmp_path / layout.TRASH).iterdir()) == [ops.folder]
    CheckpointIO(LocalStore(tmp_path)).sweep()
    assert list(tmp_path.iterdir()) == []


def test_staging_anew_below_a_writer(tmp_path: Path) -> None:
    """A driver that died before it journalled the attempt counts the next one alike."""
    ops = Zombie(staged(tmp_path))
    folder = CheckpointIO(LocalStore(tmp_path, ops=ops), ops=ops).begin(TRIAL, 3, 1)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", range(1, 9))
def test_sweeping_on_a_disk_that_refuses(tmp_path: Path, number: int) -> None:
    for iteration in (1, 2):
        CheckpointIO(LocalStore(tmp_path)).begin(TRIAL, iteration, 1)
    ops = FaultyOps(Faults(fail_at=number, error=errno.EIO, persistent=True))
    CheckpointIO(LocalStore(tmp_path, ops=ops), ops=ops).sweep()
    ops.close()
    CheckpointIO(LocalStore(tmp_path)).sweep()
    assert list(tmp_path.iterdir()) == []


def test_one_place_that_cannot_be_removed_does_not_keep_the_others(tmp_path: Path) -> None:
    class Stubborn(Ops):
        def rename(self, source: Path, target: Path) -> None:
            if source.name.endswith(".1.1"):
                raise PermissionError(errno.EACCES, "no")
            super().rename(source, target)

        def rmdir(self, path: Path) -> None:
            if path.name.endswith(".1.1"):
                raise PermissionError(errno.EACCES, "no")
            super().rmdir(path)

    ops = Stubborn()
    io = CheckpointIO(LocalStore(tmp_path, ops=ops), ops=ops)
    for iteration in (1, 2):
        io.begin(TRIAL, iteration, 1)
    assert io.sweep() == [layout.staging_name(TRIAL, 2, 1)]
    assert [path.name for path in (tmp_path / layout.STAGING).iterdir()] == [f"{TRIAL}.1.1"]


def test_sizes_of_a_folder_in_which_something_disappears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another trial, removed at this moment, must not hide all others."""
    for name in ("a", "deep/b", "gone/c", "vanishing"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    original = os.scandir

    @contextlib.contextmanager
    def scandir(path: Path) -> Iterator[Any]:
        with original(path) as found:
            entries = list(found)
        (tmp_path / "vanishing").unlink(missing_ok=True)
        if path == tmp_path / "gone":
            raise FileNotFoundError(errno.ENOENT, "gone", str(path))
        yield entries

    monkeypatch.setattr(os, "scandir", scandir)
    assert folders.sizes(tmp_path) == {"a": 5, "deep/b": 5, "gone/": 0}
    assert folders.sizes(tmp_path / "not there") == {}
