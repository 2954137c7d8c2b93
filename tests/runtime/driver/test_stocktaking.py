"""A driver that takes over compares storage and journal: what is gone is forgotten, what is strange is not used."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator, Sequence
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
    Draw,
    Event,
    RestoreFailed,
    ResultReported,
)
from tunekit.core.rows import RowTable
from tunekit.core.trial import CheckpointState, CheckpointStatus, TrialState
from tunekit.journal.folder import experiment_folder
from tunekit.runtime.driver.stocktaking import compare, judge, take_stock
from tunekit.store import CheckpointIO, PutOutcome, Store, manifest, open_store
from tunekit.store.layout import CheckpointKey
from tunekit.store.manifest import Manifest
from tunekit.store.memory import MemoryStore
from tunekit.store.overview import Overview, of_names, overview
from tunekit.types import TrialStatus

_NUMBER = itertools.count()
STAGED, PUBLISHED, DELETING = CheckpointStatus


def name(trial: int) -> str:
    return f"train_{trial:05d}"


def entry(iteration: int, status: CheckpointStatus = PUBLISHED, **more: Any) -> CheckpointState:
    return CheckpointState(**{"iteration": iteration, "attempt": 1, "status": status, **more})


def trial(*entries: CheckpointState, **more: Any) -> TrialState:
    exact = {each.iteration: each for each in entries if each.exact}
    failures = {each.attempt: each for each in entries if not each.exact}
    fields = {"trial": 0, "draw": Draw(), "attempt": 2, **more}
    return TrialState(checkpoints=exact, failures_saved=failures, **fields)


def there(*folders: str, damaged: Sequence[str] = ()) -> Overview:
    """What is seen where these checkpoints are whole, beside much that is none."""
    listing = [f"{folder}/{file}" for folder in folders for file in ("model.pt", "MANIFEST.json")]
    others = ["experiment.json", "journal/000000000001.jsonl", "driver.lease", "train_00000/trial.log", "plots/a/b.png"]
    broken = [f"{folder}/model.pt" for folder in damaged]
    return of_names([*listing, *broken, *others, ".trash/train_00000/checkpoint_000001/MANIFEST.json"])


def missing(iteration: int, attempt: int = 1, *, exact: bool = True) -> CheckpointMissing:
    return CheckpointMissing(trial=0, attempt=attempt, iteration=iteration, exact=exact)


# -- comparing, in pure functions --------------------------------------------------------------------------------------


def test_what_is_known_and_there_is_no_difference() -> None:
    entries = [entry(1), entry(3), entry(4, STAGED), entry(5, DELETING), entry(2, exact=False)]
    seen = there("train_00000/checkpoint_000001", "train_00000/checkpoint_000003", "train_00000/failure_000002_1")
    found = compare([trial(*entries)], seen, name)
    assert (found.missing, found.remains, found.unknown) == ([], [], [])


def test_what_is_on_its_way_in_or_out_may_be_there_or_not() -> None:
    entries = [entry(4, STAGED), entry(5, DELETING)]
    both = there("train_00000/checkpoint_000004", "train_00000/checkpoint_000005")
    for seen in (there(), both):
        found = compare([trial(*entries)], seen, name)
        assert (found.missing, found.unknown) == ([], [])


def test_what_is_gone_or_has_lost_its_manifest_is_missing() -> None:
    beneath = entry(6, STAGED, attempt=2, replaces=entry(6))
    seen = there("train_00000/checkpoint_000001", damaged=["train_00000/checkpoint_000003"])
    found = compare([trial(entry(1), entry(2), entry(3), beneath, entry(2, exact=False))], seen, name)
    assert found.missing == [missing(2), missing(3), missing(6), missing(2, exact=False)]
    assert found.remains == [missing(3)]


def test_what_nobody_knows_is_unknown_also_of_trials_that_nobody_knows() -> None:
    strange = [
        "train_00000/checkpoint_000007",
        "train_00000/failure_000002_1",
        "train_00004/checkpoint_000001",
    ]
    none_of_ours = ["other_00000/checkpoint_000001", "train_00000/checkpoint_7", "train_1/checkpoint_000001"]
    found = compare([trial(entry(1))], there("train_00000/checkpoint_000001", *strange, *none_of_ours), name)
    assert found.missing == []
    assert sorted(unknown.folder for unknown in found.unknown) == sorted(strange)
    assert {unknown.trial for unknown in found.unknown} == {0, 4}


def test_all_stores_see_the_same(tmp_path: Path) -> None:
    local, memory = open_store(tmp_path), MemoryStore(f"memory://stock/{next(_NUMBER)}")
    for name in ("a_00000/checkpoint_000001/MANIFEST.json", "a_00000/checkpoint_000002/d/f", "a_00000/trial.log", "x"):
        assert local.put_if_absent(name, b"1") == memory.put_if_absent(name, b"1") == PutOutcome.CREATED
    local.put_if_absent(".trash/a_00000/checkpoint_000003/MANIFEST.json", b"1")
    expected = {"a_00000": {"checkpoint_000001": True, "checkpoint_000002": False}}
    assert overview(local) == overview(memory) == expected


def rows(*attempts: int) -> list[ResultReported]:
    """Row 1, row 2, … by these attempts; 0: there is none."""
    numbered = enumerate(attempts, start=1)
    return [ResultReported(trial=0, attempt=by, iteration=at, metrics={}) for at, by in numbered if by]


def shown(iteration: int, attempt: int = 1, *, exact: bool = True) -> Manifest:
    key = CheckpointKey("train_00000", iteration, attempt, exact)
    return manifest.check(manifest.seal(key, [], {}), "")


@pytest.mark.parametrize(
    ("found", "table", "changes", "why"),
    [
        (shown(3), rows(1, 1, 1), {}, ""),
        (shown(3), rows(1, 1, 1, 1), {}, ""),
        (shown(3, 2), rows(1, 1, 2), {}, ""),
        (shown(3), rows(1, 1), {}, "lacks result 3"),
        (shown(3), rows(1, 0, 1), {}, "lacks result 2"),
        (shown(3), rows(1, 1, 2), {}, "attempt 2 has gone on without it"),
        (shown(3, 3), rows(1, 1, 1), {}, "nothing of attempt 3"),
        (shown(3, 0), rows(1, 1, 1), {}, "nothing of attempt 0"),
        (shown(3), rows(1, 1, 1), {"attempt": 0}, "nothing of attempt 1"),
        (shown(3), rows(2, 2), {"status": TrialStatus.COMPLETED, "last": rows(2, 2)[1]}, "ended at iteration 2"),
        (shown(2, exact=False), rows(1, 2), {}, ""),
        (shown(2, exact=False), rows(1), {}, "lacks result 2"),
        (shown(0, exact=False), rows(), {}, ""),
    ],
)
def test_only_what_the_journal_holds_all_results_of_is_adopted(
    found: Manifest, table: list[ResultReported], changes: dict[str, Any], why: str
) -> None:
    said = judge(found, trial(**changes), table)
    assert (why in said) if why else (said == "")


def test_of_a_trial_that_nobody_knows_nothing_is_adopted() -> None:
    assert "nothing of attempt 1" in judge(shown(1), None, rows(1))


# -- whole sweeps ------------------------------------------------------------------------------------------------------


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


def paused_at(where: str, iteration: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until the first trial has come so far, and interrupt it there."""
    step = Counter.step

    def step_and_interrupt(self: Counter) -> dict[str, Any]:
        if self.count == iteration - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Counter, "step", step_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            tk.inline(tuner(where))


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
    assert any("lacks result 3" in record.getMessage() for record in caplog.records)


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
