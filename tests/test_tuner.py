"""The whole way through the house in one process: sweeps, resume, restore, and every bad input said early."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.errors import (
    ConfigError,
    ExperimentError,
    ExperimentExistsError,
    ExperimentMismatchError,
    ExperimentNotFoundError,
    StorageError,
    TrainableError,
    TrialError,
)
from tunekit.journal.lock import DriverLock
from tunekit.journal.log import read_records
from tunekit.types import Outcome, TrialStatus


def square(config: dict[str, Any]) -> None:
    for step in range(1, config.get("steps", 3) + 1):
        tk.report({"loss": (config["x"] - 0.5) ** 2 / step})


def halve(config: dict[str, Any]) -> None:
    tk.report({"loss": config["x"] / 2})


class Counter(tk.Trainable):
    """Counts, can save, and fails on request at the first attempt."""

    def setup(self, config: dict[str, Any]) -> None:
        self.count = 0

    def step(self) -> dict[str, Any]:
        self.count += 1
        flag = self.config.get("flags")
        if flag is not None and self.count == self.config["fail_at"] and not (flag / self.trial_name).exists():
            (flag / self.trial_name).touch()
            raise ValueError("once")
        return {"count": self.count, "should_checkpoint": self.count in self.config.get("demand", ())}

    def save_checkpoint(self, path: str) -> None:
        (Path(path) / "count.json").write_text(json.dumps(self.count))

    def load_checkpoint(self, path: Any) -> None:
        self.count = json.loads((Path(path) / "count.json").read_text())


class Forgetful(tk.Trainable):
    """Cannot save."""

    def setup(self, config: dict[str, Any]) -> None:
        self.count = 0

    def step(self) -> dict[str, Any]:
        self.count += 1
        return {"count": self.count}


Make = Callable[..., tk.Tuner]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a tuner that writes into the test's own folder."""

    def make(trainable: Any = square, space: Any = None, run: Any = None, **tune: Any) -> tk.Tuner:
        tune = {"metric": "loss", "mode": "min", "seed": 1, **tune} if trainable is square else {"seed": 1, **tune}
        return tk.Tuner(
            trainable,
            param_space={"x": tk.uniform(0, 1)} if space is None else space,
            tune_config=tk.TuneConfig(**tune),
            run_config=tk.RunConfig(**{"name": "exp", "storage_path": tmp_path, "verbose": 0, **(run or {})}),
        )

    return make


def folders(tmp_path: Path, trial: str) -> list[str]:
    return sorted(path.name for path in (tmp_path / "exp" / trial).glob("checkpoint_*"))


# -- sweeps ------------------------------------------------------------------------------------------------------------


def test_a_sweep_from_start_to_results(make: Make) -> None:
    results = tk.inline(make(num_samples=5))
    assert len(results) == 5
    assert [result.status for result in results] == [TrialStatus.COMPLETED] * 5
    best = results.get_best_result()
    assert best.metrics is not None
    assert best.metrics["loss"] == min(result.metrics["loss"] for result in results)
    assert best.metrics["training_iteration"] == 3
    assert best.config["x"] == pytest.approx(0.5, abs=0.5)
    assert results.outcome is Outcome.FINISHED
    assert results.num_errors == 0


def test_the_same_seed_gives_the_same_sweep_whatever_the_number(make: Make, tmp_path: Path) -> None:
    few = [result.config for result in tk.inline(make(num_samples=2))]
    many = [result.config for result in tk.inline(make(num_samples=4, run={"name": "other"}))]
    assert many[:2] == few
    assert len({config["x"] for config in many}) == 4


def test_a_grid_is_the_product_of_its_values_times_the_samples(make: Make) -> None:
    space = {"x": tk.grid_search([0.0, 1.0]), "steps": tk.grid_search([1, 2])}
    results = tk.inline(make(space=space, num_samples=2))
    cells = [(result.config["x"], result.config["steps"]) for result in results]
    assert cells == [(0.0, 1), (0.0, 2), (1.0, 1), (1.0, 2)] * 2


def test_a_function_may_return_its_last_report(make: Make) -> None:
    """S003-2."""
    by_dict, by_number = (
        tk.inline(make(trainable, {}, run={"name": name}))[0]
        for name, trainable in (("dict", lambda config: {"a": 1}), ("number", lambda config: 0.5))
    )
    assert by_dict.metrics is not None
    assert by_number.metrics is not None
    assert (by_dict.metrics["a"], by_dict.metrics["training_iteration"]) == (1, 1)
    assert by_number.metrics["_metric"] == 0.5


