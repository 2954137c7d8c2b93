"""One trial's result."""

from __future__ import annotations

import builtins
import math
import pickle
import re
from typing import Any, Protocol

import pytest

from tunekit.core.commands import LaunchTrial
from tunekit.core.events import ErrorInfo, Place, WorkerLost
from tunekit.core.trial import CheckpointStatus, TrialState
from tunekit.errors import ConfigError, MetricNotFoundError, NoResultError, TrialError, TunekitError
from tunekit.results import ResultGrid
from tunekit.types import LossCause, TrialStatus


class Sweep(Protocol):
    """What ``conftest`` gives."""

    num_reads: int
    table: Any

    def add(self, *rows: dict[str, Any], **more: Any) -> TrialState: ...

    def grid(self) -> ResultGrid: ...


def test_metrics_are_the_last_row_under_ray_tunes_names(sweep: Sweep) -> None:
    sweep.add({"loss": 2.0}, {"loss": 1.0, "val": {"acc": 0.5}}, config={"lr": 0.1}, reason="done")
    result = sweep.grid()[0]
    metrics = dict(result.metrics)
    assert re.fullmatch(r"2023-11-1\d_\d\d-\d\d-\d\d", metrics.pop("date"))
    assert metrics == {
        "loss": 1.0,
        "val": {"acc": 0.5},
        "training_iteration": 2,
        "time_this_iter_s": 0.5,
        "time_total_s": 1.0,
        "timestamp": 1_700_000_002.0,
        "trial_id": "train_00000",
        "pid": 42,
        "hostname": "here",
        "node_ip": "127.0.0.1",
        "config": {"lr": 0.1},
    }
    assert sweep.num_reads == 0, "the newest row is in memory"
    assert (result.index, result.trial_id, result.status) == (0, "train_00000", TrialStatus.COMPLETED)
    assert (result.path, result.reason, result.error) == ("/data/digits/train_00000", "done", None)
    assert result.config is result.config


def test_tunekits_own_columns_are_shown_as_they_are(sweep: Sweep) -> None:
    sweep.add({"training_iteration": 99, "trial_id": "mine", "loss": 1.0})
    result = sweep.grid()[0]
    assert (result.metrics["training_iteration"], result.metrics["trial_id"]) == (1, "train_00000")


def test_a_trial_without_results(sweep: Sweep) -> None:
    sweep.add(status=TrialStatus.PENDING)
    result = sweep.grid()[0]
    assert (result.metrics, result.rows, result.checkpoint, result.best_checkpoints) == ({}, [], None, [])
    assert result.metrics_dataframe.empty
    assert repr(result) == "Result('train_00000', pending, no results)"


def test_rows_and_table_hold_every_iteration_once(sweep: Sweep) -> None:
    """S003-12: the history shows each iteration once."""
    sweep.add({"loss": 2.0}, {"loss": math.nan, "val": {"acc": 0.5}}, config={"lr": 0.1, "layers": [1, 2]})
    result = sweep.grid()[0]
    assert [row["training_iteration"] for row in result.rows] == [1, 2]
    assert result.rows[0]["loss"] == 2.0
    assert "config" not in result.rows[0]
    frame = result.metrics_dataframe
    assert frame["training_iteration"].tolist() == [1, 2]
    assert frame["val/acc"].tolist()[1] == 0.5
    assert frame["config/layers"].tolist() == [[1, 2], [1, 2]]
    assert frame is result.metrics_dataframe
    assert sweep.num_reads == 1


