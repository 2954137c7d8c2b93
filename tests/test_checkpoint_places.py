"""A checkpoint opened by its path alone, wherever it is and whatever brought it there."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tunekit.checkpoint import Checkpoint
from tunekit.errors import CheckpointCorruptError, CheckpointNotFoundError, CheckpointVersionError, StorageError
from tunekit.store import CheckpointIO, MemoryStore, layout, open_store
from tunekit.store import manifest as manifests
from tunekit.store.joining import joined, parent_of
from tunekit.store.manifest import FileEntry
from tunekit.store.ops import Ops

TRIAL = "train_00007"
_COUNT = itertools.count()


def publish(where: str | Path, iteration: int = 5) -> Checkpoint:
    io = CheckpointIO(open_store(where))
    folder = io.begin(TRIAL, iteration, 2)
    (folder / "model").write_bytes(b"weights")
    (folder / "deep").mkdir()
    (folder / "deep" / "opt").write_bytes(b"moments")
    io.publish(TRIAL, iteration, 2, io.seal(TRIAL, iteration, 2, metadata={"metrics": {"loss": 0.5}, "later": [1]}))
    return Checkpoint(f"{io.store.uri}/{layout.checkpoint_path(TRIAL, iteration)}")


def with_data_folder(checkpoint: Checkpoint) -> Checkpoint:
    """Give it the layout of an object store: the files in a folder of the attempt, the manifest above it."""
    home = Path(checkpoint.path)
    document = manifests.parse((home / layout.MANIFEST).read_bytes(), "")
    (home / "d-2").mkdir()
    for name in ("model", "deep"):
        (home / name).rename(home / "d-2" / name)
    document |= {"data": "d-2"}
    (home / layout.MANIFEST).write_bytes(manifests.encode({**document, "digest": manifests.digest(document)}))
    return checkpoint


def copytree(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", source, target], check=True)


def tar(source: Path, target: Path) -> None:
    with tarfile.open(target.with_suffix(".tar"), "w") as archive:
        archive.add(source, target.name)
    with tarfile.open(target.with_suffix(".tar")) as archive:
        archive.extractall(target.parent, filter="data")


def zipped(source: Path, target: Path) -> None:
    with zipfile.ZipFile(target.with_suffix(".zip"), "w") as archive:
        for path in source.rglob("*"):
            archive.write(path, f"{target.name}/{path.relative_to(source)}")
    with zipfile.ZipFile(target.with_suffix(".zip")) as archive:
        archive.extractall(target.parent)


def file_by_file(source: Path, target: Path) -> None:
    """As object stores are synchronised: no folders, only the keys of files."""
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


def moved(source: Path, target: Path) -> None:
    source.rename(target)


@pytest.mark.parametrize("layout_of", [lambda found: found, with_data_folder], ids=["beside", "inside"])
@pytest.mark.parametrize("take", [copytree, cp, tar, zipped, file_by_file, moved])
def test_it_knows_its_iteration_wherever_it_is_taken(
    tmp_path: Path, take: Callable[[Path, Path], None], layout_of: Callable[[Checkpoint], Checkpoint]
) -> None:
    """S003-5: by any tool, under any name."""
    source = layout_of(publish(tmp_path / "e"))
    take(Path(source.path), tmp_path / "any name")
    taken = Checkpoint(tmp_path / "any name")
    taken.verify()
    assert (taken.iteration, taken.metadata["trial_name"], taken.metadata["metrics"]) == (5, TRIAL, {"loss": 0.5})
    with taken.as_directory() as folder:
        assert Path(folder, "deep", "opt").read_bytes() == b"moments"


@pytest.mark.parametrize("layout_of", [lambda found: found, with_data_folder], ids=["beside", "inside"])
def test_a_copy_of_a_copy_is_a_checkpoint(tmp_path: Path, layout_of: Callable[[Checkpoint], Checkpoint]) -> None:
    """Its files lie beside its manifest, wherever they lay before; what the manifest tells stays."""
    source = layout_of(publish(tmp_path / "e"))
    copy = Checkpoint(Checkpoint(source.to_directory(tmp_path / "one")).to_directory(tmp_path / "two"))
    copy.verify()
    assert Path(copy.path, "model").read_bytes() == b"weights"
    assert copy.metadata == source.metadata


def test_an_experiment_that_was_moved_opens(tmp_path: Path) -> None:
    """S003-5: a handle is a path, so a new path is a new handle; nothing in the folder remembers the old one."""
    old = publish(tmp_path / "e")
    (tmp_path / "e").rename(tmp_path / "elsewhere")
    Checkpoint(tmp_path / "elsewhere" / layout.checkpoint_path(TRIAL, 5)).verify()
    with pytest.raises(CheckpointNotFoundError):
        old.verify()


def test_metadata_tell_all_that_was_remembered(tmp_path: Path) -> None:
    """Also what a later version wrote, and what an earlier one did not know yet."""
    metadata = publish(tmp_path / "e").metadata
    assert (metadata["later"], metadata["exact"], metadata["parent"], metadata["donor"]) == ([1], True, None, None)
    assert not {"files", "digest", "data"} & set(metadata)


def test_a_uri_leads_to_the_same_place(tmp_path: Path) -> None:
    local = publish(tmp_path / "a b" / "e")
    assert local.uri == f"file://{tmp_path}/a%20b/e/{layout.checkpoint_path(TRIAL, 5)}"
    assert Checkpoint(local.uri) == local
    remote = publish(f"memory://places/{next(_COUNT)}")
    assert remote.uri == remote.path


# -- elsewhere than on a local disk ------------------------------------------------------------------------------------


@pytest.fixture
def remote() -> Checkpoint:
    return publish(f"memory://places/{next(_COUNT)}")


def test_a_remote_one_is_a_copy_that_goes_away(remote: Checkpoint) -> None:
    with remote.as_directory() as folder:
        assert Path(folder, "deep", "opt").read_bytes() == b"moments"
    assert not Path(folder).exists()
    with pytest.raises(RuntimeError, match="of the user"), remote.as_directory() as folder:
        raise RuntimeError("of the user")
    assert not Path(folder).exists()


def test_looking_at_a_remote_one_fetches_its_manifest_alone(
    remote: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: MemoryStore, folder: str) -> Path:
        raise AssertionError("fetched everything")

    monkeypatch.setattr(MemoryStore, "local", refuse)
    assert (remote.iteration, remote.metadata["attempt"]) == (5, 2)


def test_every_fetch_of_a_remote_one_is_compared(remote: Checkpoint) -> None:
    """A transfer can do damage, each time anew."""
    with remote.as_directory():
        pass
    parent, name = parent_of(remote.path)
    MemoryStore(parent).write(f"{name}/model", b"Weights")
    with pytest.raises(CheckpointCorruptError, match="model"), remote.as_directory():
        pass


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", ("/a", "b")),
        ("/", ("", "")),
        ("memory://a/b/c", ("memory://a/b", "c")),
        ("memory://a", ("", "a")),
        ("s3://bucket/e/t?endpoint_override=http://h:9/x", ("s3://bucket/e?endpoint_override=http://h:9/x", "t")),
    ],
)  # fmt: skip
def test_what_says_how_to_reach_a_storage_stays_with_the_parent(path: str, expected: tuple[str, str]) -> None:
    assert parent_of(path) == expected


@pytest.mark.parametrize(
    "around", ["/a/b", "memory://a", "s3://bucket/e?endpoint_override=http://h:9/x", "s3://bucket"]
)
@pytest.mark.parametrize("name", ["train_00007", "half 50%", "why?", "a#b", "ü"])
def test_parting_undoes_joining(around: str, name: str) -> None:
    assert parent_of(joined(around, name)) == (around, name)


# -- damage ------------------------------------------------------------------------------------------------------------


def test_damaged_files_are_not_handed_out(tmp_path: Path) -> None:
    """Most loaders would take a flipped bit for a number."""
    checkpoint = publish(tmp_path / "e")
    Path(checkpoint.path, "model").write_bytes(b"Weights")
    with pytest.raises(CheckpointCorruptError, match="model: its content") as caught, checkpoint.as_directory():
        pass
    assert checkpoint.path in caught.value.message
    assert "another checkpoint of the trial" in caught.value.hint


def test_a_local_one_is_compared_once_for_each_handle(tmp_path: Path) -> None:
    checkpoint = publish(tmp_path / "e")
    with checkpoint.as_directory():
        pass
    Path(checkpoint.path, "model").write_bytes(b"Weights")
    with checkpoint.as_directory():
        pass
    for fresh in (Checkpoint(checkpoint.path), pickle.loads(pickle.dumps(checkpoint))):
        with pytest.raises(CheckpointCorruptError), fresh.as_directory():
            pass


def test_writing_into_one_is_told_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Some loaders leave a lock or a cache beside what they read, which would be found out when it is too late."""
    checkpoint = publish(tmp_path / "e")
    with checkpoint.as_directory() as folder:
        Path(folder, "deep", "opt.lock").touch()
    (record,) = caplog.records
    assert "deep/opt.lock: it is not in the manifest" in record.getMessage()
    assert "to_directory()" in record.getMessage()
    mine = tmp_path / "mine"
    mine.mkdir()
    with Checkpoint(mine).as_directory() as folder:
        Path(folder, "new").touch()
    assert len(caplog.records) == 1