def test_checkpoints_of_a_class_by_frequency_demand_and_end(make: Make, tmp_path: Path) -> None:
    """S003-4, S003-8, S003-9, S003-14: steps {2, 4, 5}, each once, under names that carry the step."""
    config = tk.CheckpointConfig(checkpoint_frequency=4, checkpoint_at_end=True)
    run = {"stop": {"training_iteration": 5}, "checkpoint_config": config}
    results = tk.inline(make(Counter, {"demand": [2, 4]}, run=run))
    assert folders(tmp_path, "Counter_00000") == ["checkpoint_000002", "checkpoint_000004", "checkpoint_000005"]
    checkpoint = results[0].checkpoint
    assert checkpoint is not None
    with checkpoint.as_directory() as folder:
        assert json.loads((Path(folder) / "count.json").read_text()) == 5
    assert results[0].metrics is not None
    assert "should_checkpoint" not in results[0].metrics


def test_retention_keeps_the_best_and_the_newest(make: Make, tmp_path: Path) -> None:
    """S003-19, S003-20: keep the best two by score, and always the newest."""

    class Scored(Counter):
        def step(self) -> dict[str, Any]:
            self.count += 1
            return {"score": [0.1, 0.9, 0.3, 0.8, float("nan"), 0.2][self.count - 1]}

    config = tk.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2, checkpoint_score_attribute="score")
    run = {"stop": {"training_iteration": 6}, "checkpoint_config": config}
    tk.inline(make(Scored, {}, run=run))
    assert folders(tmp_path, "Scored_00000") == ["checkpoint_000002", "checkpoint_000004", "checkpoint_000006"]


def test_a_failure_is_retried_from_the_newest_checkpoint(make: Make, tmp_path: Path) -> None:
    """S003-12: restarted at 4, each iteration once."""
    config = tk.CheckpointConfig(checkpoint_frequency=2)
    run = {
        "stop": {"training_iteration": 7},
        "checkpoint_config": config,
        "failure_config": tk.FailureConfig(max_failures=1),
    }
    result = tk.inline(make(Counter, {"fail_at": 6, "flags": tmp_path}, run=run))[0]
    assert [(row["training_iteration"], row["count"]) for row in result.rows] == [(i, i) for i in range(1, 8)]
    launches = [record for record in read_records(tmp_path / "exp" / "journal") if isinstance(record, LaunchTrial)]
    assert [launch.resume_from for launch in launches] == [None, 4]


def test_a_failure_without_budget_is_the_trials_end_and_no_other_ones(make: Make, tmp_path: Path) -> None:
    space = {"fail_at": tk.grid_search([2, 99]), "flags": tmp_path}
    results = tk.inline(make(Counter, space, run={"stop": {"training_iteration": 3}}))
    assert [result.status for result in results] == [TrialStatus.FAILED, TrialStatus.COMPLETED]
    assert results.num_errors == 1
    error = results[0].error
    assert isinstance(error, TrialError)
    assert "once" in str(error)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(make: Make, tmp_path: Path) -> None:
    """Promise 3: damage is found while restoring, put aside, and costs no budget."""

    class Damaging(Counter):
        def step(self) -> dict[str, Any]:
            if self.count == 5 and not (tmp_path / "done").exists():
                (tmp_path / "done").touch()
                file = tmp_path / "exp" / "Damaging_00000" / "checkpoint_000004" / "count.json"
                file.write_text("9")
                raise ValueError("after some damage")
            return super().step()

    config = tk.CheckpointConfig(checkpoint_frequency=2)
    run = {
        "stop": {"training_iteration": 6},
        "checkpoint_config": config,
        "failure_config": tk.FailureConfig(max_failures=1),
    }
    result = tk.inline(make(Damaging, {}, run=run))[0]
    assert [(row["training_iteration"], row["count"]) for row in result.rows] == [(i, i) for i in range(1, 7)]
    launches = [record for record in read_records(tmp_path / "exp" / "journal") if isinstance(record, LaunchTrial)]
    assert [launch.resume_from for launch in launches] == [None, 4, 2]
    assert folders(tmp_path, "Damaging_00000") == ["checkpoint_000002", "checkpoint_000004", "checkpoint_000006"]


