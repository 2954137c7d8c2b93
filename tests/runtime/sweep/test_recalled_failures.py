"""What failures cost and how long trials may run is recorded, and is back when an experiment is restored."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import tunekit as tk
from tunekit.core.events import Rule
from tunekit.runtime.sweep.recall import _rules, recall


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


def test_rules_that_were_let_pass_once_are_taken_without_those_that_are_never_asked() -> None:
    recorded = [Rule("a", "give_up", 7), Rule("b", "retry", 5), Rule("a", "retry", 2), Rule("c", "give_up", 3)]
    found = _rules(recorded)
    assert [(rule.pattern, rule.max_times) for rule in found] == [("a", 7), ("b", 5), ("c", 3)]
    assert list(tk.FailureConfig(rules=found).rules) == found


def test_lengths_of_time_come_back_however_they_were_written(tmp_path: Path) -> None:
    run = tk.RunConfig(
        name="e",
        storage_path=tmp_path,
        verbose=0,
        stop_grace_s="5s",
        preemption_grace_s=timedelta(seconds=40),
        lease_s="1min30s",
        failure_config=tk.FailureConfig(backoff_s="2s"),
    )
    tk.inline(tk.Tuner(train, param_space={"x": 1.0}, tune_config=tk.TuneConfig(time_budget_s="1h"), run_config=run))
    plan = recall(
        tmp_path / "e", train, param_space=None, tune=None, run=None, resume_errored=False, restart_errored=False
    )
    found, spec = plan.settings(1), plan.sweep_spec(1, nonce="")
    assert (found.stop_grace_s, found.backoff_s, found.time_budget_s) == (5.0, 2.0, 3600.0)
    assert (spec.preemption_grace_s, spec.lease_s) == (40.0, 90.0)


def test_a_limit_of_time_ends_a_trial_in_this_process(tmp_path: Path) -> None:
    def endless(config: dict[str, Any]) -> None:
        while True:
            tk.report({"loss": 1.0})

    run = tk.RunConfig(name="e", storage_path=tmp_path, verbose=0, time_limit_s=0.2)
    (result,) = tk.inline(tk.Tuner(endless, param_space={}, run_config=run))
    assert (result.status, result.reason) == ("completed", "time_limit_s=0.2 is used up")
