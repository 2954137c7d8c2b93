"""The protocol of a checkpoint, step by step."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunekit.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointVersionError,
    ConfigError,
    SaveError,
)
from tunekit.store import CheckpointIO, LocalStore, layout
from tunekit.store import manifest as manifests
from tunekit.testing.faulty_store import FaultyOps

TRIAL = "train_00007"
OTHER = "train_00008"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiment"


@pytest.fixture
def io(root: Path) -> CheckpointIO:
    return CheckpointIO(LocalStore(root))


def stage(io: CheckpointIO, iteration: int, attempt: int = 1, trial: str = TRIAL, **metadata: Any) -> dict[str, Any]:
    (io.begin(trial, iteration, attempt) / "model").write_bytes(b"%d by %d" % (iteration, attempt))
    return io.seal(trial, iteration, attempt, metadata=metadata)


def save(io: CheckpointIO, iteration: int, attempt: int = 1, trial: str = TRIAL) -> None:
    io.publish(trial, iteration, attempt, stage(io, iteration, attempt, trial))


# -- the worker's side -------------------------------------------------------------------------------------------------


def test_nothing_is_visible_before_it_is_published(io: CheckpointIO, root: Path) -> None:
    """The trial's folder appears only when there is something in it."""
    manifest = stage(io, 5)
    assert io.visible(TRIAL) == []
    assert sorted(path.name for path in root.iterdir()) == [layout.STAGING]
    assert list((root / layout.STAGING / f"{TRIAL}.5.1").iterdir()) == [root / layout.STAGING / f"{TRIAL}.5.1/model"]
    io.publish(TRIAL, 5, 1, manifest)
    assert (root / TRIAL / "checkpoint_000005" / "model").read_bytes() == b"5 by 1"


def test_sealing_lists_what_is_there(io: CheckpointIO) -> None:
    folder = io.begin(TRIAL, 5, 1)
    (folder / "b" / "empty folder").mkdir(parents=True)
    (folder / "b" / "opt").write_bytes(b"12345")
    (folder / "a").write_bytes(b"")
    manifest = io.seal(TRIAL, 5, 1, metadata={"score": 0.5, "metrics": {"loss": 0.5}, "reason": "periodic"})
    assert [(entry["name"], entry["size"]) for entry in manifest["files"]] == [("a", 0), ("b/opt", 5)]
    assert manifest["files"][0]["xxh3_128"] == "99aa06d3014798d86001c324468d497f"
    assert (manifest["trial_name"], manifest["iteration"], manifest["attempt"]) == (TRIAL, 5, 1)
    assert (manifest["score"], manifest["reason"]) == (0.5, "periodic")


def test_an_empty_folder_is_a_checkpoint(io: CheckpointIO) -> None:
    """A trial may have no state but its iteration."""
    io.begin(TRIAL, 5, 1)
    io.publish(TRIAL, 5, 1, io.seal(TRIAL, 5, 1, metadata={}))
    assert io.visible(TRIAL) == [(5, 1)]
    assert io.verify(TRIAL, 5).is_dir()


def test_sealing_without_beginning_says_so(io: CheckpointIO) -> None:
    with pytest.raises(CheckpointNotFoundError, match="nothing was staged"):
        io.seal(TRIAL, 5, 1, metadata={})


def test_discarding_leaves_nothing(io: CheckpointIO, root: Path) -> None:
    io.begin(TRIAL, 5, 1).joinpath("half").write_bytes(b"x")
    for _ in range(2):
        io.discard(TRIAL, 5, 1)
        assert list(root.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "folder link", "dangling link", "pipe", "socket"])
def test_what_is_no_file_is_refused_by_name(io: CheckpointIO, root: Path, kind: str) -> None:
    folder = io.begin(TRIAL, 5, 1)
    (folder / "model").write_bytes(b"fine")
    (folder / "deep").mkdir()
    make_odd(folder / "deep" / "odd", kind)
    with pytest.raises(SaveError, match="'deep/odd': it is a") as caught:
        io.seal(TRIAL, 5, 1, metadata={})
    assert "model" not in caught.value.message
    assert "plain files and folders" in caught.value.hint


