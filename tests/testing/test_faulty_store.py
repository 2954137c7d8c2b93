"""The fake must fail as real storage does, or the tests that rely on it prove nothing."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tunekit.errors import StorageError
from tunekit.store import MemoryStore, PutOutcome
from tunekit.testing.faulty_store import Faults, FaultyOps, FaultyStore, SimulatedCrash


def test_a_crash_is_final(tmp_path: Path) -> None:
    ops = FaultyOps(Faults(crash_at=2))
    ops.mkdir(tmp_path / "a")
    for _ in range(2):
        with pytest.raises(SimulatedCrash):
            ops.mkdir(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(("when", "content"), [("before", None), ("during", b"12"), ("after", b"1234")])
def test_a_write_can_be_torn(tmp_path: Path, when: str, content: bytes | None) -> None:
    ops = FaultyOps(Faults(crash_at=1, when=when))  # type: ignore[arg-type]
    with pytest.raises(SimulatedCrash):
        ops.write(tmp_path / "a", b"1234")
    assert ((tmp_path / "a").read_bytes() if (tmp_path / "a").exists() else None) == content


def test_a_copy_can_be_torn(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    with pytest.raises(SimulatedCrash):
        FaultyOps(Faults(crash_at=1, when="during")).copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"12"


@pytest.mark.parametrize(("persistent", "refused"), [(False, 1), (True, 2)])
def test_a_disk_refuses_once_or_for_good(tmp_path: Path, persistent: bool, refused: int) -> None:  # noqa: FBT001
    ops = FaultyOps(Faults(fail_at=2, error=errno.EIO, persistent=persistent))
    count = 0
    for name in "abc":
        try:
            ops.write(tmp_path / name, b"")
        except OSError as error:
            count += error.errno == errno.EIO
    assert count == refused


def test_a_loss_of_power_takes_what_was_not_synced(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    ops = FaultyOps()
    for name in ("synced", "no content", "renamed", "deleted", "changed"):
        ops.write(root / name, b"old")
    for name in ("synced", "renamed", "deleted", "changed"):
        ops.fsync(root / name)
    ops.fsync(root)
    ops.write(root / "no entry", b"x")
    ops.fsync(root / "no entry")
    ops.rename(root / "renamed", root / "other name")
    ops.unlink(root / "deleted")
    ops.write(root / "changed", b"new")
    ops.mkdir(root / "folder")
    ops.lose_power(root)
    assert {path.name: path.read_bytes() for path in root.iterdir()} == {
        "synced": b"old", "no content": b"", "renamed": b"old", "deleted": b"old", "changed": b"old",
    }  # fmt: skip


def test_a_synced_rename_survives(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    (root / "from").mkdir(parents=True)
    (root / "to").mkdir()
    (root / "from" / "file").write_bytes(b"1")
    ops = FaultyOps()
    ops.sync_all(root)
    ops.rename(root / "from" / "file", root / "to" / "file")
    ops.fsync(root / "to")
    ops.lose_power(root)
    assert (root / "to" / "file").read_bytes() == b"1"
    assert (root / "from" / "file").read_bytes() == b"1", "the old name goes only with a sync of its own folder"


def test_a_lost_reply_is_unknown_and_written() -> None:
    store = FaultyStore(MemoryStore("memory://lost-reply"), Faults(fail_at=1))
    assert store.put_if_absent("key", b"mine") is PutOutcome.UNKNOWN
    assert store.put_if_absent("key", b"mine") is PutOutcome.MINE


def test_a_store_that_refuses_speaks_of_storage() -> None:
    store = FaultyStore(MemoryStore("memory://refuses"), Faults(fail_at=1))
    with pytest.raises(StorageError, match="No space left on device"):
        store.scratch(".staging/a.1.1")
    assert store.faults.log == ["scratch .staging/a.1.1"]
