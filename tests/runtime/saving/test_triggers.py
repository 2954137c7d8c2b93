"""When a row is saved, and why: each trigger alone, and what comes after the last save."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from timed_attempts import Saver, World, patched

import tunekit as tk
from tunekit.core.commands import StopTrial
from tunekit.core.events import TrialHalted, TrialRaised, TrialReturned
from tunekit.runtime.saving.reasons import SaveReason
from tunekit.runtime.saving.triggers import Due, Triggers, Wishes
from tunekit.testing.recording import RecordedTrial, RecordingChannel

NOTHING = Wishes(save=False, pin=False)


@pytest.fixture
def world() -> Iterator[World]:
    with patched() as world:
        yield world


def reasons(channel: RecordingChannel) -> dict[int, str]:
    return {event.iteration: event.manifest["reason"] for event in channel.staged}


# -- alone -------------------------------------------------------------------------------------------------------------


def test_the_strongest_reason_is_told() -> None:
    """S003-8: only what nothing but the clock asks for may give way to a newer save."""
    now = [0.0]
    triggers = Triggers(tk.CheckpointConfig(checkpoint_frequency=2, checkpoint_every_s=10), lambda: now[0])
    now[0] = 10.0
    assert triggers.due(1, NOTHING) == Due(SaveReason.TIME, pin=False)
    assert triggers.due(2, NOTHING) == Due(SaveReason.FREQUENCY, pin=False)
    triggers.request(SaveReason.PREEMPTION)
    assert triggers.due(2, NOTHING) == Due(SaveReason.FREQUENCY, pin=False), "it would be there in any case"
    triggers.request(SaveReason.PREEMPTION)
    assert triggers.due(3, NOTHING) == Due(SaveReason.PREEMPTION, pin=False), "the clock's may be dropped"
    assert triggers.due(2, Wishes(save=True, pin=False)) == Due(SaveReason.DEMAND, pin=False)
    assert triggers.due(1, Wishes(save=False, pin=True)) == Due(SaveReason.DEMAND, pin=True)
    triggers.restart()
    assert triggers.due(1, NOTHING) is None


@pytest.mark.parametrize("every", [30, 30.0, "30s", "0.5min", timedelta(seconds=30)])
def test_by_time_from_the_newest_save(tmp_path: Path, world: World, every: Any) -> None:
    """S003-8: each save starts the interval anew, whatever made it due."""

    class Slow(tk.Trainable):
        def step(self) -> dict[str, Any]:
            world.now += 10
            return {"should_checkpoint": self.iteration + 1 == 5}

        def save_checkpoint(self, path: str) -> dict[str, int]:
            return {}

        def load_checkpoint(self, state: Any) -> None:
            """Nothing is needed."""

    config = tk.CheckpointConfig(checkpoint_every_s=every, checkpoint_at_end=False)
    channel = RecordedTrial(tmp_path, Slow, stop={"training_iteration": 10}, checkpoint=config).run()
    assert reasons(channel) == {3: "time", 5: "demand", 8: "time"}
    assert [row.iteration for row in channel.rows if row.saves] == [3, 5, 8]


def test_the_time_of_a_save_does_not_count(tmp_path: Path, world: World) -> None:
    """A save that takes longer than the interval is not followed by one at every row."""

    class Slow(tk.Trainable):
        def step(self) -> dict[str, Any]:
            world.now += 10
            return {}

        def save_checkpoint(self, path: str) -> dict[str, int]:
            world.now += 100
            return {}

        def load_checkpoint(self, state: Any) -> None:
            """Nothing is needed."""

    config = tk.CheckpointConfig(checkpoint_every_s=20, checkpoint_at_end=False)
    channel = RecordedTrial(tmp_path, Slow, stop={"training_iteration": 5}, checkpoint=config).run()
    assert channel.saved == [2, 4]


def test_the_last_save_is_none_by_the_clock(tmp_path: Path, world: World) -> None:
    """S003-14: what is saved at the end may not give way, though the clock would have asked for it as well."""

    def train(config: dict[str, Any]) -> None:
        for _ in range(4):
            world.now += 10
            tk.report({}, checkpoint=Saver())

    config = tk.CheckpointConfig(checkpoint_every_s=20)
    channel = RecordedTrial(tmp_path, train, stop={"training_iteration": 4}, checkpoint=config).run()
    assert reasons(channel) == {2: "time", 4: "at_end"}


@pytest.mark.parametrize("kind", ["class", "function"])
def test_time_counts_from_where_the_attempt_was_restored(tmp_path: Path, world: World, kind: str) -> None:
    """S003-8: the interval is the work that a failure would cost, and restoring is none of it."""

    class Slow(tk.Trainable):
        def step(self) -> dict[str, Any]:
            world.now += 10
            return {}

        def save_checkpoint(self, path: str) -> None:
            Saver().save_checkpoint(path)

        def load_checkpoint(self, path: Any) -> None:
            world.now += 1000

    class SlowSaver(Saver):
        def load_checkpoint(self, path: str) -> None:
            world.now += 1000

    def slow(config: dict[str, Any]) -> None:
        saver = SlowSaver()
        tk.restore(saver)
        while True:
            world.now += 10
            tk.report({}, checkpoint=saver)

    config = tk.CheckpointConfig(checkpoint_every_s=30, checkpoint_at_end=False)
    made = RecordedTrial(tmp_path, Slow if kind == "class" else slow, checkpoint=config)
    assert made.run(RecordingChannel(stop_at=5)).saved == [3]
    assert made.resume(RecordingChannel(stop_at=5)).saved == [6]


def test_a_request_saves_the_next_row_once(tmp_path: Path, world: World) -> None:
    def train(config: dict[str, Any]) -> None:
        for iteration in range(1, 6):
            if iteration in {2, 4}:
                world.runs[-1].request_save(SaveReason.PREEMPTION)
            tk.report({}, checkpoint=Saver())

    config = tk.CheckpointConfig(checkpoint_at_end=False)
    assert reasons(RecordedTrial(tmp_path, train, checkpoint=config).run()) == {2: "preemption", 4: "preemption"}


def test_a_request_waits_until_there_is_something_to_save(tmp_path: Path, world: World) -> None:
    def train(config: dict[str, Any]) -> None:
        world.runs[-1].request_save(SaveReason.PREEMPTION)
        for iteration in range(1, 6):
            tk.report({}, checkpoint=Saver() if iteration == 3 else None)

    config = tk.CheckpointConfig(checkpoint_at_end=False)
    assert reasons(RecordedTrial(tmp_path, train, checkpoint=config).run()) == {3: "preemption"}


def test_a_reported_folder_answers_a_request_and_the_clock(tmp_path: Path, world: World) -> None:
    """S003-8: at most one checkpoint per step, and none at the next one for the same reason."""

    def train(config: dict[str, Any]) -> None:
        for iteration in range(1, 6):
            world.now += 10
            if iteration != 3:
                tk.report({}, checkpoint=Saver())
                continue
            world.runs[-1].request_save(SaveReason.PREEMPTION)
            folder = tk.get_context().checkpoint_dir()
            tk.report({}, checkpoint=tk.Checkpoint.from_directory(folder))

    config = tk.CheckpointConfig(checkpoint_every_s=30, checkpoint_at_end=False)
    assert reasons(RecordedTrial(tmp_path, train, checkpoint=config).run()) == {3: "user"}


@pytest.mark.parametrize("way", ["class", "saver", "folder"])
def test_a_pin_asks_for_a_save_and_only_true_counts(tmp_path: Path, way: str) -> None:
    """S003-9: like ``should_checkpoint``, it is no metric."""
    pins = {2: True, 3: 1, 4: "yes", 5: True}

    class Pinned(tk.Trainable):
        def step(self) -> dict[str, Any]:
            return {tk.PIN_CHECKPOINT: pins.get(self.iteration + 1, False)}

        def save_checkpoint(self, path: str) -> None:
            Saver().save_checkpoint(path)

        def load_checkpoint(self, path: Any) -> None:
            """Nothing is needed."""

    def pinned(config: dict[str, Any]) -> None:
        for iteration in range(1, 7):
            checkpoint: Any = Saver()
            if way == "folder" and pins.get(iteration) is True:
                checkpoint = tk.Checkpoint.from_directory(tk.get_context().checkpoint_dir())
            tk.report({tk.PIN_CHECKPOINT: pins.get(iteration, False)}, checkpoint=checkpoint)

    trainable = Pinned if way == "class" else pinned
    config = tk.CheckpointConfig(checkpoint_frequency=3, checkpoint_at_end=False)
    channel = RecordedTrial(tmp_path, trainable, stop={"training_iteration": 6}, checkpoint=config).run()
    assert channel.saved == [2, 3, 5, 6]
    assert [event.iteration for event in channel.staged if event.pinned] == [2, 5]
    assert all(row.metrics == {} for row in channel.rows)


@pytest.mark.parametrize("key", [tk.SHOULD_CHECKPOINT, tk.PIN_CHECKPOINT])
@pytest.mark.parametrize("kind", ["class", "function"])
def test_a_wish_that_cannot_be_met_is_one_warning(
    tmp_path: Path, key: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S003-9: in a function without a checkpoint, or a class that cannot save."""

    class Plain(tk.Trainable):
        def step(self) -> dict[str, Any]:
            return {key: True, "done": self.iteration == 2}

    def plain(config: dict[str, Any]) -> None:
        for _ in range(3):
            tk.report({key: True})

    with caplog.at_level(logging.WARNING, logger="tunekit"):
        channel = RecordedTrial(tmp_path, Plain if kind == "class" else plain).run()
    assert channel.saved == []
    assert caplog.text.count(key) == 1


