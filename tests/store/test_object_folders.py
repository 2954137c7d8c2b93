"""Local folders of a process that uploads and downloads: there while it lives, and gone afterwards."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from tunekit.errors import CheckpointCorruptError, StorageError
from tunekit.store import CheckpointIO
from tunekit.store.object_folders import LocalFolders
from tunekit.store.objects import ObjectStore
from tunekit.testing.faulty_objects import MemoryObjects


def test_local_folders_go_with_the_process(tmp_path: Path) -> None:
    living, dead = LocalFolders(tmp_path), LocalFolders(tmp_path)
    kept, left = living.new(), dead.new()
    assert dead._own is not None
    os.close(dead._own[2])  # as the operating system does when a process is killed
    dead._own = None
    with closing(LocalFolders(tmp_path)) as third:
        third.new()
        assert kept.is_dir()
        assert not left.exists()
    living.close()
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_there_whoever_looks_for_what_the_dead_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between being made and being locked, a folder looks like one of the dead to every other process."""
    lock, removed = fcntl.flock, list[int]()

    def flock(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not removed:
            removed.append(operation)
            with closing(LocalFolders(tmp_path)) as other:
                other.new()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with closing(LocalFolders(tmp_path)) as folders:
        assert folders.new().is_dir()
        assert removed
    assert list(tmp_path.iterdir()) == []


def test_the_lock_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed while it removes a folder leaves one that the next process can remove."""
    dead = LocalFolders(tmp_path)
    (dead.new() / "large").write_bytes(b"x")
    assert dead._own is not None
    os.close(dead._own[2])
    root, dead._own = dead._own[1], None
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: None if path == root else pytest.fail("killed"))
    with closing(LocalFolders(tmp_path)) as other, pytest.raises(pytest.fail.Exception):
        other.new()
    assert (root / ".lock").exists()
    monkeypatch.undo()
    with closing(LocalFolders(tmp_path)) as other:
        other.new()
        assert not root.exists()


def test_downloads_do_not_pile_up(tmp_path: Path) -> None:
    with closing(LocalFolders(tmp_path)) as folders:
        made = [folders.downloaded(lambda path: None) for _ in range(20)]
        assert [path.is_dir() for path in made] == [False] * 4 + [True] * 16

        def fails(path: Path) -> None:
            raise StorageError("gone")

        count = len(list(made[-1].parent.iterdir()))
        with pytest.raises(StorageError):
            folders.downloaded(fails)
        assert len(list(made[-1].parent.iterdir())) == count


def test_what_was_read_is_given_back_and_what_is_damaged_is_not_kept(tmp_path: Path) -> None:
    """A worker that goes on with trial after trial needs room for one checkpoint, not for all of them."""
    bucket = MemoryObjects("given back")
    with closing(LocalFolders(tmp_path)) as folders:
        io = CheckpointIO(ObjectStore(bucket, local_folders=folders))
        (io.begin("train_00007", 5, 1) / "model").write_bytes(b"weights")
        io.publish("train_00007", 5, 1, io.seal("train_00007", 5, 1, metadata={}))
        path = io.verify("train_00007", 5)
        assert (path / "model").read_bytes() == b"weights"
        [root] = tmp_path.iterdir()
        assert len(list(root.iterdir())) == 2
        io.release(path)
        io.release(path)
        assert [left.name for left in root.iterdir()] == [".lock"]
        bucket.put("train_00007/checkpoint_000005/d-1/model", b"WEIGHTS")
        with pytest.raises(CheckpointCorruptError):
            io.verify("train_00007", 5)
        assert [left.name for left in root.iterdir()] == [".lock"]


def test_to_see_that_a_manifest_is_gone_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of many gigabytes that somebody deleted in part is put aside inside the service."""
    bucket = MemoryObjects("in part")
    with closing(LocalFolders(tmp_path)) as folders:
        io = CheckpointIO(ObjectStore(bucket, local_folders=folders))
        bucket.put("train_00007/checkpoint_000005/model", b"weights")
        monkeypatch.setattr(bucket, "download", lambda *_: pytest.fail("downloaded"))
        io.quarantine("train_00007", 5, 1)
    assert list(bucket.held) == [".quarantine/train_00007.5.1/model"]
