"""A row says whether its checkpoint follows, because the driver may lose the worker between the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.config import CheckpointConfig
from tunekit.testing.recording import RecordedTrial, RecordingChannel


class Stepper(tk.Trainable):
    def step(self) -> dict[str, Any]:
        return {"loss": 0.0, "should_checkpoint": self.iteration == 1}

    def save_checkpoint(self, path: str) -> None:
        Path(path, "state").write_text("x")

    def load_checkpoint(self, path: str) -> None:
        """Nothing is needed."""


class Saver:
    def save_checkpoint(self, path: str) -> None:
        Path(path, "state").write_text("x")

    def load_checkpoint(self, path: str) -> None:
        """Nothing is needed."""


def with_saver(config: dict[str, Any]) -> None:
    for _ in range(9):
        tk.report({"loss": 0.0}, checkpoint=Saver())


def with_folder(config: dict[str, Any]) -> None:
    for iteration in range(1, 10):
        if iteration % 3:
            tk.report({"loss": 0.0})
            continue
        folder = tk.get_context().checkpoint_dir()
        Path(folder, "state").write_text("x")
        tk.report({"loss": 0.0}, checkpoint=tk.Checkpoint.from_directory(folder))


def with_nothing(config: dict[str, Any]) -> None:
    for _ in range(9):
        tk.report({"loss": 0.0})


@pytest.mark.parametrize(
    ("trainable", "options", "saved"),
    [
        (Stepper, {"checkpoint_frequency": 3}, [2, 3, 5]),
        (Stepper, {"checkpoint_at_end": False}, [2]),
        (with_saver, {"checkpoint_frequency": 2}, [2, 4, 5]),
        (with_saver, {"checkpoint_frequency": 2, "checkpoint_at_end": False}, [2, 4]),
        (with_folder, {}, [3]),
        (with_nothing, {}, []),
    ],
)
def test_what_is_announced_is_what_is_saved(
    tmp_path: Path, trainable: Any, options: dict[str, Any], saved: list[int]
) -> None:
    stop = {"training_iteration": 5}
    trial = RecordedTrial(tmp_path, trainable, stop=stop, checkpoint=CheckpointConfig(**options))
    channel = trial.run(RecordingChannel())
    assert [row.iteration for row in channel.rows if row.saves] == saved == channel.saved
