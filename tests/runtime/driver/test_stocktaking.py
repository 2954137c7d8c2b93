"""A driver that takes over compares storage and journal: what is gone is forgotten, what is strange is not used."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trainables import Counter

import tunekit as tk
from tunekit.core.codec import Record
from tunekit.core.commands import Command
from tunekit.core.events import (
    CheckpointAdopted,
    CheckpointMissing,
    CheckpointStaged,
    Event,
    RestoreFailed,
    ResultReported,
)
from tunekit.core.rows import RowTable
from tunekit.errors import TrialError
from tunekit.journal.folder import experiment_folder
from tunekit.runtime.driver.stocktaking import take_stock
from tunekit.store import CheckpointIO, PutOutcome, Store, open_store
from tunekit.store.memory import MemoryStore
from tunekit.types import LossCause, TrialStatus

_NUMBER = itertools.count()


@pytest.fixture(params=["folder", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return str(request.getfixturevalue("s3_uri"))
    return str(tmp_path) if request.param == "folder" else f"memory://stock/{next(_NUMBER)}"


def tuner(where: str, iterations: int = 4, **checkpoints: Any) -> tk.Tuner:
    return tk.Tuner(
        Counter,
        param_space={"x": tk.uniform(0, 1)},
        tune_config=tk.TuneConfig(seed=1, num_samples=2),
        run_config=tk.RunConfig(
            name="exp",
            storage_path=where,
            verbose=0,
            stop={"training_iteration": iterations},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=False, **checkpoints),
        ),
    )


def store_of(where: str) -> Store:
    return open_store(f"{where}/exp")


def records(where: str) -> Iterator[Record]:
    return experiment_folder(f"{where}/exp").records()


def kinds(where: str, kind: type[Event | Command]) -> list[Any]:
    return [record for record in records(where) if isinstance(record, kind)]


def again(where: str, *, resume_errored: bool = False, restart_errored: bool = False) -> tk.Tuner:
    path = f"{where}/exp"
    return tk.Tuner.restore(path, Counter, resume_errored=resume_errored, restart_errored=restart_errored)


def paused_at(where: str, iteration: int, monkeypatch: pytest.MonkeyPatch, **checkpoints: Any) -> None:
    """Run until the first trial has come so far, and interrupt it there."""
    step = Counter.step

    def step_and_interrupt(self: Counter) -> dict[str, Any]:
        if self.count == iteration - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Counter, "step", step_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            tk.inline(tuner(where, **checkpoints))


def checkpoints(results: tk.ResultGrid) -> list[list[int | None]]:
    return [[kept.iteration for kept, _ in result.best_checkpoints] for result in results]


def test_a_checkpoint_that_was_deleted_by_hand_is_forgotten_and_the_one_before_is_used(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The trial falls back to it without a failed attempt in between."""
    paused_at(where, 3, monkeypatch)
    store = store_of(where)
    store.remove("Counter_00000/checkpoint_000003")
    results = tk.inline(tuner(where))
    assert [result.metrics["count"] for result in results] == [4, 4]
    assert [(event.trial, event.iteration) for event in kinds(where, CheckpointMissing)] == [(0, 3)]
    assert not kinds(where, RestoreFailed)
    assert checkpoints(results) == [[1, 2, 3, 4], [1, 2, 3, 4]]
    [told] = [record.getMessage() for record in caplog.records if "gone or damaged" in record.getMessage()]
    assert "Counter_00000/checkpoint_000003" in told
    caplog.clear()
    tk.inline(tuner(where))
    assert not [record for record in caplog.records if "checkpoints that" in record.getMessage()], "told once"