def test_asha_stops_the_worse_trials_early(make: Make) -> None:
    scheduler = tk.ASHA(max_t=9, grace_period=1, reduction_factor=3)
    results = tk.inline(make(space={"x": tk.uniform(0, 1), "steps": 9}, num_samples=12, scheduler=scheduler))
    lengths = [result.metrics["training_iteration"] for result in results if result.metrics]
    assert set(lengths) <= {1, 3, 9}
    assert lengths.count(1) >= 4
    best = results.get_best_result()
    assert best.metrics is not None
    assert best.metrics["training_iteration"] == 9


def test_a_stop_function_ends_a_trial_at_its_row(make: Make) -> None:
    asked = []

    def stop(trial: str, result: dict[str, Any]) -> bool:
        asked.append((trial, result["training_iteration"]))
        return bool(result["count"] >= 2)

    results = tk.inline(make(Counter, {}, run={"stop": stop}))
    assert asked == [("Counter_00000", 1), ("Counter_00000", 2)]
    assert results[0].status is TrialStatus.COMPLETED
    assert results[0].metrics is not None
    assert results[0].metrics["training_iteration"] == 2


def test_fail_fast_pauses_the_rest_and_raise_raises(make: Make, tmp_path: Path) -> None:
    space = {"fail_at": tk.grid_search([1, 99]), "flags": tmp_path}
    run = {"stop": {"training_iteration": 2}, "failure_config": tk.FailureConfig(fail_fast=True)}
    results = tk.inline(make(Counter, space, run=run))
    assert results.outcome is Outcome.FAILED_FAST
    assert results[1].status is TrialStatus.PENDING
    (tmp_path / "Counter_00000").unlink()
    raising = {**run, "name": "two", "failure_config": tk.FailureConfig(fail_fast="raise")}
    with pytest.raises(TrialError, match="once"):
        tk.inline(make(Counter, space, run=raising))
    results = tk.inline(make(Counter, space, run={**run, "failure_config": tk.FailureConfig()}))
    assert [result.status for result in results] == [TrialStatus.FAILED, TrialStatus.COMPLETED]


# -- run again, restore ------------------------------------------------------------------------------------------------


def count_rows(tmp_path: Path) -> int:
    return sum(type(record).__name__ == "ResultReported" for record in read_records(tmp_path / "exp" / "journal"))


def test_running_again_does_nothing_and_more_samples_run_the_rest(make: Make, tmp_path: Path) -> None:
    """S004-11, R4."""
    first = tk.inline(make(num_samples=3))
    rows = count_rows(tmp_path)
    again = tk.inline(make(num_samples=3))
    assert count_rows(tmp_path) == rows
    assert [result.metrics for result in again] == [result.metrics for result in first]
    more = tk.inline(make(num_samples=5))
    assert count_rows(tmp_path) == rows + 2 * 3
    assert [result.metrics for result in more][:3] == [result.metrics for result in first]


def test_a_missing_seed_is_drawn_once(make: Make) -> None:
    first = tk.inline(make(num_samples=2, seed=None))
    more = tk.inline(make(num_samples=3, seed=None))
    assert [result.config for result in more][:2] == [result.config for result in first]
    other = tk.inline(make(num_samples=2, seed=None, run={"name": "other"}))
    assert [result.config for result in other] != [result.config for result in first]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "max"}, "mode"),
        ({"seed": 2}, "seed"),
        ({"metric": "other"}, "metric"),
        ({"scheduler": tk.ASHA(max_t=5)}, "scheduler"),
        ({"space": {"x": tk.uniform(0, 2)}}, "x"),
        ({"trainable": halve, "metric": "loss", "mode": "min"}, "trainable"),
    ],
)
def test_another_sweep_under_the_same_name_is_refused(make: Make, change: dict[str, Any], said: str) -> None:
    """R3: what makes an experiment what it is may not change; the message shows both sides."""
    tk.inline(make(num_samples=1))
    with pytest.raises(ExperimentMismatchError) as raised:
        tk.inline(make(**{"num_samples": 1, **change}))
    assert said in str(raised.value)
    assert "hint:" in str(raised.value)


def test_two_drivers_cannot_run_one_experiment(make: Make, tmp_path: Path) -> None:
    tk.inline(make(num_samples=1))
    with DriverLock(tmp_path / "exp"), pytest.raises(ExperimentExistsError, match="process"):
        tk.inline(make(num_samples=1))


