"""Deterministic mode as a user meets it: what it needs, what it refuses, and that it comes to one end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from resting import Resting

import tunekit as tk
from tunekit.core.events import TrialHalted
from tunekit.errors import ConfigError, ExperimentMismatchError
from tunekit.journal.folder import experiment_folder


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
    asha = tk.ASHA(max_t=9, reduction_factor=2)
    run = tune.pop("run", {})
    tune = {"scheduler": asha, "max_concurrent_trials": 4, "deterministic": True, "num_samples": 12, "seed": 3, **tune}
    failure = {"hang_timeout_s": tune.pop("hang_timeout_s", 60), "max_failures": tune.pop("max_failures", -1)}
    return tk.Tuner(
        trainable,
        param_space={"x": tk.uniform(0, 1), **(space or {})},
        tune_config=tk.TuneConfig(metric="loss", mode="min", **tune),
        run_config=tk.RunConfig(
            name="exp",
            storage_path=folder,
            verbose=0,
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2 if trainable is Descent else 0),
            failure_config=tk.FailureConfig(**failure),
            **run,
        ),
    )


def records(folder: Path) -> list[Any]:
    return list(experiment_folder(str(folder)).records())


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


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "deterministic mode" in record.getMessage()]


def test_trials_that_fail_in_any_run_keep_the_promise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def train(config: dict[str, Any]) -> None:
        raise ValueError("always")

    results = tk.inline(make(tmp_path, train, num_samples=2, max_failures=0))
    assert (said(caplog), results.depends_on, len(results.errors)) == ([], "", 2)


def test_a_sweep_that_keeps_the_promise_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert tk.inline(make(tmp_path)).depends_on == ""
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("run", "clock"), [({"stop": {"time_total_s": 0.0}}, "time_total_s"), ({"time_limit_s": 0.001}, "time_limit_s")]
)
def test_what_ends_by_the_clock_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, run: dict[str, Any], clock: str
) -> None:
    results = tk.inline(make(tmp_path, num_samples=2, run=run))
    assert results.depends_on == f"trial 0 was ended by {clock}, so what follows depends on the clock"
    assert said(caplog) == [f"deterministic mode: {results.depends_on}"]


def test_a_time_budget_ends_a_run_and_not_the_promise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A later run with more time comes to the end of all runs."""
    undisturbed = tk.inline(make(tmp_path / "a"))
    stopped = tk.inline(make(tmp_path / "b", time_budget_s=0.01))
    assert "time budget" in stopped.depends_on
    assert len(said(caplog)) == 1
    finished = tk.inline(make(tmp_path / "b"))
    assert (table(finished), finished.depends_on) == (table(undisturbed), "")


def test_failed_trials_that_are_taken_up_again_end_it_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def train(config: dict[str, Any]) -> None:
        raise ValueError("always")

    tk.inline(make(tmp_path, train, num_samples=1, max_failures=0))
    again = tk.inline(tk.Tuner.restore(tmp_path / "exp", train, resume_errored=True))
    why = "trial 0 had failed and is tried again, at a moment that somebody chose"
    assert (said(caplog), again.depends_on) == ([f"deterministic mode: {why}"], why)
    assert make(tmp_path, train, num_samples=1, max_failures=0).get_results().depends_on == why


# -- a scheduler that pauses -------------------------------------------------------------------------------------------


def test_paused_trials_come_to_the_same_end_with_failures_and_without(tmp_path: Path) -> None:
    """Promise 1, for a scheduler that pauses: on one worker, where all share it, and with failures on the way."""
    (tmp_path / "flags").mkdir()
    run = {"stop": {"training_iteration": 9}}
    undisturbed = tk.inline(make(tmp_path / "a", scheduler=Resting(), run=run))
    disturbed = tk.inline(make(tmp_path / "b", scheduler=Resting(), run=run, space={"flags": tmp_path / "flags"}))
    assert table(disturbed) == table(undisturbed)
    assert disturbed.losses
    halted = [record for record in records(tmp_path / "a" / "exp") if isinstance(record, TrialHalted)]
    assert len(halted) > 12, "most trials rest at least once"