def test_a_trial_that_ended_before_its_newest_row_shows_the_row_that_counts(sweep: Sweep) -> None:
    """It fell back from 3 to its checkpoint at 2, and had nothing more to do."""
    state = sweep.add({"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0})
    sweep.table.apply(WorkerLost(trial=0, attempt=1, cause=LossCause.CRASHED))
    sweep.table.apply(LaunchTrial(trial=0, attempt=2, resume_from=2))
    state.attempt, state.resume_from = 2, 2
    result = sweep.grid()[0]
    assert result.metrics["loss"] == 2.0
    assert [row["loss"] for row in result.rows] == [3.0, 2.0]


def test_the_place_of_a_row_is_not_that_of_a_later_attempt(sweep: Sweep) -> None:
    """The second attempt runs elsewhere and has not reported anything yet."""
    state = sweep.add({"loss": 3.0}, status=TrialStatus.RUNNING)
    state.attempt, state.place = 2, Place(pid=43)
    result = sweep.grid()[0]
    assert result.metrics["pid"] == 0, "not known without reading the journal"
    assert result.rows[0]["pid"] == 42


def test_what_a_trial_failed_of(sweep: Sweep) -> None:
    oops = ErrorInfo(type="ValueError", message="oops", traceback="Traceback …\nValueError: oops")
    sweep.add({"loss": 1.0}, status=TrialStatus.FAILED, error=oops)
    error = sweep.grid()[0].error
    assert isinstance(error, TrialError)
    assert str(error).startswith("trial train_00000 failed after iteration 1: ValueError: oops\n\nhint: ")
    assert error.fields == {"cause": "user exception", "error_type": "ValueError", "traceback": oops.traceback}
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("info", "message", "cause"),
    [
        (ErrorInfo(type="crashed", message="SIGKILL"), "before its first result: crashed: SIGKILL", LossCause.CRASHED),
        (ErrorInfo(type="out of memory", message=""), "result: out of memory", LossCause.OUT_OF_MEMORY),
        (ErrorInfo(type="E", message="m", hint="do this"), "hint: do this", "user exception"),
        (None, "failed before its first result", "user exception"),
    ],
)
def test_what_a_trial_was_lost_of(sweep: Sweep, info: ErrorInfo | None, message: str, cause: str) -> None:
    sweep.add(status=TrialStatus.FAILED, error=info).cause = LossCause(cause)
    error = sweep.grid()[0].error
    assert error is not None
    assert message in str(error)
    assert error.fields["cause"] == cause
    assert not str(error).splitlines()[0].endswith(": ")


def test_a_failure_that_was_survived_is_no_error(sweep: Sweep) -> None:
    sweep.add({"loss": 1.0}, error=ErrorInfo(type="crashed", message=""))
    assert sweep.grid()[0].error is None


def test_checkpoints_are_those_that_can_be_restored(sweep: Sweep) -> None:
    state = sweep.add(*({"loss": 1.0 / at} for at in range(1, 7)), saved=[2, 3, 4, 5, 6])
    state.checkpoints[3].damaged = True
    state.checkpoints[5].status = CheckpointStatus.DELETING
    state.checkpoints[6].status = CheckpointStatus.STAGED
    result = sweep.grid()[0]
    assert result.checkpoint is not None
    assert result.checkpoint.path == "/data/digits/train_00000/checkpoint_000004"
    assert sweep.num_reads == 0
    assert [(checkpoint.path[-6:], row["loss"]) for checkpoint, row in result.best_checkpoints] == [
        ("000002", 0.5),
        ("000004", 0.25),
    ]


@pytest.mark.parametrize(("mode", "iteration"), [("min", 6), ("max", 3)])
def test_the_best_checkpoint_of_a_metric(sweep: Sweep, mode: str, iteration: int) -> None:
    """S003-20: nested keys work, NaN ranks last in both modes, and the newer of equals is the better one."""
    accuracies: list[Any] = [0.9, 0.8, 0.9, math.nan, None, 0.8]
    sweep.add(*({"val": {"acc": value}} for value in accuracies), saved=[2, 3, 4, 5, 6])
    checkpoint = sweep.grid()[0].get_best_checkpoint("val/acc", mode)
    assert checkpoint.path.endswith(f"checkpoint_{iteration:06d}")


@pytest.mark.parametrize(
    ("flawed", "expected"), [([], 6), ([6], 4), ([4, 6], 2), ([2, 4, 6], 6)], ids=["none", "6", "4 and 6", "all"]
)
def test_the_checkpoint_of_a_trial_is_the_newest_of_its_own_training(
    sweep: Sweep, flawed: list[int], expected: int
) -> None:
    state = sweep.add({"loss": 1.0}, status=TrialStatus.FAILED, saved=[2, 4, 6])
    for at in flawed:
        state.checkpoints[at].began_anew = True
    result = sweep.grid()[0]
    assert result.checkpoint is not None
    assert result.checkpoint.path.endswith(f"checkpoint_{expected:06d}")
    assert len(result.best_checkpoints) == 3, "all that were kept"


def test_no_best_checkpoint(sweep: Sweep) -> None:
    sweep.add({"loss": 1.0})
    sweep.add({"loss": math.nan}, saved=[1])
    bare, nan = sweep.grid()
    with pytest.raises(NoResultError, match="train_00000 has no checkpoint"):
        bare.get_best_checkpoint("loss", "min")
    with pytest.raises(NoResultError, match=r"finite value of 'loss'[^$]*hint: "):
        nan.get_best_checkpoint("loss", "min")
    with pytest.raises(MetricNotFoundError, match="did you mean 'loss'"):
        nan.get_best_checkpoint("los", "min")
    with pytest.raises(ConfigError, match="mode: got 'best'"):
        nan.get_best_checkpoint("loss", "best")


def test_without_pandas_a_table_says_what_to_do(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pandas(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return real(name, *args, **kwargs)

    sweep.add({"loss": 1.0})
    grid = sweep.grid()
    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(TunekitError, match="pip install 'tunekit\\[pandas\\]'"):
        grid.get_dataframe()
    assert grid.get_best_result().rows[0]["loss"] == 1.0
