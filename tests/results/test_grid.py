"""Questions about all trials."""

from __future__ import annotations

import math
from typing import Any, Protocol

import pytest

from tunekit.core.commands import LaunchTrial
from tunekit.core.events import ErrorInfo, ResultReported, WorkerLost
from tunekit.core.trial import TrialState
from tunekit.errors import ConfigError, MetricNotFoundError, NoResultError
from tunekit.results import Result, ResultGrid
from tunekit.types import LossCause, Outcome, TrialStatus


class Sweep(Protocol):
    """What ``conftest`` gives."""

    trials: list[TrialState]
    num_reads: int
    table: Any

    def add(self, *rows: dict[str, Any], **more: Any) -> TrialState: ...

    def grid(self, metric: str | None = ..., mode: str | None = ..., outcome: Outcome | None = ...) -> ResultGrid: ...


def _losses(*values: Any) -> list[dict[str, Any]]:
    return [{"loss": value} for value in values]


def test_the_losses_of_all_trials_are_added_up(sweep: Sweep) -> None:
    sweep.add({"loss": 1.0}).losses = {"crashed: SIGSEGV": 2, "preempted": 1}
    sweep.add({"loss": 1.0}).losses = {"preempted": 2}
    grid = sweep.grid()
    assert grid.losses == {"preempted": 3, "crashed: SIGSEGV": 2}
    assert grid[0].losses == {"crashed: SIGSEGV": 2, "preempted": 1}
    assert repr(grid) == "<ResultGrid 2 trials, 2 completed, 5 attempts lost, at /data/digits>"


def test_a_grid_is_a_sequence(sweep: Sweep) -> None:
    for _ in range(3):
        sweep.add(*_losses(1.0))
    grid = sweep.grid()
    assert len(grid) == 3
    assert [result.index for result in grid] == [0, 1, 2]
    assert [result.trial_id for result in grid[1:]] == ["train_00001", "train_00002"]
    assert grid[-1] is grid[2]
    assert grid[1] in grid
    with pytest.raises(IndexError):
        grid[3]


def test_counts_and_outcome(sweep: Sweep) -> None:
    oops = ErrorInfo(type="ValueError", message="oops")
    for status in TrialStatus:
        sweep.add(*_losses(1.0), status=status, error=oops if status is TrialStatus.FAILED else None)
    grid = sweep.grid(outcome=Outcome.INTERRUPTED)
    assert (grid.num_errors, grid.num_terminated, len(grid.errors)) == (1, 2, 1)
    assert grid.interrupted
    assert grid.outcome is Outcome.INTERRUPTED
    assert not sweep.grid().interrupted
    assert grid.experiment_path == "/data/digits"
    assert repr(grid).startswith("<ResultGrid 8 trials, 1 pending,")


@pytest.mark.parametrize(
    ("mode", "scope", "best"),
    [
        ("min", "last", 2),
        ("max", "last", 1),
        ("min", "all", 1),
        ("max", "all", 0),
        ("min", "avg", 2),
        ("max", "avg", 0),
        ("min", "last-5-avg", 2),
        ("max", "last-10-avg", 0),
    ],
)
def test_the_best_trial_depends_on_mode_and_scope(sweep: Sweep, mode: str, scope: str, best: int) -> None:
    sweep.add(*_losses(9.0, 5.0, 3.0))
    sweep.add(*_losses(0.0, 4.0))
    sweep.add(*_losses(1.0, 1.0, 1.0))
    grid = sweep.grid()
    assert grid.get_best_result("loss", mode, scope).index == best
    assert sweep.num_reads == (scope != "last"), "the newest rows are in memory"


def test_the_metric_and_mode_of_the_sweep_are_the_default(sweep: Sweep) -> None:
    sweep.add({"loss": 1.0, "val": {"acc": 0.9}})
    sweep.add({"loss": 0.5, "val": {"acc": 0.8}})
    assert sweep.grid().get_best_result().index == 1
    assert sweep.grid().get_best_result("val/acc", "max").index == 0
    assert sweep.grid(metric="val/acc", mode="max").get_best_result().index == 0
    assert sweep.grid().get_best_result(mode="max").index == 0
    assert sweep.grid().get_best_result("time_total_s").index == 0, "equals: the first trial"


