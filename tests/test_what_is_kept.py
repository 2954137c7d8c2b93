"""Whole sweeps under limits: which checkpoints are on the disk in the end, and that failure checkpoints lie apart.

Holds S003-19, S003-20, S003-21 on a real store, and the limit in bytes.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk

SCORES = [0.1, 0.9, 0.3, 0.8, math.nan, 0.2]


class Six(tk.Trainable):
    """Runs six iterations and saves a thousand bytes at each."""

    def setup(self, config: dict[str, Any]) -> None:
        self.i = 0
        self.raises_at = config.get("raises_at", 0)

    def step(self) -> dict[str, Any]:
        self.i += 1
        if self.i == self.raises_at:
            raise ValueError("as asked")
        result = {"acc": SCORES[self.i - 1], "val": {"acc": SCORES[self.i - 1]}, "done": self.i == len(SCORES)}
        return {**result, "pin_checkpoint": self.i == 3} if self.config.get("pins") else result

    def save_checkpoint(self, path: str) -> None:
        (Path(path) / "state").write_bytes(b"x" * 999 + bytes([self.i]))

    def load_checkpoint(self, path: str) -> None:
        self.i = (Path(path) / "state").read_bytes()[-1]


def sweep(
    folder: Path, space: dict[str, Any], *, num_samples: int = 1, failures: int = 0, **keep: Any
) -> tk.ResultGrid:
    tuner = tk.Tuner(
        Six,
        param_space=space,
        tune_config=tk.TuneConfig(num_samples=num_samples, seed=1),
        run_config=tk.RunConfig(
            name="kept",
            storage_path=folder,
            verbose=0,
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=1, **keep),
            failure_config=tk.FailureConfig(max_failures=failures),
        ),
    )
    return tk.inline(tuner)


def there(folder: Path, trial: int = 0) -> list[str]:
    return sorted(path.name for path in (folder / "kept" / f"Six_{trial:05d}").iterdir() if path.is_dir())


def names(*iterations: int) -> list[str]:
    return [f"checkpoint_{iteration:06d}" for iteration in iterations]


@pytest.mark.parametrize("attribute", ["acc", "val/acc"])
@pytest.mark.parametrize(("order", "expected"), [("max", (2, 4, 6)), ("min", (1, 6))])
def test_the_best_and_the_newest_are_on_the_disk(
    tmp_path: Path, attribute: str, order: str, expected: tuple[int, ...]
) -> None:
    """S003-20, S003-21."""
    sweep(tmp_path, {}, num_to_keep=2, checkpoint_score_attribute=attribute, checkpoint_score_order=order)
    assert there(tmp_path) == names(*expected)


def test_without_an_attribute_the_newest_are(tmp_path: Path) -> None:
    """S003-19."""
    sweep(tmp_path, {}, num_to_keep=2)
    assert there(tmp_path) == names(5, 6)


def test_pinned_ones_are_too(tmp_path: Path) -> None:
    sweep(tmp_path, {"pins": True}, num_to_keep=1, max_experiment_bytes=1000)
    assert there(tmp_path) == names(3, 6)


def test_a_limit_holds_for_all_trials_together(tmp_path: Path) -> None:
    """The best of the experiment stays, whichever trial it is of, and each trial's newest."""
    sweep(tmp_path, {}, num_samples=3, max_experiment_bytes=4000, checkpoint_score_attribute="acc")
    found = [there(tmp_path, trial) for trial in range(3)]
    assert all("checkpoint_000006" in names for names in found)
    assert sum("checkpoint_000002" in names for names in found) == 1
    assert sum(map(len, found)) == 4


def test_a_limit_that_is_too_small_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="tunekit"):
        grid = sweep(tmp_path, {}, num_samples=2, max_experiment_bytes=10)
    assert not grid.errors
    told = [record for record in caplog.records if "max_experiment_bytes=10" in record.getMessage()]
    assert len(told) == 1
    assert [there(tmp_path, trial) for trial in range(2)] == [names(6), names(6)]


def test_failure_checkpoints_lie_apart_and_the_trial_goes_on_from_the_one_before(tmp_path: Path) -> None:
    grid = sweep(tmp_path, {"raises_at": 4}, failures=2, checkpoint_on_failure=True)
    assert grid[0].error is not None
    assert there(tmp_path) == [*names(1, 2, 3), "failure_000003_1", "failure_000003_2", "failure_000003_3"]
    manifest = json.loads((tmp_path / "kept" / "Six_00000" / "failure_000003_2" / "MANIFEST.json").read_text())
    assert manifest["exact"] is False
    failures = grid[0].failure_checkpoints
    assert [Path(failure.path).name for failure in failures] == [f"failure_000003_{attempt}" for attempt in (1, 2, 3)]
    assert not any(failure.metadata["exact"] for failure in failures)
    newest = grid[0].checkpoint
    assert newest is not None
    assert newest.path.endswith("checkpoint_000003")
    assert newest.metadata["exact"] is True


def test_a_limit_takes_failure_checkpoints_first(tmp_path: Path) -> None:
    sweep(tmp_path, {"raises_at": 4}, failures=1, checkpoint_on_failure=True, max_experiment_bytes=3500)
    assert there(tmp_path) == names(1, 2, 3)
