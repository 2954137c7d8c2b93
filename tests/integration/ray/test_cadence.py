"""On real Ray: what trials may expect reaches the process that saves, at its launch and after each save."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sweeps

import tunekit as tk
from tunekit.core.commands import LaunchTrial, TellOutlook

pytestmark = pytest.mark.ray

NUM_TRIALS = 7
"""The last one is launched when the first has saved: not all are given to the worker beforehand."""


def make_saver() -> Callable[[dict[str, Any]], None]:
    """Return a function by value: workers cannot import a test's file."""

    def train(config: dict[str, Any]) -> None:
        import time

        from tunekit import session

        class State:
            def save_checkpoint(self, path: str) -> dict[str, int]:
                return {}

            def load_checkpoint(self, state: Any) -> None:
                """Nothing is needed."""

        run = session._active.session._run  # type: ignore[union-attr]
        at_launch = run.saving.pace.outlook
        deadline = time.monotonic() + 240
        while True:
            told = run.saving.pace.outlook
            is_over = told is not at_launch or time.monotonic() > deadline
            row = {"uptime_s": told.uptime_s, "knew_s": at_launch.blocked_s, "should_checkpoint": True}
            tk.report(row, checkpoint=State())
            if is_over or config["index"]:
                return
            time.sleep(0.05)

    return train


def test_a_trial_is_told_what_others_have_found(cluster: None, tmp_path: Path) -> None:
    tuner = tk.Tuner(
        make_saver(),
        param_space={"index": tk.grid_search(list(range(NUM_TRIALS)))},
        tune_config=tk.TuneConfig(seed=1, max_concurrent_trials=1),
        run_config=tk.RunConfig(
            name="exp",
            storage_path=tmp_path,
            verbose=0,
            checkpoint_config=tk.CheckpointConfig(checkpoint_every_s="auto", num_to_keep=2),
        ),
    )
    results = tuner.fit()
    records = sweeps.journal(tmp_path / "exp")
    told = [record.outlook.uptime_s for record in records if isinstance(record, TellOutlook) and record.trial == 0]
    assert results[0].metrics["uptime_s"] in told
    assert results[0].metrics["uptime_s"] > 0
    launched = [record for record in records if isinstance(record, LaunchTrial)]
    launches = {record.trial: record.outlook for record in launched if record.outlook is not None}
    knew = [result.metrics["knew_s"] for result in results]
    assert knew == [launches[index].blocked_s for index in range(NUM_TRIALS)]
    assert knew[0] == 0.0
    assert knew[-1] > 0.0
