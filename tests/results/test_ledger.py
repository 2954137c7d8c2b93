"""The ledger as users see it: sums, names, money and text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tunekit.core.accounts import Accounts
from tunekit.core.books import Spent
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import Draw, TimerFired
from tunekit.core.rows import RowTable
from tunekit.core.trial import TrialState
from tunekit.errors import ConfigError
from tunekit.results import Ledger, ResultGrid, Seconds

S = 1_000_000
SPENT = {
    0: {
        "no loss": Spent(useful=7200 * S, checkpointing=360 * S, queued=40 * S),
        "preempted": Spent(recomputed=720 * S, restoring=30 * S, queued=5 * S),
    },
    2: {"no loss": Spent(pruned=1800 * S, waiting=90 * S), "crashed": Spent(recomputed=60 * S)},
}


def ledger(spent: Any = SPENT, resources: Mapping[str, float] | None = None) -> Ledger:
    occupied = {"CPU": 2.0, "GPU": 0.5} if resources is None else resources
    return Ledger(spent, trial_name=lambda trial: f"train_{trial:05}", resources=lambda _: occupied)


def test_all_sums_are_of_the_same_seconds() -> None:
    found = ledger()
    assert found.total == Seconds(
        useful_s=7200, pruned_s=1800, recomputed_s=780, checkpointing_s=360, restoring_s=30, waiting_s=90, queued_s=45
    )
    assert found.total.lost_s == 1260
    assert found.total.held_s == 10260
    assert found.total.leased_s == 10305 == sum(found.total.by_kind().values())
    assert list(found.by_trial) == ["train_00000", "train_00002"]
    assert found.by_trial["train_00002"].leased_s == 1950
    assert list(found.by_cause) == ["no loss", "preempted", "crashed"], "the dearest loss first"
    assert found.of("train_00000")["preempted"] == found.by_cause["preempted"]
    assert sum(seconds.leased_s for seconds in found.by_cause.values()) == 10305
    with pytest.raises(KeyError):
        found.of("train_00001")


def test_it_is_there_as_plain_dicts() -> None:
    plain = json.loads(json.dumps(ledger().to_dict()))
    assert plain["total"]["useful"] == 7200
    assert plain["total"]["leased"] == 10305
    assert plain["by_cause"]["crashed"]["recomputed"] == 60
    assert plain["by_trial"]["train_00002"]["by_cause"]["no loss"]["pruned"] == 1800


def test_a_large_ledger_asks_for_the_name_of_each_trial_once() -> None:
    asked: list[int] = []

    def trial_name(trial: int) -> str:
        asked.append(trial)
        return f"t_{trial}"

    spent = {trial: {"no loss": Spent(useful=trial)} for trial in range(100)}
    found = Ledger(spent, trial_name=trial_name, resources=lambda _: {}).to_dict()
    assert found["by_trial"]["t_99"]["by_cause"]["no loss"]["useful"] == 99e-6
    assert len(asked) <= 200


def test_money_is_for_what_a_trial_occupies_while_a_worker_is_there() -> None:
    """2 CPUs at 0.1 and half a GPU at 3.6 are 2 an hour; seconds queued cost nothing."""
    cost = ledger().cost({"CPU": 0.1, "gpu": 3.6, "TPU": 99})
    assert cost.total == pytest.approx(10260 / 3600 * 2)
    assert cost.useful == pytest.approx(5.0)
    assert cost.lost == pytest.approx(0.7)
    assert cost.by_kind["queued"] == 0
    assert cost.by_kind["checkpointing"] == pytest.approx(0.2)
    assert sum(cost.by_trial.values()) == pytest.approx(cost.total) == pytest.approx(sum(cost.by_cause.values()))
    assert str(cost) == "5.70 in all: 5.00 useful, 0.70 lost"


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({}, "at least one price"),
        (0.1, "at least one price"),
        ({"CPU": -1}, "prices['CPU']: got -1, but must be a finite number >= 0"),
        ({"CPU": float("nan"), "GPU": "1"}, "prices['GPU']"),
        ({1: 2}, "keyed by names"),
        (None, "prices: is missing"),
        ({"TPU": 1}, "got prices for TPU, but trials occupy only CPU, GPU"),
    ],
)
def test_prices_that_mean_nothing_are_refused(prices: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ledger().cost(prices)
    assert message in str(caught.value)
    assert "prices={'CPU': 0.04, 'GPU': 2.1}" in str(caught.value)


def test_what_is_brief_or_cheap_is_shown_more_finely() -> None:
    found = ledger({0: {"no loss": Spent(useful=1_234_000)}})
    assert str(found).splitlines()[1].split() == ["no", "loss", "1.234", *["0.000"] * 6, "1.234"]
    assert str(found.cost({"CPU": 0.05})) == "3.4e-05 in all: 3.4e-05 useful, 0 lost"


def test_a_sweep_that_has_not_begun_cost_nothing() -> None:
    found = ledger({})
    assert found.total == Seconds()
    assert found.cost({"CPU": 1}).total == 0
    assert str(found).splitlines()[-1].startswith("total")


def test_it_is_shown_as_a_table_with_two_lines_below() -> None:
    lines = str(ledger()).splitlines()
    assert lines[0].split() == [
        "seconds", "useful", "pruned", "recomputed", "checkpointing", "restoring", "waiting", "queued", "leased"
    ]  # fmt: skip
    assert lines[2].split() == ["preempted", "0.0", "0.0", "720.0", "0.0", "30.0", "0.0", "5.0", "755.0"]
    assert lines[4].split()[-1] == "10,305.0"
    assert len({len(line) for line in lines[:5]}) == 1
    lost = "recomputed 13 min [preempted 12 min, crashed 60 s], checkpointing 6 min, restoring 30 s, waiting 90 s"
    assert lines[5:] == [
        "",
        "useful  2.5 h, 87.7 % (30 min of it in trials that were stopped early)",
        f"lost    21 min, 12.3 % ({lost})",
    ]
    assert repr(ledger()) == "<Ledger 10260.0 s of workers: 9000.0 useful, 1260.0 lost>"


def test_a_trial_that_was_made_at_the_very_moment_of_the_results_is_none_of_them() -> None:
    """A driver that runs may write on while its journal is read, and records of one moment look alike."""
    launches = [LaunchTrial(trial=trial, attempt=1) for trial in range(2)]
    grid = ResultGrid(
        trials=[TrialState(trial=0, draw=Draw())],
        configs=lambda _: {},
        rows=RowTable,
        accounts=lambda: Accounts([TimerFired(at=0.0), *launches, TimerFired(at=2.0)]),
        resources=lambda trial: [{"CPU": 1.0}][trial],
        trainable_name="train",
        path="/data/digits",
    )
    assert list(grid.ledger.by_trial) == ["train_00000"]
    assert grid.ledger.cost({"CPU": 1.0}).total == 0.0
