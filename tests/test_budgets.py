"""What ends a sweep before its trials do, and what a later run of the script makes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from trainables import Counter, Make, maker

import tunekit as tk
from tunekit.errors import ConfigError, TrialError
from tunekit.runtime.driver import clock
from tunekit.runtime.sweep import inline, plan
from tunekit.types import Outcome, TrialStatus


class Time:
    """The experiment's time, which passes only where somebody says that something takes it."""

    now_s = 0.0


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    for module in (clock, inline):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: Time.now_s))
    monkeypatch.setattr(plan, "time", SimpleNamespace(time=lambda: Time.now_s))
    return maker(tmp_path)


def slowly(config: dict[str, Any]) -> None:
    for _ in range(config["steps"]):
        Time.now_s += 0.05
        tk.report({"loss": 1.0})


def test_a_time_budget_pauses_and_a_larger_one_goes_on(make: Make) -> None:
    """S004-11: it counts over all runs, without the time in between."""
    space = {"steps": 1000}
    first = tk.inline(make(slowly, space, time_budget_s=0.5))
    assert (first.outcome, first[0].status) == (Outcome.TIME_BUDGET, TrialStatus.PAUSED)
    rows = len(first[0].rows)
    assert 9 <= rows <= 13, "a budget is seen while the trial runs"
    again = tk.inline(make(slowly, space, time_budget_s=0.5))
    assert (again.outcome, len(again[0].rows)) == (Outcome.TIME_BUDGET, rows)
    more = tk.inline(make(slowly, space, time_budget_s=1.0))
    assert more.outcome is Outcome.TIME_BUDGET


def test_a_cost_pauses_and_a_larger_one_goes_on(make: Make, tmp_path: Path) -> None:
    """It counts over all runs, by what trials occupied, at the prices of the run that asks."""
    space = {"steps": 1000}
    train = tk.with_resources(slowly, {"license": 2})
    prices = {"license": 1800.0}  # two of them: 1 a second
    first = tk.inline(make(train, space, max_cost=0.5, prices=prices))
    assert (first.outcome, first[0].status) == (Outcome.MAX_COST, TrialStatus.PAUSED)
    rows = len(first[0].rows)
    assert 0 < rows <= 13
    again = tk.inline(make(train, space, max_cost=0.5, prices=prices))
    assert (again.outcome, len(again[0].rows)) == (Outcome.MAX_COST, rows)
    kept = tk.inline(tk.Tuner.restore(tmp_path / "exp", train))
    assert (kept.outcome, len(kept[0].rows)) == (Outcome.MAX_COST, rows)
    dearer = tk.inline(make(train, space, max_cost=1.0, prices={"license": 3600.0}))
    assert (dearer.outcome, len(dearer[0].rows)) == (Outcome.MAX_COST, rows)
    more = tk.inline(make(train, space, max_cost=1.0, prices=prices))
    assert (more.outcome, more[0].status) == (Outcome.MAX_COST, TrialStatus.PAUSED)


def test_a_cost_that_nothing_adds_to_is_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="got prices for TPU, but a trial occupies only CPU"):
        make(slowly, {"steps": 1}, max_cost=1.0, prices={"TPU": 2.0})
    free = tk.with_resources(slowly, {"gpu": 0, "cpu": 2})
    with pytest.raises(ConfigError, match=r"(?s)got prices for GPU, but a trial occupies only CPU.*hint: .*price for"):
        make(free, {"steps": 1}, max_cost=1.0, prices={"GPU": 2.0, "CPU": 0})
    with pytest.raises(ConfigError, match="but a trial occupies nothing"):
        make(tk.with_resources(slowly, {"cpu": 0}), {"steps": 1}, max_cost=1.0, prices={"CPU": 2.0})


def test_a_cost_that_nothing_adds_to_is_refused_with_all_else(make: Make) -> None:
    failures = tk.FailureConfig(hang_timeout_s=None)
    with pytest.raises(ConfigError) as caught:
        make(
            slowly,
            {},
            max_cost=1.0,
            prices={"TPU": 2.0},
            deterministic=True,
            max_concurrent_trials=1,
            run={"failure_config": failures},
        )
    assert [problem.partition(":")[0] for problem in caught.value.fields["problems"]] == [
        "FailureConfig.hang_timeout_s",
        "max_cost",
    ]


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        (
            {"deadline": datetime.fromtimestamp(-9, UTC)},
            "the deadline has come (hint: run the script again with",
        ),
        ({"time_budget_s": 0.01}, "the time budget of 0.01 s is used up (hint: run the script again with a larger"),
        ({"max_cost": 1e-5, "prices": {"CPU": 3.6}}, "max_cost is used up: the trials have cost"),
    ],
    ids=str,
)
def test_every_run_that_a_limit_ends_says_so(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: dict[str, Any], why: str
) -> None:
    """Also one that launches nothing."""
    tk.inline(make(slowly, {"steps": 100}, **limit, run={"verbose": 1}))
    assert f"! {why}" in capsys.readouterr().err
    tk.inline(make(slowly, {"steps": 100}, **limit, run={"verbose": 1}))
    assert f"! {why}" in capsys.readouterr().err
    tk.inline(tk.Tuner.restore(tmp_path / "exp", slowly))
    assert f"! {why}" in capsys.readouterr().err


