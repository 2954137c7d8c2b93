"""The sweep in this process: what its user's functions of the space and of resources do wrong is a trial's failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.journal.log import read_records
from tunekit.types import TrialStatus


def train(config: dict[str, Any]) -> None:
    tk.report({"n": config["n"]})


def run(tmp_path: Path, trainable: Any) -> list[TrialStatus]:
    tuner = tk.Tuner(
        trainable,
        param_space={"n": tk.grid_search([1, 2, 3])},
        tune_config=tk.TuneConfig(seed=1),
        run_config=tk.RunConfig(
            name="exp", storage_path=str(tmp_path), failure_config=tk.FailureConfig(max_failures=-1), verbose=0
        ),
    )
    return [result.status for result in tk.inline(tuner)]


def test_a_function_of_resources_that_raises_fails_its_trial_once(tmp_path: Path) -> None:
    trainable = tk.with_resources(train, lambda config: {"cpu": 1 / (config["n"] - 2)} if config["n"] == 2 else {})
    assert run(tmp_path, trainable) == [TrialStatus.COMPLETED, TrialStatus.FAILED, TrialStatus.COMPLETED]
    launches = [record for record in read_records(tmp_path / "exp" / "journal") if isinstance(record, LaunchTrial)]
    assert len(launches) == 3, "it would raise again, whatever the budget"


def test_resources_that_cannot_be_fail_their_trial_once(tmp_path: Path) -> None:
    trainable = tk.with_resources(train, lambda config: {"cpu": -1 if config["n"] == 3 else 1})
    assert run(tmp_path, trainable) == [TrialStatus.COMPLETED, TrialStatus.COMPLETED, TrialStatus.FAILED]