def make_odd(path: Path, kind: str) -> None:
    match kind:
        case "link":
            path.symlink_to("/etc/hostname")
        case "folder link":
            path.symlink_to("/etc")
        case "dangling link":
            path.symlink_to("nowhere")
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                os.chdir(path.parent)  # the address of a socket may have 108 bytes
                bound.bind(path.name)
                os.chdir("/")


def test_all_problems_of_a_folder_are_named_at_once(io: CheckpointIO) -> None:
    folder = io.begin(TRIAL, 5, 1)
    (folder / "one").symlink_to("x")
    (folder / "back\\slash").write_bytes(b"")
    (folder / layout.MANIFEST).write_bytes(b"{}")
    os.close(os.open(os.fsencode(folder) + b"/\xff", os.O_CREAT))
    with pytest.raises(SaveError) as caught:
        io.seal(TRIAL, 5, 1, metadata={})
    assert len(caught.value.fields["problems"]) == 4
    assert "reserved" in caught.value.message


def test_files_that_change_while_they_are_sealed_are_refused(io: CheckpointIO, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = io.begin(TRIAL, 5, 1)
    (folder / "model").write_bytes(b"one")
    from tunekit.store import folders

    real = folders.digest

    def slow(path: Path) -> tuple[int, str]:
        result = real(path)
        path.write_bytes(b"another")
        return result

    monkeypatch.setattr(folders, "digest", slow)
    with pytest.raises(SaveError, match=r"files changed while .*: \['model'\]"):
        io.seal(TRIAL, 5, 1, metadata={})


@pytest.mark.parametrize("trial", ["../x", "a/b", "", ".x", "x\0"])
def test_trial_names_that_would_leave_the_folder_are_refused(io: CheckpointIO, root: Path, trial: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: io.begin(trial, 1, 1),
        lambda: io.visible(trial),
        lambda: io.verify(trial, 1),
        lambda: io.delete(trial, 1, 1),
        lambda: io.publish(trial, 1, 1, {}),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="trial name"):
            call()
    assert list(root.iterdir()) == []


# -- the driver's side -------------------------------------------------------------------------------------------------


def test_a_later_attempt_replaces_an_earlier_one(io: CheckpointIO, root: Path) -> None:
    save(io, 5, 1)
    save(io, 5, 2)
    assert io.visible(TRIAL) == [(5, 2)]
    assert (io.verify(TRIAL, 5) / "model").read_bytes() == b"5 by 2"
    assert not (root / layout.TRASH).exists() or not list((root / layout.TRASH).iterdir())


def test_an_earlier_attempt_cannot_replace_a_later_one(io: CheckpointIO) -> None:
    save(io, 5, 2)
    late = stage(io, 5, 1)
    with pytest.raises(CheckpointError, match=r"attempt 1 cannot publish .*: attempt 2 already has"):
        io.publish(TRIAL, 5, 1, late)
    assert (io.verify(TRIAL, 5) / "model").read_bytes() == b"5 by 2"


def test_publishing_again_changes_nothing_and_tidies_up(io: CheckpointIO, root: Path) -> None:
    save(io, 5)
    stage(io, 5)
    io.publish(TRIAL, 5, 1, stage(io, 5))
    assert io.visible(TRIAL) == [(5, 1)]
    assert not (root / layout.STAGING).exists()


def test_publishing_checks_what_was_staged(io: CheckpointIO, root: Path) -> None:
    save(io, 5, 1)
    manifest = stage(io, 5, 2)
    (root / layout.STAGING / f"{TRIAL}.5.2" / "model").write_bytes(b"cut")
    with pytest.raises(CheckpointCorruptError, match="model: it has 3 bytes, its manifest says 6"):
        io.publish(TRIAL, 5, 2, manifest)
    assert (io.verify(TRIAL, 5) / "model").read_bytes() == b"5 by 1"


def test_publishing_checks_the_manifest(io: CheckpointIO) -> None:
    manifest = stage(io, 5)
    with pytest.raises(CheckpointCorruptError, match="digest"):
        io.publish(TRIAL, 5, 1, {**manifest, "score": 7.0})
    stage(io, 6)
    with pytest.raises(CheckpointCorruptError, match="was given to publish"):
        io.publish(TRIAL, 6, 1, manifest)
    assert io.visible(TRIAL) == []


def test_publishing_over_a_damaged_one_puts_that_aside(io: CheckpointIO, root: Path) -> None:
    save(io, 5, 1)
    (root / TRIAL / "checkpoint_000005" / layout.MANIFEST).write_bytes(b"junk")
    save(io, 5, 2)
    assert io.visible(TRIAL) == [(5, 2)]
    assert (root / layout.QUARANTINE / f"{TRIAL}.5.0" / "model").read_bytes() == b"5 by 1"


def test_deleting_spares_another_attempt(io: CheckpointIO) -> None:
    save(io, 5, 2)
    io.delete(TRIAL, 5, 1)
    io.quarantine(TRIAL, 5, 1)
    assert io.visible(TRIAL) == [(5, 2)]
    io.delete(TRIAL, 5, 2)
    io.delete(TRIAL, 5, 2)
    assert io.visible(TRIAL) == []


def test_deleting_finishes_what_a_crash_left_in_the_trash(io: CheckpointIO, root: Path) -> None:
    for _ in range(2):
        save(io, 5)
        trash = root / layout.trash_name(layout.checkpoint_path(TRIAL, 5))
        trash.mkdir(parents=True)
        (trash / "left over").write_bytes(b"x")
        io.delete(TRIAL, 5, 1)
        assert not (root / layout.TRASH).exists()


def test_deleting_one_that_nobody_can_read_keeps_it_aside(io: CheckpointIO, root: Path) -> None:
    save(io, 5)
    (root / TRIAL / "checkpoint_000005" / layout.MANIFEST).unlink()
    io.delete(TRIAL, 5, 1)
    assert not (root / TRIAL / "checkpoint_000005").exists()
    assert (root / layout.QUARANTINE / f"{TRIAL}.5.0" / "model").exists()


def test_quarantine_keeps_the_files(io: CheckpointIO, root: Path) -> None:
    for _ in range(2):
        save(io, 5)
        io.quarantine(TRIAL, 5, 1)
        io.quarantine(TRIAL, 5, 1)
        assert io.visible(TRIAL) == []
    assert sorted(path.name for path in (root / layout.QUARANTINE).iterdir()) == [f"{TRIAL}.5.1", f"{TRIAL}.5.1-2"]


def test_visible_lists_numbers_in_order_and_one_trial_only(io: CheckpointIO, root: Path) -> None:
    for iteration in (10, 9, 1_000_000, 100):
        save(io, iteration)
    save(io, 3, trial=OTHER)
    (root / TRIAL / "notes.txt").write_text("of the user")
    (root / TRIAL / "checkpoint_5").mkdir()
    assert io.visible(TRIAL) == [(9, 1), (10, 1), (100, 1), (1_000_000, 1)]
    assert io.visible("train_00009") == []


def test_a_folder_that_was_renamed_by_hand_is_not_taken_for_another(io: CheckpointIO, root: Path) -> None:
    save(io, 5)
    (root / TRIAL / "checkpoint_000005").rename(root / TRIAL / "checkpoint_000009")
    assert io.visible(TRIAL) == []
    with pytest.raises(CheckpointCorruptError, match="it is that of train_00007, 5"):
        io.verify(TRIAL, 9)


def of_a_newer_tunekit(root: Path, iteration: int) -> bytes:
    """Make the checkpoint one of a newer format, and return its manifest."""
    path = root / TRIAL / layout.checkpoint_name(iteration) / layout.MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2'))
    return path.read_bytes()


@pytest.mark.parametrize("remove", ["delete", "quarantine"])
def test_a_checkpoint_of_a_newer_tunekit_is_not_used_and_not_lost(io: CheckpointIO, root: Path, remove: str) -> None:
    """S003-12: whoever has that tunekit finds it whole in quarantine."""
    save(io, 4)
    save(io, 5)
    manifest = of_a_newer_tunekit(root, 5)
    with pytest.raises(CheckpointVersionError, match="install a newer tunekit"):
        io.verify(TRIAL, 5)
    assert io.visible(TRIAL) == [(4, 1)]
    getattr(io, remove)(TRIAL, 5, 1)
    (aside,) = (root / layout.QUARANTINE).iterdir()
    assert (aside / layout.MANIFEST).read_bytes() == manifest
    assert not (root / TRIAL / "checkpoint_000005").exists()


def test_one_of_a_newer_tunekit_is_not_published_over(io: CheckpointIO, root: Path) -> None:
    save(io, 5)
    manifest = of_a_newer_tunekit(root, 5)
    save(io, 5, attempt=2)
    (aside,) = (root / layout.QUARANTINE).iterdir()
    assert (aside / layout.MANIFEST).read_bytes() == manifest
    assert io.visible(TRIAL) == [(5, 2)]


def test_an_experiment_can_be_moved(io: CheckpointIO, root: Path, tmp_path: Path) -> None:
    """S003-5: nothing absolute is written anywhere."""
    save(io, 5)
    root.rename(tmp_path / "moved")
    moved = CheckpointIO(LocalStore(tmp_path / "moved"))
    assert moved.visible(TRIAL) == [(5, 1)]
    assert moved.verify(TRIAL, 5) == tmp_path / "moved" / TRIAL / "checkpoint_000005"
    text = b"".join(path.read_bytes() for path in (tmp_path / "moved").rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in text


def test_sweeping_spares_what_is_live(io: CheckpointIO, root: Path) -> None:
    live, open_command = stage(io, 6), stage(io, 7)
    stage(io, 5)
    io.begin(TRIAL, 8, 1)
    (root / layout.STAGING / "stranger").write_text("x")
    removed = io.sweep({layout.staging_name(TRIAL, 6, 1), f"{TRIAL}.7.1"})
    assert removed == [f"{layout.STAGING}/{name}" for name in ("stranger", f"{TRIAL}.5.1", f"{TRIAL}.8.1")]
    io.publish(TRIAL, 6, 1, live)
    io.publish(TRIAL, 7, 1, open_command)
    assert io.visible(TRIAL) == [(6, 1), (7, 1)]


def test_sweeping_follows_no_link(io: CheckpointIO, root: Path, tmp_path: Path) -> None:
    stage(io, 5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model").touch()
    (root / layout.STAGING / "link").symlink_to(tmp_path / "mine")
    io.sweep()
    assert (tmp_path / "mine" / "model").exists()
    assert not (root / layout.STAGING).exists()


def test_several_threads_publish_at_once(io: CheckpointIO) -> None:
    names = [layout.trial_name("train", number) for number in range(8)]
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for iteration in (1, 2, 3):
                save(io, iteration, trial=name)
                if iteration > 1:
                    io.delete(name, iteration - 1, 1)
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [io.visible(name) for name in names] == [[(3, 1)]] * len(names)


def test_publishing_is_a_rename_and_three_syncs(root: Path) -> None:
    """No byte is copied, and nothing is synced twice."""
    ops = FaultyOps()
    io = CheckpointIO(LocalStore(root, ops=ops), ops=ops)
    save(io, 1)
    manifest = stage(io, 2)
    del ops.faults.log[:]
    io.publish(TRIAL, 2, 1, manifest)
    assert ops.faults.log == [
        "write MANIFEST.json",
        "fsync MANIFEST.json",
        f"fsync {TRIAL}.2.1",
        f"rename {TRIAL}.2.1 checkpoint_000002",
        f"fsync {TRIAL}",
    ]
    ops.close()


def test_the_seam_for_files_in_a_folder_of_their_own(io: CheckpointIO, root: Path) -> None:
    """As an object store will lay them out: the files of each attempt beside the one manifest."""
    document = {**stage(io, 5), "data": "d-1"}
    document["digest"] = manifests.digest(document)
    folder = root / TRIAL / "checkpoint_000005"
    (root / TRIAL).mkdir()
    folder.mkdir()
    (root / layout.STAGING / f"{TRIAL}.5.1").rename(folder / "d-1")
    (folder / "d-2").mkdir()
    (folder / "d-2" / "of a fenced attempt").write_bytes(b"x")
    (folder / layout.MANIFEST).write_bytes(manifests.encode(document))
    assert io.visible(TRIAL) == [(5, 1)]
    assert io.verify(TRIAL, 5) == folder / "d-1"
