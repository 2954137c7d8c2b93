"""Rows that came out otherwise when they were computed again are shown, in bounds, and without clock and place."""

from __future__ import annotations

import math
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.core.metrics import MISSING, differing
from tunekit.results.differences import RewrittenRow, summary


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ({"x": 1.0}, {"x": 1.0}, []),
        ({"x": math.nan}, {"x": math.nan}, []),
        ({"x": 1.0}, {"x": 1}, ["x"]),
        ({"x": 0.0}, {"x": -0.0}, ["x"]),
        ({"x": 1, "y": 2}, {"y": 3}, ["x", "y"]),
        ({"val": {"loss": 1, "acc": 2}}, {"val": {"loss": 1, "acc": 3}}, ["val/acc"]),
        ({"x": 1, "time_epoch": 2.0, "pid": 1}, {"x": 1, "time_epoch": 3.0, "date": "now"}, []),
        ({"timestamp": 1, "hostname": "a", "node_ip": "b", "attempt": 1, "time": 5}, {"time": 6}, ["time"]),
    ],
)
def test_what_differs(before: dict[str, Any], after: dict[str, Any], keys: list[str]) -> None:
    """Equality leaves out timestamp date time_* pid hostname node_ip attempt, and nothing else."""
    assert differing(before, after) == keys


def rows(num_rows: int, num_metrics: int = 1) -> list[RewrittenRow]:
    metrics: dict[str, tuple[Any, Any]] = {f"m{i}": (0.5, MISSING if i else 0.25) for i in range(num_metrics)}
    return [RewrittenRow(f"t_{i // 2:05d}", i + 1, (1, 2), metrics) for i in range(num_rows)]


def test_the_summary_is_bounded() -> None:
    text = summary(rows(1000, 100), deterministic=False)
    assert text.startswith("1000 rows of 500 trials came out otherwise")
    assert "t_00000 at iteration 1: m0 0.5 → 0.25, m1 0.5 → nothing, m2 0.5 → nothing, 97 more metrics; " in text
    assert "; and 995 more." in text
    assert len(text) < 1500


def test_the_summary_says_what_it_means() -> None:
    assert summary([], deterministic=True) == ""
    assert "1 row of 1 trial came out" in summary(rows(1), deterministic=False)
    assert "promise" not in summary(rows(1), deterministic=False)
    assert "The promise of deterministic=True" in summary(rows(1), deterministic=True)


# -- whole sweeps ------------------------------------------------------------------------------------------------------


def sweep(folder: Path, *, noise: bool, **tune: Any) -> tk.ResultGrid:
    draws = count()

    class Noisy(tk.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.x, self.index = 0, config["x"]

        def step(self) -> dict[str, Any]:
            self.x += 1
            drawn = next(draws)
            if drawn == 5 and self.index == 1:
                raise RuntimeError("bad luck")
            return {"loss": 1 / self.x + (drawn if noise else 0), "time_of_step": drawn}

        def save_checkpoint(self, path: str) -> dict[str, int]:
            return {"x": self.x}

        def load_checkpoint(self, state: dict[str, int]) -> None:
            self.x = state["x"]

    return tk.inline(
        tk.Tuner(
            Noisy,
            param_space={"x": tk.grid_search([1, 2])},
            tune_config=tk.TuneConfig(metric="loss", mode="min", **tune),
            run_config=tk.RunConfig(
                name="e",
                storage_path=folder,
                verbose=0,
                stop={"training_iteration": 8},
                checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=3),
                failure_config=tk.FailureConfig(max_failures=3, hang_timeout_s=60),
            ),
        )
    )


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for record in caplog.records if "came out otherwise" in (text := record.getMessage())]


def test_a_sweep_says_once_what_came_out_otherwise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = sweep(tmp_path, noise=True)
    (text,) = warnings(caplog)
    assert text.startswith("2 rows of 1 trial came out otherwise when computed again after a failure")
    assert "Noisy_00000 at iteration 4: loss 3.25 → 6.25; Noisy_00000 at iteration 5: loss 4.2 → 7.2." in text
    assert results.rewritten == results[0].rewritten
    assert [(row.trial_id, row.iteration, row.attempts) for row in results.rewritten] == [
        ("Noisy_00000", 4, (1, 2)),
        ("Noisy_00000", 5, (1, 2)),
    ]
    assert results[0].rewritten[0].metrics == {"loss": (3.25, 6.25)}
    assert results[1].rewritten == []
    assert results[0].rows[3]["loss"] == 6.25
    caplog.clear()
    sweep(tmp_path, noise=True)
    assert warnings(caplog) == []


def test_in_deterministic_mode_the_promise_is_broken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep(tmp_path, noise=True, deterministic=True, max_concurrent_trials=1)
    (text,) = warnings(caplog)
    assert "The promise of deterministic=True" in text


def test_nothing_is_said_of_a_deterministic_trainable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert sweep(tmp_path, noise=False).rewritten == []
    assert warnings(caplog) == []