# -- the end of an attempt ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["own", "stop", "pause", "interrupt", "raise"])
def test_the_last_words_come_after_all_saves(
    tmp_path: Path, world: World, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is in flight when the driver hears of the end."""
    seen = []

    class Watched(Saver):
        def save_checkpoint(self, path: str) -> None:
            super().save_checkpoint(path)
            saving = world.runs[-1].saving
            settle = saving.settle

            def note() -> None:
                settle()
                seen.append(len(channel.events))

            monkeypatch.setattr(saving, "settle", note)

    def train(config: dict[str, Any]) -> None:
        tk.report({}, checkpoint=Watched())
        if way == "raise":
            raise ValueError
        if way == "interrupt":
            world.runs[-1].interrupt(0, 1)

    stop = StopTrial(trial=0, attempt=1, pause=way == "pause")
    channel = RecordingChannel(stop_at=1 if way in {"stop", "pause"} else None, stop=stop)
    config = tk.CheckpointConfig(checkpoint_frequency=1)
    made = RecordedTrial(tmp_path, train, stop={"training_iteration": 1 if way == "own" else 9}, checkpoint=config)
    made.run(channel)
    ending = {"own": TrialReturned, "raise": TrialRaised}.get(way, TrialHalted)
    assert isinstance(channel.events[-1], ending)
    assert seen[-1] == len(channel.events) - 1
    assert channel.saved == [1]


def test_a_save_that_went_wrong_behind_is_raised_at_the_next_report(tmp_path: Path, world: World) -> None:
    """Before the row is recorded, as if it had been found at once."""

    def train(config: dict[str, Any]) -> None:
        tk.report({}, checkpoint=Saver())
        run = world.runs[-1]

        def check() -> None:
            run.saving.check = lambda: None  # type: ignore[method-assign]
            raise tk.SaveError("no checkpoint")

        run.saving.check = check  # type: ignore[method-assign]
        tk.report({}, checkpoint=Saver())

    config = tk.CheckpointConfig(checkpoint_frequency=1)
    channel = RecordedTrial(tmp_path, train, checkpoint=config).run()
    assert len(channel.rows) == 1
    last = channel.events[-1]
    assert isinstance(last, TrialRaised)
    assert (last.error.type, last.retryable) == ("tunekit.errors.SaveError", False)
