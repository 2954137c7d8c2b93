"""Nothing is overwritten but an earlier copy of the same, and nobody's work is disturbed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from experiments import Built, built, content
from scripts import moving_sweep

import tunekit as tk
from tunekit.core.events import DriverStarted, Settings
from tunekit.errors import (
    ConfigError,
    ExperimentExistsError,
    ExperimentNotFoundError,
    JournalCorruptError,
    StorageError,
)
from tunekit.journal.lease import LEASE_NAME
from tunekit.journal.lock import GENERATION_NAME, LOCK_NAME, OPENING_NAME, TAKEOVER_NAME, DriverLock
from tunekit.store import LocalStore
from tunekit.store.contents import Kind, take_apart
from tunekit.store.shelf import Found
from tunekit.upkeep import copying
from tunekit.upkeep.copying import copy
from tunekit.upkeep.copying_experiment import copy_experiment
from tunekit.upkeep.report import NothingHereError
from tunekit.upkeep.standstill import standing_still
from tunekit.upkeep.transfer import Transfer

CHECKPOINT = "walk_00001/checkpoint_000002"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    built(tmp_path / "source" / "exp")
    return tmp_path / "source" / "exp"


@pytest.mark.parametrize("part", ["", "walk_00001", CHECKPOINT])
def test_nothing_else_is_overwritten(source: Path, tmp_path: Path, part: str) -> None:
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "thesis.txt").write_text("two years of work")
    with pytest.raises(ExperimentExistsError, match=r"thesis\.txt is there\n\nhint: name another target"):
        copy(source / part, target)
    assert [path.name for path in target.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("part", ["", "walk_00001", CHECKPOINT])
def test_another_experiment_trial_or_checkpoint_is_not_overwritten(source: Path, tmp_path: Path, part: str) -> None:
    other = Built(tmp_path / "other", num_bytes=3000)
    for step in (1, 2):
        other.save(1, step)
    other.record(DriverStarted(generation=2, settings=Settings()))
    other.close()
    before = content(tmp_path / "other")
    with pytest.raises(ExperimentExistsError, match="not an earlier copy"):
        copy(source / part, tmp_path / "other" / part)
    assert content(tmp_path / "other") == before


def test_a_copy_that_went_on_by_itself_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    copy(source, target)
    segment = target / "journal/000000000001.jsonl"
    with Built.journal_of(target) as journal:
        journal.append([DriverStarted(generation=2, settings=Settings())])
    before = segment.read_bytes()
    with pytest.raises(ExperimentExistsError, match="gone on by itself"):
        copy(source, target)
    assert segment.read_bytes() == before


def test_a_running_experiment_is_refused_unless_asked_for(source: Path, tmp_path: Path) -> None:
    with DriverLock(source):
        for part in ("", "walk_00001"):
            with pytest.raises(ExperimentExistsError, match=rf"process {os.getpid()} on .*\n\nhint: .*--while-running"):
                copy(source / part, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
        copy(source, tmp_path / "copy", while_running=True)
        copy(source / CHECKPOINT, tmp_path / "best")
    assert content(tmp_path / "copy") == content(source)


def test_a_driver_cannot_start_while_its_experiment_is_copied(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def look(transfer: Transfer, *, while_running: bool) -> None:
        copy_experiment(transfer, while_running=while_running)
        with pytest.raises(ExperimentExistsError):
            DriverLock(source).acquire()
        tried.append(True)

    monkeypatch.setattr(copying, "copy_experiment", look)
    copy(source, tmp_path / "copy")
    assert tried
    DriverLock(source).acquire()


@pytest.mark.parametrize("alone", [True, False])
def test_a_tool_that_keeps_drivers_away_is_not_taken_over_from(source: Path, *, alone: bool) -> None:
    """It does not look whether somebody has taken its place, and would go on."""
    for part in ("released", "killed"):
        lock = DriverLock(source)
        lock.acquire()
        lock.release() if part == "released" else lock.close()
        with standing_still(LocalStore(source), alone=alone, hint=""):
            with pytest.raises(ExperimentExistsError, match="It is no driver"):
                DriverLock(source, opening_s=0.0).acquire(takeover=True)
            assert not (source / TAKEOVER_NAME).exists()
    DriverLock(source).acquire(takeover=True)


def test_names_that_mean_something_at_one_place_only_are_those_of_the_journal(tmp_path: Path) -> None:
    names = [LOCK_NAME, GENERATION_NAME, LEASE_NAME, OPENING_NAME, TAKEOVER_NAME]
    assert take_apart(dict.fromkeys(names, Found(1)), Kind.EXPERIMENT).bound.keys() == {*names}


def test_a_copy_that_is_being_run_is_refused(source: Path, tmp_path: Path) -> None:
    copy(source, tmp_path / "copy")
    with DriverLock(tmp_path / "copy"), pytest.raises(ExperimentExistsError, match="end it first"):
        copy(source, tmp_path / "copy")


def test_places_that_lie_in_one_another_are_refused(source: Path) -> None:
    for target in (source, source / "copy", source.parent, f"{source}/../exp"):
        with pytest.raises(ConfigError, match="lie in the source"):
            copy(source, target)


def test_nothing_is_begun_where_a_copy_is_not_complete(source: Path, tmp_path: Path) -> None:
    """The script would begin a new experiment, and the copy could not be gone on with."""

    class Full:
        def expect(self, num_bytes: int) -> None:
            """Nothing."""

        def advance(self, num_bytes: int) -> None:
            """The disk is full."""
            raise StorageError("no space left", errno=28)

    with pytest.raises(StorageError):
        copy(source, tmp_path / "walks", meter=Full())
    with pytest.raises(ExperimentExistsError, match="not complete\n\nhint: run the tunekit cp again"):
        tk.inline(moving_sweep.tuner(str(tmp_path)))
    assert not (tmp_path / "walks/experiment.json").exists()
    copy(source, tmp_path / "walks", verify=True)
    assert content(tmp_path / "walks") == content(source)


def test_what_is_no_experiment_is_refused(source: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", source.parent, source / "journal"):
        with pytest.raises(NothingHereError, match="neither an experiment nor a trial nor a checkpoint"):
            copy(path, tmp_path / "copy")
    (source / "experiment.json").unlink()
    with pytest.raises(ExperimentNotFoundError, match=r"has no experiment\.json"):
        copy(source, tmp_path / "copy")


def test_a_damaged_journal_is_refused(source: Path, tmp_path: Path) -> None:
    segment = source / "journal/000000000001.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"iteration":2', b'"iteration":3', 1))
    with pytest.raises(JournalCorruptError):
        copy(source, tmp_path / "copy")
    assert not (tmp_path / "copy/experiment.json").exists()