def test_a_metric_that_the_last_row_lacks_is_found_in_an_earlier_one(sweep: Sweep) -> None:
    """Such as one that is measured every second epoch."""
    sweep.add({"loss": 1.0, "acc": 0.3}, {"loss": 0.5})
    sweep.add({"loss": 1.0, "acc": 0.2}, {"loss": 0.5})
    assert sweep.grid().get_best_result("acc", "max").index == 0


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "high"])
def test_a_trial_without_a_finite_value_is_never_the_best(sweep: Sweep, mode: str, bad: Any) -> None:
    """S003-20, of trials: in both modes."""
    sweep.add(*_losses(bad))
    sweep.add(*_losses(1.0))
    sweep.add(*_losses(bad))
    sweep.add()
    assert sweep.grid(mode=mode).get_best_result().index == 1


def test_infinities_can_be_let_in_but_nan_stays_last(sweep: Sweep) -> None:
    for value in (math.nan, 1.0, -math.inf, math.inf):
        sweep.add(*_losses(value))
    grid = sweep.grid()
    assert grid.get_best_result(filter_nan_and_inf=False).index == 2
    assert grid.get_best_result(mode="max", filter_nan_and_inf=False).index == 3
    sweep.trials[:] = sweep.trials[:1]
    assert sweep.grid().get_best_result(filter_nan_and_inf=False).index == 0


@pytest.mark.parametrize("num_trials", [1, 2])
def test_no_finite_value_is_an_error_with_one_trial_too(sweep: Sweep, num_trials: int) -> None:
    for _ in range(num_trials):
        sweep.add(*_losses(0.5, math.nan))
    with pytest.raises(NoResultError, match="no trial has a finite value of 'loss'") as caught:
        sweep.grid().get_best_result()
    assert "filter_nan_and_inf=False" in str(caught.value)
    assert sweep.grid().get_best_result(scope="all").index == 0


def test_no_result_at_all(sweep: Sweep) -> None:
    with pytest.raises(NoResultError, match=r"none of 0 trials[^$]*run fit\(\)"):
        sweep.grid().get_best_result()
    sweep.add()
    with pytest.raises(NoResultError, match=r"none of 1 trials[^$]*tunekit\.report"):
        sweep.grid().get_best_result()
    sweep.trials.clear()
    sweep.add(status=TrialStatus.FAILED)
    with pytest.raises(NoResultError, match=r"ResultGrid\.errors"):
        sweep.grid().get_best_result()
    assert sweep.grid().get_dataframe()["trial_id"].tolist() == ["train_00000"]


@pytest.mark.parametrize("num_trials", [1, 2])
def test_a_wrong_name_lists_the_right_ones(sweep: Sweep, num_trials: int) -> None:
    for _ in range(num_trials):
        sweep.add({"loss": 1.0, "val": {"accuracy": 0.5}})
    with pytest.raises(MetricNotFoundError, match="known are: loss, val/accuracy") as caught:
        sweep.grid().get_best_result("val/acuracy", "max")
    assert "did you mean 'val/accuracy'?" in str(caught.value)
    with pytest.raises(MetricNotFoundError):
        sweep.grid().get_dataframe("val/acuracy", "max")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scope": "first"}, "scope: got 'first', but must be 'last' or 'all'"),
        ({"mode": "maximum"}, "did you mean mode='max'"),
        ({"metric": 3}, "metric: got 3"),
    ],
)
def test_bad_arguments(sweep: Sweep, arguments: dict[str, Any], words: str) -> None:
    sweep.add(*_losses(1.0))
    with pytest.raises(ConfigError) as caught:
        sweep.grid().get_best_result(**arguments)
    assert words in str(caught.value)


def test_a_question_without_metric_or_mode(sweep: Sweep) -> None:
    sweep.add(*_losses(1.0))
    grid = sweep.grid(metric=None, mode=None)
    with pytest.raises(ConfigError, match="2 problems"):
        grid.get_best_result()
    with pytest.raises(ConfigError, match="mode: is missing"):
        grid.get_best_result("loss")
    with pytest.raises(ConfigError, match="metric: is missing"):
        grid.get_dataframe(filter_mode="min")


