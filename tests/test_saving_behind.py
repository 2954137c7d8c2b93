"""Checkpoints that are finished behind their trial, by whole sweeps in this process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from trainables import Make, maker

import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import CheckpointPublished, SaveFailed
from tunekit.journal.log import read_records
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.types import TrialStatus

LARGE = bytes(2_000_000)
"""Too much to be finished while the trial waits."""


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


class Large(tk.Trainable):
    """Has much to save."""

    def setup(self, config: dict[str, Any]) -> None:
        self.value = 0

    def step(self) -> dict[str, Any]:
        self.value += 1
        return {"value": self.value}

    def save_checkpoint(self, path: str) -> Any:
        return {"value": self.value, "large": LARGE}

    def load_checkpoint(self, state: Any) -> None:
        self.value = state["value"]
        assert state["large"] == LARGE


def has_appeared(path: Path) -> bool:
    """Wait for a file, but not for ever."""
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    return path.exists()


def published(tmp_path: Path) -> list[int]:
    records = read_records(tmp_path / "exp" / "journal")
    return [record.iteration for record in records if isinstance(record, CheckpointPublished)]


def test_it_is_published_while_the_next_step_runs(make: Make, tmp_path: Path) -> None:
    """A failure costs one interval: what is saved does not wait for the next report, which may be an hour away."""
    seen = []

    class Waiting(Large):
        def step(self) -> dict[str, Any]:
            if self.iteration:
                manifest = f"checkpoint_{self.iteration:06d}/MANIFEST.json"
                seen.append(has_appeared(tmp_path / "exp" / "Waiting_00000" / manifest))
            return super().step()

    run = {"stop": {"training_iteration": 4}, "checkpoint_config": tk.CheckpointConfig(checkpoint_frequency=1)}
    result = tk.inline(make(Waiting, {}, run=run))[0]
    assert seen == [True] * 3
    assert [row["value"] for row in result.rows] == [1, 2, 3, 4]
    assert published(tmp_path) == [1, 2, 3, 4]


def test_which_checkpoints_exist_does_not_depend_on_timing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: steps faster than the storage wait for it, at most two saves ahead, and every one is kept."""
    seal = CheckpointIO.seal

    def slow(*arguments: Any, **keywords: Any) -> Any:
        time.sleep(0.02)
        return seal(*arguments, **keywords)

    monkeypatch.setattr(CheckpointIO, "seal", slow)
    run = {"stop": {"training_iteration": 7}, "checkpoint_config": tk.CheckpointConfig(checkpoint_frequency=2)}
    tk.inline(make(Large, {}, run=run))
    assert published(tmp_path) == [2, 4, 6, 7]


def test_a_crash_goes_on_from_a_save_that_was_in_flight(make: Make, tmp_path: Path) -> None:
    """S003-12: the exception is told after all that was saved before it."""

    class Crashing(Large):
        def step(self) -> dict[str, Any]:
            if self.iteration == 2 and not (tmp_path / "crashed").exists():
                (tmp_path / "crashed").touch()
                raise ValueError("once")
            return super().step()

    run = {
        "stop": {"training_iteration": 4},
        "checkpoint_config": tk.CheckpointConfig(checkpoint_frequency=2),
        "failure_config": tk.FailureConfig(max_failures=1),
    }
    result = tk.inline(make(Crashing, {}, run=run))[0]
    assert [row["value"] for row in result.rows] == [1, 2, 3, 4]
    launches = [record for record in read_records(tmp_path / "exp" / "journal") if isinstance(record, LaunchTrial)]
    assert [launch.resume_from for launch in launches] == [None, 2]


def test_a_full_disk_behind_costs_a_checkpoint_and_not_the_trial(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The previous checkpoint stays; the next one is saved as if nothing had been."""
    seal = CheckpointIO.seal

    def full(io: CheckpointIO, trial_name: str, iteration: int, attempt: int, **keywords: Any) -> Any:
        if iteration == 2:
            raise OSError(28, "No space left on device")
        return seal(io, trial_name, iteration, attempt, **keywords)

    monkeypatch.setattr(CheckpointIO, "seal", full)
    run = {"stop": {"training_iteration": 4}, "checkpoint_config": tk.CheckpointConfig(checkpoint_frequency=1)}
    result = tk.inline(make(Large, {}, run=run))[0]
    assert result.status is TrialStatus.COMPLETED
    assert published(tmp_path) == [1, 3, 4]
    failed = [record for record in read_records(tmp_path / "exp" / "journal") if isinstance(record, SaveFailed)]
    assert [event.iteration for event in failed] == [2]
    assert list((tmp_path / "exp").glob(".staging/*")) == []
