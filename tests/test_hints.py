"""Promise 7: whoever is refused is told what to do next, and that it is what mends this mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.errors import ConfigError, ExperimentNotFoundError, TunekitError


class Forgetful(tk.Trainable):
    """Cannot save."""

    def setup(self, config: dict[str, Any]) -> None:
        """Need nothing."""

    def step(self) -> dict[str, Any]:
        """Report something."""
        return {"loss": 1.0}


def train(config: dict[str, Any]) -> None:
    tk.report({"loss": config["x"]})


def tuner(folder: Path, trainable: Any = train, space: Any = None, **run: Any) -> tk.Tuner:
    run = {"name": "q", "storage_path": folder, "stop": {"training_iteration": 1}, "verbose": 0, **run}
    tune = run.pop("tune", tk.TuneConfig())
    return tk.Tuner(trainable, param_space=space or {"x": 1.0}, tune_config=tune, run_config=tk.RunConfig(**run))


SLOTS = tk.TuneConfig(deterministic=True, max_concurrent_trials=2)
HANG = tk.FailureConfig(hang_timeout_s=60)


@pytest.mark.parametrize(
    ("trainable", "how", "hint"),
    [
        (Forgetful, {"checkpoint_config": tk.CheckpointConfig(checkpoint_frequency=1)}, "save_checkpoint"),
        (Forgetful, {"tune": SLOTS, "failure_config": HANG}, "save_checkpoint"),
        (train, {"tune": SLOTS}, "FailureConfig(hang_timeout_s="),
        (tk.with_resources(train, lambda _: {"CPU": 1}), {"tune": SLOTS, "failure_config": HANG}, "with_resources"),
        (train, {"tune": tk.TuneConfig(max_cost=1, prices={"GPU": 1.0})}, "give a price"),
    ],
)
def test_what_contradicts_the_trainable_has_a_hint_of_its_own(
    tmp_path: Path, trainable: Any, how: dict[str, Any], hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        tuner(tmp_path, trainable, **how)
    assert [hint in caught.value.hint, "save_checkpoint" in caught.value.hint] == [True, hint == "save_checkpoint"]


def test_to_resume_and_to_restart_is_one_too_many(tmp_path: Path) -> None:
    tk.inline(tuner(tmp_path))
    with pytest.raises(ConfigError, match="contradict each other") as caught:
        tk.Tuner.restore(tmp_path / "q", train, resume_errored=True, restart_errored=True)
    assert "give one of them" in caught.value.hint
    assert "save_checkpoint" not in caught.value.hint


def test_a_file_is_no_experiment(tmp_path: Path) -> None:
    """The disk is well: the error is of the path, not of the storage."""
    tk.inline(tuner(tmp_path))
    header = tmp_path / "q" / "experiment.json"
    with pytest.raises(ExperimentNotFoundError, match="it is a file") as caught:
        tk.Tuner.restore(header, train)
    assert caught.value.hint == f"give the experiment's folder: {tmp_path / 'q'}"
    with pytest.raises(ExperimentNotFoundError, match=r"experiment\.json is a file"):
        tk.Tuner.restore(header / "deeper", train)


def test_a_file_in_the_place_of_a_fork_is_named(tmp_path: Path) -> None:
    tk.inline(tuner(tmp_path))
    (tmp_path / "q-2").touch()
    with pytest.raises(ExperimentNotFoundError, match="q-2: it is a file") as caught:
        tk.inline(tuner(tmp_path, space={"x": tk.uniform(0, 1)}, on_change="fork"))
    assert "a name that no file has" in caught.value.hint


def test_a_file_in_the_place_of_a_new_experiment_is_named(tmp_path: Path) -> None:
    (tmp_path / "q").touch()
    with pytest.raises(TunekitError, match="Not a directory") as caught:
        tk.inline(tuner(tmp_path))
    assert "another name" in caught.value.hint