def test_a_checkpoint_without_its_manifest_is_put_aside_and_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a bucket it would be out of sight, and its data garbage."""
    paused_at(str(tmp_path), 3, monkeypatch)
    (tmp_path / "exp" / "Counter_00000" / "checkpoint_000003" / "MANIFEST.json").unlink()
    assert checkpoints(tk.inline(tuner(str(tmp_path)))) == [[1, 2, 3, 4], [1, 2, 3, 4]]
    aside = store_of(str(tmp_path)).sizes(".quarantine")
    assert any(name.startswith("Counter_00000.3.1/") for name in aside)


@pytest.mark.parametrize("lost", ["", "MANIFEST.json"])
def test_a_trial_whose_only_checkpoint_is_gone_fails_until_somebody_says_how_it_goes_on(
    where: str, lost: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S003-12: starting over would cost all that it has done, and throw promise 1 away without a word."""
    paused_at(where, 3, monkeypatch, num_to_keep=1)
    store, folder = store_of(where), "Counter_00000/checkpoint_000003"
    content = saved(where, folder)
    store.remove(folder)
    brought_back(where, folder, {name: data for name, data in content.items() if not name.endswith(lost)})
    failed, other = tk.inline(tuner(where, num_to_keep=1))
    assert (failed.status, other.status) == (TrialStatus.FAILED, TrialStatus.COMPLETED)
    assert isinstance(failed.error, TrialError)
    assert failed.error.fields["cause"] is LossCause.RESTORE_FAILED
    assert "restart_errored=True" in str(failed.error)
    assert [row["count"] for row in failed.rows] == [1, 2, 3], "no row is computed anew"
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith("Counter_00000 could not go on from iteration 3: ")
    assert told.endswith("the trial has no other checkpoint to go on from; so it failed")
    store.remove(folder)
    brought_back(where, folder, content)
    results = tk.inline(again(where, resume_errored=True))
    assert [result.metrics["count"] for result in results] == [4, 4]
    assert not kinds(where, CheckpointMissing)
    assert not store.sizes(".quarantine")


