"""Copies hold every byte, are brought up to date, and leave out what is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiments import Built, built, content, whole

from tunekit.errors import StorageError
from tunekit.store import CheckpointIO, LocalStore, layout, open_store
from tunekit.testing.faulty_store import Faults, FaultyOps
from tunekit.upkeep import copying, copying_experiment
from tunekit.upkeep.copying import copy
from tunekit.upkeep.history import History, read_history
from tunekit.upkeep.verifying import verify

CHECKPOINT = "walk_00001/checkpoint_000002"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    built(tmp_path / "source" / "exp")
    return tmp_path / "source" / "exp"


def test_an_experiment_is_copied_byte_for_byte(source: Path, tmp_path: Path) -> None:
    report = copy(source, tmp_path / "copy", verify=True)
    assert content(tmp_path / "copy") == content(source)
    assert (report.num_copied, report.num_kept, report.verified, report.problems) == (9, 0, True, [])
    assert report.num_checkpoints == 9
    assert verify(tmp_path / "copy").is_clean
    assert not (tmp_path / "copy" / ".staging").exists()


def test_only_what_is_missing_or_different_is_copied_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    copy(source, target)
    kept = target / CHECKPOINT / "model.bin"
    before = kept.stat().st_ino
    for path in (target / "walk_00000/checkpoint_000001").rglob("*"):
        if path.is_file():
            path.unlink()
    report = copy(source, target)
    assert (report.num_copied, report.num_kept, report.bytes_copied) == (1, 8, 3000)
    assert kept.stat().st_ino == before
    assert content(target) == content(source)


def test_what_is_damaged_at_the_target_is_found_and_mended(source: Path, tmp_path: Path) -> None:
    """The sizes say nothing; --verify reads every byte."""
    target = tmp_path / "copy"
    copy(source, target)
    model = target / CHECKPOINT / "model.bin"
    model.write_bytes(b"\0" * model.stat().st_size)
    assert copy(source, target).num_copied == 0
    report = copy(source, target, verify=True)
    assert (report.num_copied, report.num_kept, report.verified) == (1, 8, True)
    assert content(target) == content(source)


def test_a_copy_is_brought_up_to_date(tmp_path: Path) -> None:
    """More results, a newer attempt at the same iteration, and a checkpoint that retention has deleted since."""
    source, target = tmp_path / "exp", tmp_path / "copy"
    made = Built(source)
    made.save(0, 1)
    made.save(0, 2)
    copy(source, target)
    made.save(0, 2, attempt=2)
    made.save(0, 3, attempt=2)
    made.delete(0, 1)
    made.close()
    report = copy(source, target, verify=True)
    assert (report.num_copied, report.num_removed) == (2, 1)
    assert content(target) == content(source)
    assert whole(target) == 2


def test_a_journal_of_many_segments(tmp_path: Path) -> None:
    made = Built(tmp_path / "exp", segment_bytes=1000)
    made.save(0, 1)
    copy(tmp_path / "exp", tmp_path / "copy")
    for step in range(2, 5):
        made.save(0, step)
    made.close()
    assert len(list((tmp_path / "exp/journal").iterdir())) > 3
    copy(tmp_path / "exp", tmp_path / "copy", verify=True)
    assert content(tmp_path / "copy") == content(tmp_path / "exp")


def test_the_journal_is_cut_at_a_whole_record(source: Path, tmp_path: Path) -> None:
    """A crash tore the last record; the copy does not have it."""
    segment = source / "journal/000000000001.jsonl"
    intact = segment.read_bytes()
    segment.write_bytes(intact + intact.splitlines()[-1][:-9])
    copy(source, tmp_path / "copy", verify=True)
    assert (tmp_path / "copy/journal/000000000001.jsonl").read_bytes() == intact


def test_what_the_journal_waits_for_is_copied_too(tmp_path: Path) -> None:
    """The driver died between recording a save and publishing it; the next one publishes it, there as here."""
    made = Built(tmp_path / "exp")
    made.save(0, 1)
    manifest = made.stage(0, 2)
    made.stage(1, 1)
    made.io.discard("walk_00001", 1, 1)
    (made.io.begin("walk_00002", 9, 1) / "unsealed").touch()
    made.close()
    for _ in range(2):
        report = copy(tmp_path / "exp", tmp_path / "copy")
        assert [note.file for note in report.notes] == [".staging/walk_00001.1.1"]
    assert not (tmp_path / "copy/.staging").exists()
    assert verify(tmp_path / "copy").is_clean
    io = CheckpointIO(LocalStore(tmp_path / "copy"))
    assert io.visible("walk_00000") == [(1, 1), (2, 1)]
    io.publish("walk_00000", 2, 1, manifest)
    assert (io.verify("walk_00000", 2) / "model.bin").is_file()
    made.io.publish("walk_00000", 2, 1, manifest)  # only the word of it is missing
    report = copy(tmp_path / "exp", tmp_path / "copy")
    assert (report.num_copied, report.num_kept, len(report.notes)) == (0, 2, 1)


def test_files_of_the_user_are_copied_and_those_of_this_place_are_not(source: Path, tmp_path: Path) -> None:
    (source / "notes.txt").write_text("good")
    (source / "walk_00000" / "log").mkdir()
    (source / "walk_00000" / "log" / "events").write_text("1")
    (source / ".quarantine" / "walk_00000.1.0").mkdir(parents=True)
    (source / ".quarantine" / "walk_00000.1.0" / "model.bin").write_text("bad")
    (source / ".trash" / "x").mkdir(parents=True)
    (source / ".trash" / "x" / "y").touch()
    (source / "driver.generation").touch()
    (source / "driver.py").write_text("of the user")
    (source / ".hydra").mkdir()
    (source / ".hydra" / "config.yaml").touch()
    (source / ".experiment.json.1.draft").touch()
    (source / "link").symlink_to("/etc/hosts")
    report = copy(source, tmp_path / "copy")
    names = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    users = {"notes.txt", "walk_00000/log/events", "driver.py", ".hydra/config.yaml"}
    assert {*users, ".quarantine/walk_00000.1.0/model.bin"} < names
    assert not {"driver.generation", ".trash/x/y", "link", ".experiment.json.1.draft"} & names
    assert [note.file for note in report.notes] == ["link"]
    (source / "notes.txt").write_text("best")
    assert copy(source, tmp_path / "copy").bytes_copied > 0
    assert (tmp_path / "copy/notes.txt").read_text() == "best"


def test_a_damaged_checkpoint_is_left_out_and_reported(source: Path, tmp_path: Path) -> None:
    (source / CHECKPOINT / "model.bin").write_bytes(b"\0" * 2000)
    (source / "walk_00002/checkpoint_000003/empty").unlink()
    (source / "walk_00000/checkpoint_000001/MANIFEST.json").write_text("{")
    report = copy(source, tmp_path / "copy")
    assert sorted(problem.file for problem in report.problems) == [
        "walk_00000/checkpoint_000001/MANIFEST.json",
        f"{CHECKPOINT}/model.bin",
        "walk_00002/checkpoint_000003/empty",
    ]
    assert report.num_copied == whole(tmp_path / "copy") == 6


def test_a_trial_is_copied(source: Path, tmp_path: Path) -> None:
    for number in (3, 0):
        report = copy(source / "walk_00001", tmp_path / "trial", verify=True)
        assert (report.kind, report.num_copied, report.num_kept, report.verified) == ("trial", number, 3 - number, True)
    assert content(tmp_path / "trial") == content(source / "walk_00001")


def test_a_checkpoint_is_copied(source: Path, tmp_path: Path) -> None:
    for number in (1, 0):
        report = copy(source / CHECKPOINT, tmp_path / "deep" / "best", verify=True)
        assert (report.kind, report.num_copied, report.verified) == ("checkpoint", number, True)
    assert content(tmp_path / "deep" / "best") == content(source / CHECKPOINT)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["best"]


@pytest.mark.parametrize("damage", [True, False])
def test_a_checkpoint_that_could_not_be_copied_leaves_nothing_beside_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, damage: bool
) -> None:
    """It is damaged; or the disk fails when all of it is there."""
    target = tmp_path / "deep" / "best"
    target.parent.mkdir()
    if damage:
        (source / CHECKPOINT / "model.bin").write_bytes(b"\0" * 2000)
        assert [problem.file for problem in copy(source / CHECKPOINT, target).problems] == ["model.bin"]
        assert list(target.parent.iterdir()) == []
        return
    disk = FaultyOps()
    monkeypatch.setattr(copying, "open_store", lambda uri: LocalStore(Path(uri), ops=disk))
    copy(source / CHECKPOINT, target.parent / "undisturbed")
    last = next(number for number, name in enumerate(disk.faults.log, 1) if name.startswith("rename")) + 1
    disk = FaultyOps(Faults(fail_at=last))
    with pytest.raises(StorageError):
        copy(source / CHECKPOINT, target)
    assert not (target.parent / ".staging").exists()
    assert copy(source / CHECKPOINT, target).num_kept == 1


# -- while it runs -----------------------------------------------------------------------------------------------------


def test_a_running_experiment_is_copied_as_it_was_at_one_moment(tmp_path: Path) -> None:
    """Whatever is saved and deleted meanwhile, the copy's journal and its checkpoints fit."""
    source, target = tmp_path / "exp", tmp_path / "copy"
    made = Built(source)
    made.save(0, 1)
    made.save(0, 2)

    class Meanwhile:
        step = 2

        def expect(self, num_bytes: int) -> None:
            """Save, and delete what was planned to be copied."""
            if self.step < 5:
                self.step += 1
                made.save(0, self.step)
                made.delete(0, self.step - 2)

        def advance(self, num_bytes: int) -> None:
            """Nothing."""

    copy(source, target, while_running=True, meter=Meanwhile())
    made.close()
    report = verify(target)
    assert report.is_clean, report.problems
    assert not [note for note in report.notes if "journal" in note.problem]
    ours, theirs = ((path / "journal/000000000001.jsonl").read_bytes() for path in (source, target))
    assert ours.startswith(theirs)
    assert theirs.endswith(b",1]\n")
    history = read_history(target / "journal")
    assert {history.folder(known) for known in history.published} == {
        str(path.parent.relative_to(target)) for path in target.glob(f"*/*/{layout.MANIFEST}")
    }
    copy(source, target)
    assert content(target) == content(source)