def test_a_deadline_pauses_and_a_later_one_goes_on(make: Make, tmp_path: Path) -> None:
    """Restored from its path, the experiment keeps the deadline that it had."""

    def soon(seconds: float) -> datetime:
        return datetime.fromtimestamp(Time.now_s + seconds, UTC)

    space = {"steps": 1000}
    first = tk.inline(make(slowly, space, deadline=soon(0.5)))
    assert (first.outcome, first[0].status) == (Outcome.DEADLINE, TrialStatus.PAUSED)
    rows = len(first[0].rows)
    assert 9 <= rows <= 13
    kept = tk.inline(tk.Tuner.restore(tmp_path / "exp", slowly))
    assert (kept.outcome, len(kept[0].rows)) == (Outcome.DEADLINE, rows)
    settings = make(slowly, space, deadline=soon(3600.0))._plan.settings(1, 50.0)
    assert settings.deadline_s == pytest.approx(3650.0), "the time of the experiment goes on where it was"
    over = tk.inline(make(slowly, {"steps": 1000}, deadline=soon(-9.0)))
    assert (over.outcome, len(over[0].rows)) == (Outcome.DEADLINE, rows)
    finished = tk.inline(make(slowly, space, deadline=soon(3600.0), run={"stop": {"training_iteration": 3}}))
    assert finished.outcome is Outcome.FINISHED


def test_an_endless_sweep_begins_no_more_than_it_can_run(make: Make) -> None:
    results = tk.inline(make(slowly, {"steps": 2, "x": tk.uniform(0, 1)}, num_samples=-1, time_budget_s=0.6))
    assert results.outcome is Outcome.TIME_BUDGET
    waiting = [result for result in results if result.status is TrialStatus.PENDING]
    assert len(waiting) <= 1
    assert len(results) >= 3


def test_fewer_samples_begin_no_other_trials(make: Make) -> None:
    tk.inline(make(slowly, {"steps": 2, "x": tk.uniform(0, 1)}, num_samples=50, time_budget_s=0.4))
    results = tk.inline(make(slowly, {"steps": 2, "x": tk.uniform(0, 1)}, num_samples=5))
    assert results.outcome is Outcome.FINISHED
    assert sum(result.status is TrialStatus.COMPLETED for result in results) <= 6


def test_a_failure_is_raised_by_the_run_in_which_it_happened(make: Make, tmp_path: Path) -> None:
    run = {"stop": {"training_iteration": 2}, "failure_config": tk.FailureConfig(fail_fast="raise")}
    space = {"fail_at": tk.grid_search([1, 99, 2]), "flags": tmp_path}
    with pytest.raises(TrialError, match="Counter_00000"):
        tk.inline(make(Counter, space, run=run))
    with pytest.raises(TrialError, match="Counter_00002"):
        tk.inline(make(Counter, space, run=run))
    assert tk.inline(make(Counter, space, run=run)).num_errors == 2


class Patience:
    """A stop function with a memory: it ends the trial at its sixth row, over all runs."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, trial: str, result: dict[str, Any]) -> bool:
        Time.now_s += 0.1
        self.calls += 1
        return self.calls >= 6


def test_a_stop_function_gets_its_memory_back(make: Make) -> None:
    """Promise 1, for criteria that count: a run that was interrupted ends at the same row."""
    run = {"checkpoint_config": tk.CheckpointConfig(checkpoint_frequency=1)}
    interrupted = tk.inline(make(Counter, {}, time_budget_s=0.25, run={**run, "stop": Patience()}))
    assert 1 <= len(interrupted[0].rows) < 6
    resumed = tk.inline(make(Counter, {}, run={**run, "stop": Patience()}))
    assert [row["count"] for row in resumed[0].rows] == [1, 2, 3, 4, 5, 6]