def test_a_trial_whose_checkpoints_are_gone_starts_over_for_the_asking(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    where = f"memory://stock/{next(_NUMBER)}"
    paused_at(where, 3, monkeypatch)
    for iteration in (1, 2, 3):
        store_of(where).remove(f"Counter_00000/checkpoint_00000{iteration}")
    assert tk.inline(tuner(where))[0].status is TrialStatus.FAILED
    told, _ = (record.getMessage() for record in caplog.records)
    assert told.startswith("checkpoints that are gone or damaged, and their trials have no other to go on from: ")
    results = tk.inline(again(where, restart_errored=True))
    assert [result.metrics["count"] for result in results] == [4, 4]


@pytest.mark.parametrize("found", ["strange", "known"])
def test_only_what_is_adopted_keeps_a_trial_from_failing(
    found: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S003-12: a folder that is put aside a moment later is no reason to start over without a word."""
    where = f"memory://stock/{next(_NUMBER)}"
    paused_at(where, 3, monkeypatch, num_to_keep=1)
    content = saved(where, "Counter_00000/checkpoint_000003")
    store_of(where).remove("Counter_00000/checkpoint_000003")
    if found == "strange":
        brought_back(where, "Counter_00000/checkpoint_000009", content)
        trial = tk.inline(tuner(where, num_to_keep=1))[0]
        assert trial.status is TrialStatus.FAILED
        assert not kinds(where, CheckpointMissing)
        assert any("put aside" in record.getMessage() for record in caplog.records)
        return
    undisturbed = f"memory://stock/{next(_NUMBER)}"
    paused_at(undisturbed, 3, monkeypatch)
    brought_back(where, "Counter_00000/checkpoint_000002", saved(undisturbed, "Counter_00000/checkpoint_000002"))
    trial = tk.inline(tuner(where, num_to_keep=1))[0]
    assert (trial.status, trial.metrics["count"]) == (TrialStatus.COMPLETED, 4)
    assert [event.iteration for event in kinds(where, CheckpointMissing)] == [3]
    assert any("go on from what was found" in record.getMessage() for record in caplog.records)


def brought_back(where: str, folder: str, content: dict[str, bytes]) -> None:
    """Put a checkpoint's files back, as a copy from a backup does."""
    store = store_of(where)
    for name, data in content.items():
        assert store.put_if_absent(f"{folder}/{name}", data) == PutOutcome.CREATED


def saved(where: str, folder: str) -> dict[str, bytes]:
    store = store_of(where)
    return {name: store.read(f"{folder}/{name}") for name in store.sizes(folder)}


def test_what_was_brought_back_is_adopted_and_obeys_retention(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paused_at(where, 3, monkeypatch)
    folder = "Counter_00000/checkpoint_000002"
    content = saved(where, folder)
    assert checkpoints(tk.inline(tuner(where, num_to_keep=1))) == [[4], [4]]
    brought_back(where, folder, content)
    assert checkpoints(tk.inline(tuner(where, num_to_keep=2))) == [[2, 4], [4]]
    [adopted] = kinds(where, CheckpointAdopted)
    assert (adopted.trial, adopted.attempt, adopted.iteration) == (0, 1, 2)
    assert adopted.num_bytes == sum(len(data) for name, data in content.items() if name != "MANIFEST.json")
    [told] = [record.getMessage() for record in caplog.records if "adopted" in record.getMessage()]
    assert folder in told
    assert checkpoints(tuner(where).get_results()) == [[2, 4], [4]]


def test_what_the_journal_has_no_results_of_is_put_aside_and_made_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 1: a trial does not go on from results that no table shows. Here the journal is older than the rest."""
    where = f"memory://stock/{next(_NUMBER)}"
    undisturbed = [result.rows[-1]["count"] for result in tk.inline(tuner(f"{where}/undisturbed"))]
    paused_at(where, 3, monkeypatch)
    store = store_of(where)
    for segment in sorted(store.sizes("journal"), reverse=True):
        if not any(row.iteration == 3 for row in kinds(where, ResultReported)):
            break
        store.remove(f"journal/{segment}")
    staged = [event.iteration for event in kinds(where, CheckpointStaged)]
    assert staged in ([1], [1, 2])  # The second may have waited for the segment of the third row.
    assert store.sizes("Counter_00000/checkpoint_000003")
    results = tk.inline(tuner(where))
    assert [result.rows[-1]["count"] for result in results] == undisturbed
    assert checkpoints(results) == [[1, 2, 3, 4], [1, 2, 3, 4]]
    assert any(name.startswith("Counter_00000.3.1/") for name in store.sizes(".quarantine"))
    assert any("lacks result" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 1}'])
def test_what_is_strange_and_damaged_is_put_aside(where: str, damage: bytes) -> None:
    tk.inline(tuner(where))
    content = saved(where, "Counter_00001/checkpoint_000002")
    brought_back(where, "Counter_00001/checkpoint_000009", {**content, "MANIFEST.json": damage})
    brought_back(where, "Counter_00005/checkpoint_000002", content)
    brought_back(where, "Counter_00000/checkpoint_000007", content)
    assert checkpoints(tk.inline(tuner(where))) == [[1, 2, 3, 4], [1, 2, 3, 4]]
    aside = {name.partition("/")[0] for name in store_of(where).sizes(".quarantine")}
    assert aside == {"Counter_00001.9.0", "Counter_00005.2.0", "Counter_00000.7.0"}


def test_the_storage_is_listed_once_and_no_known_manifest_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"memory://stock/{next(_NUMBER)}"
    tk.inline(tuner(where))
    asked: list[str] = []

    class Counted(MemoryStore):
        def sizes(self, folder: str) -> dict[str, int]:
            asked.append(f"list {folder}")
            return super().sizes(folder)

        def read(self, key: str) -> bytes:
            asked.append(f"read {key}")
            return super().read(key)

    def never() -> RowTable:
        raise AssertionError

    trials = [result._history.state for result in tuner(where).get_results()]
    store = Counted(f"{where}/exp")
    assert take_stock(trials, CheckpointIO(store), lambda index: f"Counter_{index:05d}", never) == []
    assert asked == ["list "]
