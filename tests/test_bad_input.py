"""Every bad input is said as early as it can be known, and harms no other trial."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from trainables import Counter, Forgetful, Make, maker

import tunekit as tk
from tunekit.errors import (
    ConfigError,
    ExperimentError,
    StorageError,
    TrainableError,
)
from tunekit.types import TrialStatus


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


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
    with pytest.raises(ConfigError, match="nowhere://bucket/sweeps"):
        make(run={"storage_path": "nowhere://bucket/sweeps"})
    with pytest.raises(ConfigError, match="memory://sweeps"):
        make(run={"storage_path": "memory://sweeps"}).fit()


def test_points_outside_of_the_space_are_refused_before_anything_is_touched(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"points_to_evaluate\[0\]"):
        make(search_alg=tk.RandomSearch([{"x": 5.0}]))
    assert not (tmp_path / "exp").exists()
    assert len(tk.inline(make(search_alg=tk.RandomSearch([{"x": 0.5}])))) == 1


def test_a_stop_function_gets_copies_and_the_config(make: Make) -> None:
    """Nothing that it does to its arguments is recorded."""
    seen: list[Any] = []

    def train(config: dict[str, Any]) -> None:
        for step in (1, 2):
            tk.report({"m": {"v": step}, "x": config["layers"][0]})

    def stop(trial: str, result: dict[str, Any]) -> bool:
        seen.append((result["m"]["v"], result["config"]["layers"][0]))
        result["m"]["v"] = 999
        result["config"]["layers"][0] = 999
        return False

    result = tk.inline(make(train, {"layers": [tk.choice([7]), 8]}, run={"stop": stop}))[0]
    assert seen == [(1, 7), (2, 7)]
    assert [(row["m"]["v"], row["x"]) for row in result.rows] == [(1, 7), (2, 7)]
    assert result.config == {"layers": [7, 8]}


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
            if where == "load_checkpoint" and self.config["bad"] and self.count == 2:
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
    assert results[1].status is TrialStatus.COMPLETED
    assert [row["count"] for row in results[1].rows] == [1, 2, 3]
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