def test_what_is_saved_and_deleted_behind_the_journal_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer checkpoint waits for the next copy; for one that is gone meanwhile, the journal is read anew."""
    source, target = tmp_path / "exp", tmp_path / "copy"
    made = Built(source)
    made.save(0, 1)
    made.save(0, 2)
    made.save(1, 1)
    changes = [lambda: made.delete(0, 1), lambda: made.save(0, 3)]

    def read(folder: Path) -> History:
        history = read_history(folder)
        if changes:
            changes.pop(0)()
        return history

    monkeypatch.setattr(copying_experiment, "read_history", read)
    copy(source, target, while_running=True)
    made.close()
    assert sorted(str(path.parent.relative_to(target)) for path in target.glob(f"*/*/{layout.MANIFEST}")) == [
        "walk_00000/checkpoint_000002", "walk_00001/checkpoint_000001"
    ]  # fmt: skip
    report = verify(target)
    assert (report.problems, report.notes) == ([], [])


# -- other stores ------------------------------------------------------------------------------------------------------


def test_to_memory_and_back(source: Path, tmp_path: Path) -> None:
    there = f"memory://copies/{tmp_path.name}"
    for number in (9, 0):
        assert copy(source, there, verify=True).num_copied == number
    assert verify(there).is_clean
    assert open_store(there).sizes("walk_00000/checkpoint_000001") == {
        "MANIFEST.json": (source / "walk_00000/checkpoint_000001/MANIFEST.json").stat().st_size,
        "deep/optimizer.bin": 1000,
        "empty": 0,
        "model.bin": 2000,
    }
    assert copy(there, tmp_path / "back", verify=True).num_copied == 9
    assert content(tmp_path / "back") == content(source)
    copy(f"{there}/{CHECKPOINT}", f"memory://copies/best-{tmp_path.name}", verify=True)
    copy(f"memory://copies/best-{tmp_path.name}", tmp_path / "best")
    assert content(tmp_path / "best") == content(source / CHECKPOINT)