def test_the_table_has_a_row_for_each_trial(sweep: Sweep) -> None:
    sweep.add({"loss": 2.0}, {"loss": 1.0, "val": {"acc": 0.5}}, config={"lr": 0.1, "net": {"width": 3}})
    sweep.add({"loss": 0.5}, config={"lr": 0.2, "net": {"width": 4}})
    frame = sweep.grid().get_dataframe()
    assert frame["trial_id"].tolist() == ["train_00000", "train_00001"]
    assert frame["loss"].tolist() == [1.0, 0.5]
    assert frame["training_iteration"].tolist() == [2, 1]
    assert frame["config/lr"].tolist() == [0.1, 0.2]
    assert frame["config/net/width"].tolist() == [3, 4]
    assert frame["val/acc"].isna().tolist() == [False, True]
    assert frame["pid"].tolist() == [42, 42]
    assert sweep.num_reads == 0, "the newest rows are in memory"


def test_the_table_can_show_each_trial_at_its_best(sweep: Sweep) -> None:
    sweep.add(*_losses(2.0, 1.0, 3.0))
    sweep.add(*_losses(0.5, math.nan, 0.7))
    sweep.add({"acc": 1.0})
    grid = sweep.grid()
    assert grid.get_dataframe("loss", "min")["loss"].tolist()[:2] == [1.0, 0.5]
    best = grid.get_dataframe("loss", "max")
    assert best["loss"].tolist()[:2] == [3.0, 0.7]
    assert best["training_iteration"].tolist()[:2] == [3, 3]
    assert best["trial_id"].tolist() == ["train_00000", "train_00001", "train_00002"]
    assert best.loc[2, ["loss", "training_iteration"]].isna().all(), "it never had that metric"
    assert grid.get_dataframe("loss")["loss"].tolist()[:2] == [1.0, 0.5], "the sweep's mode"
    assert sweep.num_reads == 1


def test_rows_that_were_computed_again_count_once(sweep: Sweep) -> None:
    """The trial fell back from 3 to 1, then ended at 2 with a better loss."""
    state = sweep.add(*_losses(3.0, 2.0, 0.1))
    sweep.add(*_losses(1.5))
    again = ResultReported(trial=0, attempt=2, iteration=2, metrics={"loss": 1.0})
    for record in (
        WorkerLost(trial=0, attempt=1, cause=LossCause.CRASHED),
        LaunchTrial(trial=0, attempt=2, resume_from=1),
        again,
    ):
        sweep.table.apply(record)
    state.attempt, state.resume_from, state.last = 2, 1, again
    grid = sweep.grid()
    assert [row["loss"] for row in grid[0].rows] == [3.0, 1.0]
    assert grid.get_best_result(scope="all").metrics["loss"] == 1.0
    assert grid.get_best_result(scope="avg").index == 1


@pytest.mark.parametrize("status", [TrialStatus.FAILED, TrialStatus.RUNNING, TrialStatus.PAUSED])
def test_a_trial_that_fell_back_and_has_not_caught_up_is_at_its_highest_row(sweep: Sweep, status: TrialStatus) -> None:
    """Every question gets the same last row: it came to 3, fell back to 1, and is at 2."""
    state = sweep.add(*_losses(3.0, 2.0, 1.0), status=status)
    again = ResultReported(trial=0, attempt=2, iteration=2, metrics={"loss": 2.0})
    for record in (
        WorkerLost(trial=0, attempt=1, cause=LossCause.CRASHED),
        LaunchTrial(trial=0, attempt=2, resume_from=1),
        again,
    ):
        sweep.table.apply(record)
    state.attempt, state.resume_from, state.last = 2, 1, again
    grid = sweep.grid()
    result = grid[0]
    assert result.metrics["training_iteration"] == 3
    assert result.metrics == {**result.rows[-1], "config": result.config}
    assert grid.get_best_result(scope="last").metrics["loss"] == 1.0
    assert grid.get_dataframe()["training_iteration"].tolist() == [3]
    assert result.metrics_dataframe["training_iteration"].tolist() == [1, 2, 3]
    if status is TrialStatus.FAILED:
        assert "after iteration 3" in str(result.error)


def test_a_hundred_thousand_rows(sweep: Sweep) -> None:
    for trial in range(100):
        sweep.add(*({"loss": float(trial), "step": at} for at in range(1000)))
    grid = sweep.grid()
    best = grid.get_best_result(scope="avg")
    assert (best.index, len(best.rows)) == (0, 1000)
    assert len(grid.get_dataframe("step", "max")) == 100
    assert isinstance(grid[99], Result)