def test_restore_needs_only_the_path_and_the_code(make: Make, tmp_path: Path) -> None:
    """S003-5, promise 5: also after the folder has been moved and renamed."""
    tk.inline(make(num_samples=2))
    shutil.move(tmp_path / "exp", tmp_path / "elsewhere")
    restored = tk.Tuner.restore(tmp_path / "elsewhere", square)
    assert len(tk.inline(restored)) == 2
    longer = tk.TuneConfig(metric="loss", mode="min", seed=1, num_samples=3)
    results = tk.inline(tk.Tuner.restore(tmp_path / "elsewhere", square, tune_config=longer))
    assert len(results) == 3
    assert not (tmp_path / "exp").exists()
    assert str(tmp_path) not in "".join(
        path.read_text() for path in (tmp_path / "elsewhere").rglob("*.json*") if path.is_file()
    )


def test_restore_resumes_or_restarts_failed_trials(make: Make, tmp_path: Path) -> None:
    config = tk.CheckpointConfig(checkpoint_frequency=1)
    run = {"stop": {"training_iteration": 3}, "checkpoint_config": config}
    space = {"fail_at": 3, "flags": tmp_path}
    tk.inline(make(Counter, space, run=run))
    shutil.copytree(tmp_path / "exp", tmp_path / "copy")
    kept = tk.inline(tk.Tuner.restore(tmp_path / "exp", Counter, param_space=space))
    assert kept[0].status is TrialStatus.FAILED
    resumed = tk.inline(tk.Tuner.restore(tmp_path / "exp", Counter, param_space=space, resume_errored=True))
    assert resumed[0].status is TrialStatus.COMPLETED
    restarted = tk.inline(tk.Tuner.restore(tmp_path / "copy", Counter, param_space=space, restart_errored=True))
    assert restarted[0].status is TrialStatus.COMPLETED
    starts = {
        name: [r.resume_from for r in read_records(tmp_path / name / "journal") if isinstance(r, LaunchTrial)]
        for name in ("exp", "copy")
    }
    assert starts == {"exp": [None, 2], "copy": [None, None]}


def test_can_restore_says_whether_there_is_an_experiment(make: Make, tmp_path: Path) -> None:
    assert not tk.Tuner.can_restore(tmp_path / "exp")
    tk.inline(make(num_samples=1))
    assert tk.Tuner.can_restore(tmp_path / "exp")
    assert not tk.Tuner.can_restore(tmp_path)
    (tmp_path / "exp" / "experiment.json").write_bytes(b"")
    assert not tk.Tuner.can_restore(tmp_path / "exp")
    with pytest.raises(ExperimentNotFoundError, match="hint"):
        tk.Tuner.restore(tmp_path / "nothing", square)


def test_results_can_be_had_without_running(make: Make) -> None:
    tuner = make(num_samples=2)
    with pytest.raises(ExperimentNotFoundError):
        tuner.get_results()
    ran = tk.inline(tuner)
    assert [result.metrics for result in tuner.get_results()] == [result.metrics for result in ran]


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_class_that_cannot_save_is_refused_when_asked_to(make: Make) -> None:
    """S003-14: at construction, not after the work; unset means no checkpoints."""
    config = tk.CheckpointConfig(checkpoint_frequency=2, checkpoint_at_end=True)
    with pytest.raises(ConfigError) as raised:
        make(Forgetful, {}, run={"checkpoint_config": config})
    assert "checkpoint_frequency" in str(raised.value)
    assert "checkpoint_at_end" in str(raised.value)
    results = tk.inline(make(Forgetful, {}, run={"stop": {"training_iteration": 2}}))
    assert results[0].status is TrialStatus.COMPLETED


def test_a_function_asked_to_save_without_a_saver_ends_the_sweep(make: Make) -> None:
    """R12: at the first report, and no budget pays for it."""
    config = tk.CheckpointConfig(checkpoint_frequency=1)
    run = {"checkpoint_config": config, "failure_config": tk.FailureConfig(max_failures=3)}
    with pytest.raises(ConfigError, match="save"):
        tk.inline(make(num_samples=3, run=run))


@pytest.mark.parametrize("bad", [5, "square", None, object(), int, lambda: None])
def test_what_is_no_trainable_is_refused(make: Make, bad: Any) -> None:
    with pytest.raises(TrainableError):
        make(bad, {})


