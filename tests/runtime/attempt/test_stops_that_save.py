"""A trial that is told to stop says that it saves before it does, so that nobody takes it for stuck."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunekit.config import CheckpointConfig
from tunekit.core.commands import StopTrial
from tunekit.core.events import CheckpointStaged, Event, TrialHalted, TrialSaving
from tunekit.testing.recording import RecordedTrial, RecordingChannel
from tunekit.trainable import Trainable


class Bare(Trainable):
    def step(self) -> dict[str, Any]:
        return {"x": 1}


class Saves(Bare):
    sent: list[Event]

    def save_checkpoint(self, path: str) -> None:
        Path(path, "state").write_text("x")
        assert isinstance(self.sent[-1], TrialSaving)

    def load_checkpoint(self, checkpoint: Any) -> None:
        pass


def stopped(folder: Path, kind: type[Bare], *, pause: bool) -> list[Event]:
    channel = RecordingChannel(stop_at=2, stop=StopTrial(trial=0, attempt=1, pause=pause))
    if issubclass(kind, Saves):
        kind.sent = channel.events
    RecordedTrial(folder, kind, checkpoint=CheckpointConfig(checkpoint_at_end=None)).run(channel)
    return channel.events


@pytest.mark.parametrize("pause", [False, True])
def test_it_is_said_before_user_code_saves(tmp_path: Path, *, pause: bool) -> None:
    events = stopped(tmp_path, Saves, pause=pause)
    kinds = [type(event) for event in events]
    assert kinds[-3:] == [TrialSaving, CheckpointStaged, TrialHalted]
    assert kinds.count(TrialSaving) == 1


def test_who_cannot_save_says_nothing(tmp_path: Path) -> None:
    kinds = [type(event) for event in stopped(tmp_path, Bare, pause=True)]
    assert TrialSaving not in kinds
    assert kinds[-1] is TrialHalted
