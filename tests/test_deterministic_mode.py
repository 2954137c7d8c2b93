"""Deterministic mode as a user meets it: what it needs, what it refuses, and that it comes to one end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.errors import ConfigError, ExperimentMismatchError


class Descent(tk.Trainable):
    """Fails once where a flag says so, and goes on from its checkpoint."""

    def setup(self, config: dict[str, Any]) -> None:
        self.i = 0

    def step(self) -> dict[str, Any]:
        self.i += 1
        flags = self.config.get("flags")
        if flags is not None and self.i % 3 == 0 and not (flags / f"{self.trial_name}.{self.i}").exists():
            (flags / f"{self.trial_name}.{self.i}").touch()
            raise ValueError("once")
        return {"loss": self.config["x"] + 1 / self.i}

    def save_checkpoint(self, path: str) -> None:
        (Path(path) / "i.json").write_text(json.dumps(self.i))

    def load_checkpoint(self, path: Any) -> None:
        self.i = json.loads((Path(path) / "i.json").read_text())


class Forgetful(tk.Trainable):
    def step(self) -> dict[str, Any]:
        return {"loss": 0.0}


def make(folder: Path, trainable: Any = Descent, space: Any = None, **tune: Any) -> tk.Tuner:
    tune = {"max_concurrent_trials": 4, "deterministic": True, "num_samples": 12, "seed": 3, **tune}
    failure = {"hang_timeout_s": tune.pop("hang_timeout_s", 60), "max_failures": tune.pop("max_failures", -1)}
    return tk.Tuner(
        trainable,
        param_space={"x": tk.uniform(0, 1), **(space or {})},
        tune_config=tk.TuneConfig(metric="loss", mode="min", scheduler=tk.ASHA(max_t=9, reduction_factor=2), **tune),
        run_config=tk.RunConfig(
            name="exp",
            storage_path=folder,
            verbose=0,
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2 if trainable is Descent else 0),
            failure_config=tk.FailureConfig(**failure),
        ),
    )


def table(results: tk.ResultGrid) -> list[Any]:
    return [
        (result.trial_id, result.status, [(row["training_iteration"], row["loss"]) for row in result.rows])
        for result in results
    ]


def test_failures_change_nothing(tmp_path: Path) -> None:
    """Promise 1: trials are parked at their rungs in both sweeps, and fail and are tried again in one of them."""
    (tmp_path / "flags").mkdir()
    undisturbed = tk.inline(make(tmp_path / "a"))
    disturbed = tk.inline(make(tmp_path / "b", space={"flags": tmp_path / "flags"}))
    assert list((tmp_path / "flags").iterdir())
    assert table(disturbed) == table(undisturbed)
    assert len({len(result.rows) for result in undisturbed}) > 2


def test_a_restored_sweep_is_of_the_same_kind(tmp_path: Path) -> None:
    first = tk.inline(make(tmp_path))
    again = tk.Tuner.restore(tmp_path / "exp", Descent)
    assert table(again.fit()) == table(first)


def test_the_number_of_slots_belongs_to_the_experiment(tmp_path: Path) -> None:
    tk.inline(make(tmp_path))
    with pytest.raises(ExperimentMismatchError, match="logical_slots: 4 in the experiment, 5 in the script"):
        tk.inline(make(tmp_path, max_concurrent_trials=5))
    with pytest.raises(ExperimentMismatchError, match="logical_slots: 4 in the experiment, absent in the script"):
        tk.inline(make(tmp_path, deterministic=False))


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"max_concurrent_trials": None}, "max_concurrent_trials: is missing, but deterministic=True needs it"),
        ({"hang_timeout_s": None}, "hang_timeout_s: is missing, but deterministic=True needs it"),
        ({"trainable": Forgetful}, "Forgetful cannot save checkpoints"),
        ({"trainable": tk.with_resources(Descent, lambda config: {"CPU": 1})}, "the resources differ by trial"),
        ({"deterministic": 1}, "deterministic: "),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_it_cannot_go_without(tmp_path: Path, how: dict[str, Any], complaint: str) -> None:
    """S004: wrong settings are refused before anything is touched."""
    with pytest.raises(ConfigError, match=complaint):
        make(tmp_path, **how)


def test_a_function_must_be_able_to_save_at_any_row(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        tk.report({"loss": config["x"]})

    with pytest.raises(ConfigError, match="deterministic=True needs an object that can save at any row") as caught:
        tk.inline(make(tmp_path, train))
    assert "checkpoint=state" in caught.value.hint


def test_what_ends_the_promise_is_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def train(config: dict[str, Any]) -> None:
        raise ValueError("always")

    tk.inline(make(tmp_path, train, num_samples=2, max_failures=0))
    said = [record.getMessage() for record in caplog.records if "deterministic mode" in record.getMessage()]
    assert said == [
        "deterministic mode: trial 0 failed for good, so a run in which it does not may come to another end"
    ]
