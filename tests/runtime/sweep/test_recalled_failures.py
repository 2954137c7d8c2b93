"""What failures cost and how long trials may run is recorded, and is back when an experiment is restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tunekit as tk
from tunekit.runtime.sweep.recall import recall


def train(config: dict[str, Any]) -> dict[str, float]:
    return {"loss": config["x"]}


def test_every_setting_about_failures_comes_back(tmp_path: Path) -> None:
    wanted = tk.FailureConfig(
        max_failures=2,
        max_preemption_failures=7,
        backoff_s=0.5,
        max_identical_failures=3,
        hang_timeout_s="5min",
        rules=[tk.FailureRule("CUDA error", "avoid_node"), tk.FailureRule("(?i)killed", "retry", max_times=-1)],
    )
    run = tk.RunConfig(name="e", storage_path=tmp_path, verbose=0, failure_config=wanted, time_limit_s="2h")
    tk.inline(tk.Tuner(train, param_space={"x": tk.uniform(0, 1)}, run_config=run))
    plan = recall(
        tmp_path / "e", train, param_space=None, tune=None, run=None, resume_errored=False, restart_errored=False
    )
    found = plan.run.failure_config
    assert (found.hang_s, plan.run.limit_s) == (300.0, 7200.0)
    names = ("max_failures", "max_preemption_failures", "backoff_s", "max_identical_failures", "rules")
    assert [getattr(found, name) for name in names] == [getattr(wanted, name) for name in names]
    assert plan.sweep_spec(1, nonce="").hang_timeout_s == 300.0


def test_a_limit_of_time_ends_a_trial_in_this_process(tmp_path: Path) -> None:
    def endless(config: dict[str, Any]) -> None:
        while True:
            tk.report({"loss": 1.0})

    run = tk.RunConfig(name="e", storage_path=tmp_path, verbose=0, time_limit_s=0.2)
    (result,) = tk.inline(tk.Tuner(endless, param_space={}, run_config=run))
    assert (result.status, result.reason) == ("completed", "time_limit_s=0.2 is used up")
