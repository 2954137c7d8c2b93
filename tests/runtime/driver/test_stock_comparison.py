"""Storage and journal are held against each other in pure functions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.events import (
    CheckpointAdopted,
    CheckpointMissing,
    Draw,
    ResultReported,
)
from tunekit.core.trial import CheckpointState, CheckpointStatus, TrialState
from tunekit.runtime.driver.stocktaking import compare, judge, settled
from tunekit.store import PutOutcome, manifest, open_store
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
    assert not found.bereft


@pytest.mark.parametrize("remains", [[], ["train_00000/checkpoint_000005"]])
def test_the_last_one_that_a_trial_has_is_not_forgotten(remains: list[str]) -> None:
    """It would start over without a word. Nor is it put aside: somebody may put a copy in its place."""
    found = settled(compare([trial(entry(2), entry(5), entry(6, STAGED))], there(damaged=remains), name), [])
    assert found.missing == [missing(2)]
    assert not found.remains
    assert found.bereft == found.hopeless == {0}


@pytest.mark.parametrize(
    ("seen", "entries", "more"),
    [
        (there(), [entry(5, is_doubted=True)], {}),
        (there(), [entry(5, began_anew=True)], {}),
        (there(), [entry(5)], {"status": TrialStatus.COMPLETED}),
        (there(), [entry(5)], {"status": TrialStatus.STOPPED}),
    ],
)
def test_the_last_one_is_forgotten_if_that_costs_nothing_or_was_our_own_doing(
    seen: Overview, entries: list[CheckpointState], more: dict[str, Any]
) -> None:
    found = settled(compare([trial(*entries, **more)], seen, name), [])
    assert found.missing == [missing(5)]
    assert not found.hopeless


@pytest.mark.parametrize(("exact", "is_found"), [(True, True), (False, False), (None, False)])
def test_only_what_is_adopted_lets_the_last_one_be_forgotten(*, exact: bool | None, is_found: bool) -> None:
    """What is put aside is nothing to go on from, nor is what was saved when an attempt failed."""
    folder = "failure_000007_2" if exact is False else "checkpoint_000007"
    seen = there(f"train_00000/{folder}", damaged=["train_00000/checkpoint_000005"])
    adopted = [] if exact is None else [CheckpointAdopted(trial=0, attempt=1, iteration=7, exact=exact)]
    found = settled(compare([trial(entry(5))], seen, name), adopted)
    assert [unknown.folder for unknown in found.unknown] == [f"train_00000/{folder}"]
    assert found.bereft == {0}
    assert found.hopeless == (set() if is_found else {0})
    assert found.missing == found.remains == ([missing(5)] if is_found else [])


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
