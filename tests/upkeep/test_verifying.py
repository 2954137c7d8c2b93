"""Every kind of damage is found, named with its file, and comes with a remedy; what is in order is said to be so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiments import Built, built, content

from tunekit.core.commands import PublishCheckpoint
from tunekit.core.events import CheckpointPublished, CheckpointStaged, TimerFired
from tunekit.journal.lock import DriverLock
from tunekit.store.contents import Contents
from tunekit.upkeep import verifying
from tunekit.upkeep.copying import copy
from tunekit.upkeep.history import History, read_history
from tunekit.upkeep.refusals import MARKER
from tunekit.upkeep.report import NothingHereError
from tunekit.upkeep.verifying import verify

CHECKPOINT = "walk_00001/checkpoint_000002"


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    built(tmp_path / "exp")
    return tmp_path / "exp"


def test_what_is_in_order_is_clean_and_left_as_it_is(exp: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in exp.rglob("*")}
    report = verify(exp)
    assert (report.kind, report.problems, report.notes) == ("experiment", [], [])
    assert (report.num_checkpoints, report.num_records) == (9, 28)
    assert report.num_files == len(content(exp))
    assert report.num_bytes == sum(map(len, content(exp).values()))
    assert verify(exp / "walk_00000").num_checkpoints == 3
    assert verify(exp / CHECKPOINT).num_checkpoints == 1
    assert {path: path.stat().st_mtime_ns for path in exp.rglob("*")} == before


def flip(path: Path, at: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def damage_of(change: str) -> tuple[Callable[[Path], object], str, str]:
    model = f"{CHECKPOINT}/model.bin"
    return {
        "flipped": (lambda exp: flip(exp / model), model, "its content has the digest"),
        "cut": (lambda exp: (exp / model).write_bytes(b""), model, "it has 0 bytes, its manifest says 2000"),
        "deleted": (lambda exp: (exp / model).unlink(), model, "it is missing"),
        "added": (lambda exp: (exp / CHECKPOINT / "x").touch(), f"{CHECKPOINT}/x", "it is not in the manifest"),
        "linked": (
            lambda exp: ((exp / model).unlink(), (exp / model).symlink_to("/etc/hosts")),
            model,
            "it is not a regular file",
        ),
        "manifest flipped": (
            lambda exp: flip(exp / CHECKPOINT / "MANIFEST.json"), f"{CHECKPOINT}/MANIFEST.json", "digest"
        ),
        "manifest cut": (
            lambda exp: (exp / CHECKPOINT / "MANIFEST.json").write_bytes(b"{}"), f"{CHECKPOINT}/MANIFEST.json", "digest"
        ),
        "renamed": (
            lambda exp: (exp / CHECKPOINT).rename(exp / "walk_00001/checkpoint_000009"),
            "walk_00001/checkpoint_000009/MANIFEST.json",
            f"it is the manifest of {CHECKPOINT}",
        ),
        "lost": (
            lambda exp: shutil.rmtree(exp / CHECKPOINT), CHECKPOINT, "though the journal says that it was published"
        ),
        "header": (lambda exp: flip(exp / "experiment.json", 60), "experiment.json", "is damaged"),
        "no header": (lambda exp: (exp / "experiment.json").unlink(), "experiment.json", "it is missing"),
        "journal": (
            lambda exp: flip(exp / "journal/000000000001.jsonl", 900), "journal/000000000001.jsonl", "is damaged"
        ),
        "copy": (
            lambda exp: ((exp / MARKER).parent.mkdir(), (exp / MARKER).touch()), MARKER, "a copy to this place was"
        ),
    }[change]  # fmt: skip


CHANGES = [
    "flipped", "cut", "deleted", "added", "linked", "manifest flipped", "manifest cut", "renamed", "lost", "header",
    "no header", "journal", "copy",
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_damage_is_named_with_its_file_and_a_remedy(exp: Path, change: str) -> None:
    spoil, file, told = damage_of(change)
    spoil(exp)
    report = verify(exp)
    assert not report.is_clean
    found = {problem.file: problem for problem in report.problems}
    assert told in found[file].problem
    assert len(found[file].remedy) > 20
    expected = {file, CHECKPOINT} if change == "renamed" else {file}
    assert found.keys() == expected
    assert json.loads(json.dumps(report.as_json()))["clean"] is False


def test_every_problem_is_told_at_once(exp: Path) -> None:
    for trial in range(3):
        flip(exp / f"walk_0000{trial}/checkpoint_000001/model.bin")
    (exp / CHECKPOINT / "empty").unlink()
    flip(exp / CHECKPOINT / "deep/optimizer.bin")
    assert len(verify(exp).problems) == 5
    assert [problem.file for problem in verify(exp / CHECKPOINT).problems] == ["empty", "deep/optimizer.bin"]


def test_what_a_crash_leaves_is_no_problem(tmp_path: Path) -> None:
    """A torn record, a staged save, a folder without a manifest, and a deletion that nobody could write down."""
    exp = tmp_path / "exp"
    made = Built(exp)
    for step in (1, 2, 3):
        made.save(0, step)
    made.stage(0, 4)
    made.stage(0, 5)
    made.io.discard("walk_00000", 5, 1)
    made.io.delete("walk_00000", 1, 1)
    made.close()
    (exp / "walk_00000/checkpoint_000009").mkdir()
    (exp / "walk_00000/checkpoint_000009/model.bin").touch()
    segment = exp / "journal/000000000001.jsonl"
    segment.write_bytes(segment.read_bytes() + b'["0123')
    report = verify(exp)
    assert report.problems == []
    assert {note.file: note.problem.partition(",")[0] for note in report.notes} == {
        "journal/000000000001.jsonl": "6 bytes behind its last whole record are what a crash left of the next one",
        "walk_00000/checkpoint_000009": "it has no manifest",
        "walk_00000/checkpoint_000001": "it is gone; the driver died before it could say whether it deleted it",
        ".staging/walk_00000.5.1": "it is gone",
    }


def test_a_missing_checkpoint_is_a_loss_once_its_turn_is_over(tmp_path: Path) -> None:
    made = Built(tmp_path / "exp")
    made.save(0, 1)
    made.io.delete("walk_00000", 1, 1)
    assert verify(tmp_path / "exp").is_clean
    made.save(1, 1)
    assert [problem.file for problem in verify(tmp_path / "exp").problems] == ["walk_00000/checkpoint_000001"]
    made.close()


def test_a_checkpoint_that_the_journal_does_not_know_is_a_note(exp: Path) -> None:
    made = Built.again(exp)
    (made.io.begin("walk_00000", 8, 1) / "x").touch()
    made.io.publish("walk_00000", 8, 1, made.io.seal("walk_00000", 8, 1, metadata={}))
    made.close()
    report = verify(exp)
    assert report.is_clean
    assert [note.file for note in report.notes] == ["walk_00000/checkpoint_000008"]


def test_a_running_experiment_can_be_verified(exp: Path) -> None:
    """What is published and deleted between two looks is neither missing nor unknown."""
    made = Built.again(exp)

    class Meanwhile:
        step = 3

        def expect(self, num_bytes: int) -> None:
            """Save and delete."""
            self.advance(0)

        def advance(self, num_bytes: int) -> None:
            """Save and delete."""
            if self.step < 6:
                self.step += 1
                made.save(2, self.step)
                made.delete(2, self.step - 2)
                made.record(TimerFired())

    with DriverLock(exp):
        report = verify(exp, meter=Meanwhile())
    made.close()
    assert report.problems == []
    assert not [note for note in report.notes if "does not know" in note.problem]


def test_what_is_deleted_between_two_looks_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Built(tmp_path / "exp")
    made.save(0, 1)
    made.save(1, 1)
    looks: list[Path] = []

    def read(folder: Path) -> History:
        history = read_history(folder)
        if not looks:
            made.delete(0, 1)
            made.save(1, 2)
        looks.append(folder)
        return history

    monkeypatch.setattr(verifying, "read_history", read)
    report = verify(tmp_path / "exp")
    made.close()
    assert (report.problems, report.notes) == ([], [])


def test_failure_checkpoints_are_copied_and_checked_like_others(exp: Path, tmp_path: Path) -> None:
    made = Built.again(exp)
    (made.io.begin("walk_00000", 3, 1, exact=False) / "wreck").write_bytes(b"12345")
    manifest = dict(made.io.seal("walk_00000", 3, 1, metadata={}, exact=False))
    key: dict[str, Any] = {"trial": 0, "iteration": 3, "attempt": 1, "exact": False}
    made.record(CheckpointStaged(manifest=manifest, **key))
    made.io.publish("walk_00000", 3, 1, manifest, exact=False)
    made.record(CheckpointPublished(**key), PublishCheckpoint(manifest=manifest, **key))
    made.close()
    report = copy(exp, tmp_path / "copy", verify=True)
    assert (report.num_copied, report.verified, report.notes) == (10, True, [])
    assert (tmp_path / "copy/walk_00000/failure_000003_1/wreck").read_bytes() == b"12345"
    assert verify(tmp_path / "copy").notes == []
    flip(tmp_path / "copy/walk_00000/failure_000003_1/wreck", 1)
    shutil.rmtree(tmp_path / "copy/walk_00000/checkpoint_000003")
    assert [problem.file for problem in verify(tmp_path / "copy").problems] == [
        "walk_00000/failure_000003_1/wreck", "walk_00000/checkpoint_000003"
    ]  # fmt: skip


def test_a_copy_of_a_part_is_verified(exp: Path, tmp_path: Path) -> None:
    copy(exp / "walk_00001", tmp_path / "kept")
    assert verify(tmp_path / "kept").is_clean
    flip(tmp_path / "kept/checkpoint_000002/model.bin")
    assert [problem.file for problem in verify(tmp_path / "kept").problems] == ["checkpoint_000002/model.bin"]


def test_where_there_is_nothing_nothing_is_said_to_be_whole(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", "memory://nowhere-at-all"):
        with pytest.raises(NothingHereError):
            verify(path)


def test_what_is_visible_is_worked_out_a_few_times_and_not_for_each_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An experiment of thousands of trials is checked in seconds."""
    built(tmp_path / "exp", trials=6, steps=4)
    looks: list[int] = []
    visible: Any = vars(Contents)["visible"].fget

    def counted(parts: Contents) -> Any:
        looks.append(1)
        return visible(parts)

    monkeypatch.setattr(Contents, "visible", property(counted))
    assert verify(tmp_path / "exp").num_checkpoints == 24
    assert 0 < len(looks) < 10