def test_an_unpicklable_trainable_is_refused_before_ray_starts(make: Make, tmp_path: Path) -> None:
    lock = threading.Lock()

    def train(config: dict[str, Any]) -> None:
        with lock:
            tk.report({"loss": 1.0})

    with pytest.raises(TrainableError, match="lock"):
        make(train, {}).fit()
    assert not (tmp_path / "exp").exists()


def test_storage_that_cannot_be_used_is_said_before_any_trial(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        tk.inline(make(run={"storage_path": tmp_path / "file"}))
    for uri in ("s3://bucket/sweeps", "memory://sweeps"):
        with pytest.raises(ConfigError, match=uri):
            make(run={"storage_path": uri})


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "x" * 300, "nul\0"])
def test_names_cannot_leave_the_folder(make: Make, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        make(run={"name": name})


def test_a_missing_metric_names_what_was_reported(make: Make) -> None:
    results = tk.inline(make(metric="los", num_samples=2, run={"failure_config": tk.FailureConfig(max_failures=5)}))
    assert results.num_errors == 2
    assert "'loss'" in str(results.errors[0])


def test_nan_is_a_result_like_any_other_and_never_the_best(make: Make) -> None:
    def train(config: dict[str, Any]) -> None:
        tk.report({"loss": float("nan") if config["x"] == 0 else config["x"]})

    results = tk.inline(make(train, {"x": tk.grid_search([0, 1, 2])}, metric="loss", mode="min"))
    assert results.get_best_result().config["x"] == 1
    again = tk.inline(make(train, {"x": tk.grid_search([0, 1, 2])}, metric="loss", mode="min"))
    assert repr(again[0].metrics["loss"] if again[0].metrics else None) == "nan"


def test_a_stop_function_that_raises_ends_the_sweep_with_its_error(make: Make) -> None:
    def stop(trial: str, result: dict[str, Any]) -> bool:
        raise KeyError("typo")

    with pytest.raises(ExperimentError, match="typo"):
        tk.inline(make(num_samples=3, run={"stop": stop}))


@pytest.mark.parametrize("where", ["setup", "step", "save_checkpoint", "load_checkpoint", "cleanup"])
def test_a_trial_that_raises_anywhere_harms_no_other(make: Make, tmp_path: Path, where: str) -> None:
    def fail(self: Any, *arguments: Any) -> Any:
        raise ValueError(f"in {where}")

    class Bad(Counter):
        def step(self) -> dict[str, Any]:
            if where == "load_checkpoint" and self.count == 2:
                raise ValueError("to be restored")
            return super().step()

    original = getattr(Bad, where)

    def sometimes(self: Any, *arguments: Any) -> Any:
        return (fail if self.config["bad"] else original)(self, *arguments)

    setattr(Bad, where, sometimes)
    run = {
        "stop": {"training_iteration": 3},
        "checkpoint_config": tk.CheckpointConfig(checkpoint_frequency=1),
        "failure_config": tk.FailureConfig(max_failures=2),
    }
    results = tk.inline(make(Bad, {"bad": tk.grid_search([True, False])}, run=run))
    good = TrialStatus.FAILED if where == "load_checkpoint" else TrialStatus.COMPLETED
    assert results[1].status is (TrialStatus.COMPLETED if where != "load_checkpoint" else good)
    if where == "cleanup":
        assert results[0].status is TrialStatus.COMPLETED, "a failing cleanup does not undo a result"
    else:
        assert results[0].status is TrialStatus.FAILED
        assert results[0].error is not None


@pytest.mark.parametrize("result", [None, 5, [1], "loss"])
def test_a_step_that_returns_no_dict_is_an_error_of_its_trial(make: Make, result: Any) -> None:
    class Odd(Forgetful):
        def step(self) -> Any:
            return result

    results = tk.inline(make(Odd, {}, run={"stop": {"training_iteration": 1}}))
    assert results.num_errors == 1
    assert "dict" in str(results.errors[0])


def test_random_numbers_of_a_trial_depend_on_seed_and_index_alone(make: Make) -> None:
    def train(config: dict[str, Any]) -> None:
        tk.report({"loss": random.random()})

    first = [r.metrics["loss"] for r in tk.inline(make(train, {}, num_samples=3)) if r.metrics]
    random.seed(99)
    second = [r.metrics["loss"] for r in tk.inline(make(train, {}, num_samples=3, run={"name": "two"})) if r.metrics]
    assert first == second
    assert len(set(first)) == 3
