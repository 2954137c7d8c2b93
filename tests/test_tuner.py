"""The whole way through the house in one process: from a script to its results."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from trainables import Counter, Make, maker

import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.errors import (
    TrialError,
)
from tunekit.journal.log import read_records
from tunekit.types import Outcome, TrialStatus


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


def folders(tmp_path: Path, trial: str) -> list[str]:
    return sorted(path.name for path in (tmp_path / "exp" / trial).glob("checkpoint_*"))


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
                while not file.exists():  # It is saved behind the trial where the storage is slow.
                    time.sleep(0.001)
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
