"""A trial whose process is to end saves the row that it is at, if it can, and takes its leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trainables import Counter

import tunekit as tk
from tunekit import session
from tunekit.config import CheckpointConfig
from tunekit.core.commands import ContinueTrial, StopTrial
from tunekit.core.events import ResultReported, TrialHalted, TrialPreempted
from tunekit.runtime.line.channel import Preempted
from tunekit.session import PreemptionInfo
from tunekit.testing.recording import RecordedTrial, RecordingChannel

TOLD = Preempted("SIGTERM")
LEAVE = TrialPreempted(trial=0, attempt=1, reason="SIGTERM")


class Unsaved(tk.Trainable):
    """Cannot be saved."""

    def step(self) -> dict[str, Any]:
        return {"count": self.iteration}


def count(config: dict[str, Any]) -> None:
    """Report with an object that can save."""
    counter = Counter({})
    tk.restore(counter)
    while True:
        tk.report(counter.step(), checkpoint=counter)


def count_silently(config: dict[str, Any]) -> None:
    for value in range(9):
        tk.report({"count": value})


def keep_folders(config: dict[str, Any]) -> None:
    for value in range(9):
        folder = tk.get_context().checkpoint_dir()
        Path(folder, "value").write_text(str(value))
        tk.report({"count": value}, checkpoint=tk.Checkpoint.from_directory(folder))


Make = Callable[..., RecordedTrial]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def trial(trainable: Any, **checkpoint: Any) -> RecordedTrial:
        checkpoint.setdefault("checkpoint_at_end", False)
        return RecordedTrial(tmp_path, trainable, checkpoint=CheckpointConfig(**checkpoint))

    return trial


@pytest.mark.parametrize("trainable", [Counter, count])
@pytest.mark.parametrize("frequency", [0, 1, 2])
def test_the_row_that_it_is_at_is_saved_once(make: Make, trainable: Any, frequency: int) -> None:
    """S003-10: whatever else is due there, and although nothing is saved at the end."""
    made = make(trainable, checkpoint_frequency=frequency)
    channel = made.run(RecordingChannel(stop_at=2, stop=TOLD))
    assert channel.kinds[-3:] == ["ResultReported 2", "CheckpointStaged 2", "TrialPreempted"]
    assert channel.last_words == LEAVE
    assert channel.staged[-1].manifest["reason"] == ("frequency" if frequency else "preemption")
    assert channel.staged[-1].interim is not bool(frequency), "it would have been there in any case"
    assert [row.metrics["count"] for row in made.resume(RecordingChannel(stop_at=1)).rows] == [3]


@pytest.mark.parametrize(("pause", "interim"), [(True, [True]), (False, [False])])
def test_what_a_pause_saves_is_interim_and_what_an_end_saves_is_not(
    make: Make, interim: list[bool], *, pause: bool
) -> None:
    stop = StopTrial(trial=0, attempt=1, pause=pause)
    channel = make(Counter, checkpoint_at_end=True).run(RecordingChannel(stop_at=2, stop=stop))
    assert [one.interim for one in channel.staged] == interim


def test_how_long_a_save_takes_is_told(make: Make) -> None:
    """Whether the next one fits into the time that a machine has left is judged by it."""

    class Slow(Counter):
        def save_checkpoint(self, path: str) -> None:
            time.sleep(0.02)
            super().save_checkpoint(path)

    (staged,) = make(Slow).run(RecordingChannel(stop_at=2, stop=TOLD)).staged
    assert staged.took_s >= 0.02


@pytest.mark.parametrize("trainable", [Unsaved, count_silently])
def test_who_cannot_save_just_leaves(make: Make, trainable: Any) -> None:
    channel = make(trainable).run(RecordingChannel(stop_at=2, stop=TOLD))
    assert channel.kinds == ["TrialStarted", "ResultReported 1", "ResultReported 2", "TrialPreempted"]


def test_a_folder_that_is_reported_is_kept(make: Make) -> None:
    channel = make(keep_folders).run(RecordingChannel(stop_at=2, stop=TOLD))
    assert channel.kinds[-2:] == ["CheckpointStaged 2", "TrialPreempted"]


def test_without_time_for_a_save_it_leaves_at_once(make: Make) -> None:
    """Half a save helps nobody, and takes from those that have the time."""
    channel = make(Counter).run(RecordingChannel(stop_at=2, stop=Preempted("SIGTERM", saves=False)))
    assert channel.kinds[-2:] == ["ResultReported 2", "TrialPreempted"]


def test_a_machine_that_may_go_has_its_trials_saved_once_each_time_that_it_is_said(make: Make) -> None:
    """A notice may be taken back, and one that only may be true ends nothing: no trial saves at every row for it."""

    class Announcing(RecordingChannel):
        def send(self, event: Any) -> None:
            super().send(event)
            if isinstance(event, ResultReported) and event.iteration in {2, 5}:
                session.announce(PreemptionInfo(deadline=None, source=f"row {event.iteration}", node="n"))
            elif isinstance(event, ResultReported) and event.iteration == 4:
                session.announce(None)

    channel = make(Counter).run(Announcing(stop_at=8))
    session.announce(None)
    assert channel.saved == [3, 6]
    assert [one.manifest["reason"] for one in channel.staged] == ["preemption", "preemption"]


def test_it_leaves_its_horizon(make: Make) -> None:
    class Waiting(RecordingChannel):
        def wait(self) -> Any:
            super().wait()
            return TOLD

    channel = make(Counter).run(Waiting(), until=3)
    assert channel.kinds[-2:] == ["CheckpointStaged 3", "TrialPreempted"]


def test_an_order_to_stop_is_obeyed_as_ever(make: Make) -> None:
    stop: list[ContinueTrial | StopTrial] = [StopTrial(trial=0, attempt=1)]
    channel = make(Counter).run(RecordingChannel(stop), until=1)
    assert channel.last_words == TrialHalted(trial=0, attempt=1)
    assert not channel.saved


def test_its_own_end_is_its_own_end(make: Make, tmp_path: Path) -> None:
    made = RecordedTrial(tmp_path, Counter, stop={"training_iteration": 2})
    channel = made.run(RecordingChannel(stop_at=2, stop=TOLD))
    assert channel.kinds[-2:] == ["CheckpointStaged 2", "TrialReturned"]


def test_storage_that_fails_costs_the_save_and_not_the_leave(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(Counter)

    def seal(*arguments: Any, **named: Any) -> Any:
        raise OSError("no space left on device")

    monkeypatch.setattr(made.io, "seal", seal)
    channel = made.run(RecordingChannel(stop_at=2, stop=TOLD))
    assert channel.kinds[-2:] == ["SaveFailed 2", "TrialPreempted"]
