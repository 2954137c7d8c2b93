"""A trial that is told to stop says that it saves before it does, so that nobody takes it for stuck."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from tunekit.checkpoint import Checkpoint
from tunekit.config import CheckpointConfig
from tunekit.core.commands import StopTrial
from tunekit.core.events import (
    CheckpointStaged,
    Event,
    ResultReported,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialSaving,
)
from tunekit.runtime.line.channel import Preempted
from tunekit.runtime.saving.saving import Saving
from tunekit.session import get_context, report
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


# -- a stop may come while it saves ------------------------------------------------------------------------------------


class SavesLast(Saves):
    """Says what it had said when it was asked to save each row."""

    said: ClassVar[list[bool]]

    def save_checkpoint(self, path: str) -> None:
        Path(path, "state").write_text("x")
        newest = self.sent[-1]
        self.said.append(isinstance(newest, TrialSaving) and newest.final)


def said_at_saves(folder: Path, config: CheckpointConfig, channel: RecordingChannel, **sweep: Any) -> list[bool]:
    SavesLast.sent, SavesLast.said = channel.events, []
    RecordedTrial(folder, SavesLast, checkpoint=config, **sweep).run(channel)
    return SavesLast.said


@pytest.mark.parametrize(
    "config", [CheckpointConfig(checkpoint_at_end=True), CheckpointConfig(checkpoint_frequency=2), CheckpointConfig()]
)
def test_who_comes_to_its_own_end_says_it_before_its_last_save(tmp_path: Path, config: CheckpointConfig) -> None:
    """If the trial's time is over while it saves, that is no reason to kill it."""
    said = said_at_saves(tmp_path, config, RecordingChannel(), stop={"training_iteration": 4})
    assert said in ([True], [False, True])


def test_it_is_not_said_of_saves_that_the_trial_goes_on_after(tmp_path: Path) -> None:
    channel = RecordingChannel()
    config = CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=False)
    assert said_at_saves(tmp_path, config, channel, stop={"training_iteration": 3}) == [False, False, True]


@pytest.mark.parametrize("stop", [StopTrial(trial=0, attempt=1), Preempted(reason="SIGTERM")])
def test_a_save_that_is_due_at_the_row_of_a_stop_is_the_last_one(tmp_path: Path, stop: StopTrial | Preempted) -> None:
    channel = RecordingChannel(stop_at=2, stop=stop)
    assert said_at_saves(tmp_path, CheckpointConfig(checkpoint_frequency=1), channel) == [False, True]


def test_the_channel_knows_when_the_trial_saves_between_two_rows(tmp_path: Path) -> None:
    channel = RecordingChannel(stop_at=3)
    saving: list[bool] = []

    class Looks(Saves):
        def step(self) -> dict[str, Any]:
            saving.append(channel.is_saving)
            return {"x": 1}

        def save_checkpoint(self, path: str) -> None:
            saving.append(channel.is_saving)
            Path(path, "state").write_text("x")

    config = CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=False)
    RecordedTrial(tmp_path, Looks, checkpoint=config).run(channel)
    assert saving == [False, True, False, True, False, True]
    assert not channel.is_saving


def test_a_failure_checkpoint_is_a_last_save(tmp_path: Path) -> None:
    class Breaks(SavesLast):
        def step(self) -> dict[str, Any]:
            if self.iteration == 1:
                raise ValueError("of its own")
            return {"x": 1}

    channel = RecordingChannel()
    Breaks.sent, SavesLast.said = channel.events, []
    RecordedTrial(tmp_path, Breaks, checkpoint=CheckpointConfig(checkpoint_on_failure=True)).run(channel)
    assert SavesLast.said == [True]


def test_a_folder_that_comes_with_the_last_row_is_kept_with_patience(tmp_path: Path) -> None:
    def train(config: Any) -> None:
        for _ in range(2):
            folder = get_context().checkpoint_dir()
            (folder / "state").write_text("x")
            report({"x": 1}, checkpoint=Checkpoint.from_directory(folder))

    channel = RecordingChannel()
    RecordedTrial(tmp_path, train, stop={"training_iteration": 2}).run(channel)
    kinds = [type(event) for event in channel.events]
    assert kinds.index(TrialSaving) > kinds.index(ResultReported) + 1
    assert kinds[-2:] == [CheckpointStaged, TrialReturned]


def test_what_is_saved_behind_a_trial_that_raises_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaks(Bare):
        def step(self) -> dict[str, Any]:
            raise ValueError("of its own")

    channel = RecordingChannel()
    monkeypatch.setattr(Saving, "is_idle", property(lambda self: False))
    RecordedTrial(tmp_path, Breaks).run(channel)
    assert [type(event) for event in channel.events[-2:]] == [TrialSaving, TrialRaised]


# -- a machine goes, and there is no time for a save -------------------------------------------------------------------

NO_TIME = Preempted(reason="a notice", saves=False)


class Asks(Saves):
    """Asks for a save of its second row, as ``wish`` says."""

    wish: ClassVar[str] = ""

    def step(self) -> dict[str, Any]:
        return {"x": 1, self.wish: self.iteration == 1} if self.wish else {"x": 1}

    def save_checkpoint(self, path: str) -> None:
        Path(path, "state").write_text("x")


@pytest.mark.parametrize("every", [{"checkpoint_frequency": 1}, {"checkpoint_every_s": 1e-9}])
def test_a_save_that_is_due_then_is_left_out_and_stays_announced(tmp_path: Path, every: dict[str, Any]) -> None:
    channel = RecordingChannel(stop_at=2, stop=NO_TIME)
    RecordedTrial(tmp_path, Asks, checkpoint=CheckpointConfig(**every)).run(channel)
    assert channel.saved == [1]
    assert [row.saves for row in channel.rows] == [True, True]
    assert isinstance(channel.last_words, TrialPreempted)


@pytest.mark.parametrize("wish", ["should_checkpoint", "pin_checkpoint"])
def test_what_the_row_asks_for_is_saved_all_the_same(
    tmp_path: Path, wish: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Asks, "wish", wish)
    channel = RecordingChannel(stop_at=2, stop=NO_TIME)
    RecordedTrial(tmp_path, Asks, checkpoint=CheckpointConfig(checkpoint_frequency=1)).run(channel)
    assert channel.saved == [1, 2]


def test_so_is_the_row_at_which_the_trial_ends(tmp_path: Path) -> None:
    config = CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=False)
    trial = RecordedTrial(tmp_path, Asks, checkpoint=config, stop={"training_iteration": 2})
    assert trial.run(RecordingChannel(stop_at=2, stop=NO_TIME)).saved == [1, 2]


def test_and_the_one_at_which_it_is_stopped_in_that_moment(tmp_path: Path) -> None:
    """It does not come to this row again, where an undisturbed trial has saved it."""

    class Late(RecordingChannel):
        num_asked = 0

        def pending_stop(self) -> StopTrial | Preempted | None:
            if super().pending_stop() is None:
                return None
            self.num_asked += 1
            return NO_TIME if self.num_asked == 1 else StopTrial(trial=0, attempt=1)

    config = CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=False)
    channel = RecordedTrial(tmp_path, Asks, checkpoint=config).run(Late(stop_at=2))
    assert channel.saved == [1, 2]
    assert isinstance(channel.last_words, TrialHalted)
    said = [type(event) for event in channel.events]
    assert said.index(TrialSaving) < len(said) - 1 - said[::-1].index(CheckpointStaged), "there is time for it"