def test_one_without_its_manifest_is_no_folder_of_the_user(tmp_path: Path) -> None:
    """Inside an experiment it is damage; anywhere else a folder may have that name."""
    checkpoint = publish(tmp_path / "e")
    Path(checkpoint.path, layout.MANIFEST).unlink()
    assert checkpoint.iteration is None
    (tmp_path / "e" / "experiment.json").write_text("{}")
    uses: list[Callable[[], object]] = [checkpoint.verify, checkpoint.to_directory, lambda: checkpoint.iteration]
    for use in uses:
        with pytest.raises(CheckpointCorruptError, match=r"MANIFEST\.json: it is missing"):
            use()


def test_a_linked_manifest_is_damage(tmp_path: Path) -> None:
    checkpoint = publish(tmp_path / "e")
    Path(checkpoint.path, layout.MANIFEST).rename(tmp_path / "elsewhere")
    Path(checkpoint.path, layout.MANIFEST).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointCorruptError, match=r"MANIFEST\.json: it is not a regular file"):
        checkpoint.verify()


def test_one_of_a_newer_version_says_so(tmp_path: Path) -> None:
    document = manifests.seal(layout.CheckpointKey(TRIAL, 5, 1), [FileEntry("model", 1, "0" * 32)], {})
    document |= {"format": 2}
    (tmp_path / layout.MANIFEST).write_bytes(manifests.encode({**document, "digest": manifests.digest(document)}))
    with pytest.raises(CheckpointVersionError, match="version 2, but this tunekit reads versions up to 1") as caught:
        assert Checkpoint(tmp_path).iteration
    assert "install a newer tunekit" in caught.value.hint


# -- trouble with the target -------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_nothing_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = publish(tmp_path / "e")

    def refuse(self: Ops, source: Path, target: Path) -> None:
        if source.name == "model":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        shutil.copyfile(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Ops, "copy", refuse)
        with pytest.raises(StorageError, match="No space left on device") as caught:
            checkpoint.to_directory(tmp_path / "copy")
    assert "disk is full" in caught.value.hint
    assert list((tmp_path / "copy").iterdir()) == []
    checkpoint.to_directory(tmp_path / "copy")
