"""A function that returns without a result is told what is missing, unless nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.testing.recording import RecordedTrial, RecordingChannel


class State:
    """A saver: knows whether it was done before."""

    def __init__(self) -> None:
        self.is_done = False

    def save_checkpoint(self, path: str) -> None:
        Path(path, "done").touch()

    def load_checkpoint(self, path: str) -> None:
        self.is_done = Path(path, "done").exists()


def test_nothing_reported_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    channel = RecordedTrial(tmp_path, lambda config: None).run()
    assert channel.kinds == ["TrialStarted", "TrialReturned"]
    assert "without a result" in caplog.text


def test_nothing_left_to_do_is_no_lack_of_results(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was lost after its last report, which has been saved."""

    def train(config: dict[str, Any]) -> None:
        state = State()
        tk.restore(state)
        if not state.is_done:
            tk.report({"value": 1}, checkpoint=state)

    trial = RecordedTrial(tmp_path, train)
    assert trial.run(RecordingChannel(stop_at=1)).kinds[-1] == "TrialHalted"
    assert trial.resume().kinds == ["TrialStarted", "TrialReturned"]
    assert "without a result" not in caplog.text
