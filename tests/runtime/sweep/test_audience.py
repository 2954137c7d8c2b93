"""Who follows a sweep hears all of it before the experiment is closed, but for a driver whose place was taken."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.callbacks.telling import Telling
from tunekit.core.events import Event
from tunekit.runtime.sweep.audience import audience
from tunekit.runtime.sweep.plan import Plan
from tunekit.runtime.sweep.spaces import Spaces
from tunekit.testing.events import Script, capacity, driver, row, started, suggested

EVENTS: list[Event] = [driver(num_trials=1), capacity(1), suggested(1), started(0), row(0, 1), row(0, 2), row(0, 3)]


class Slow(tk.Callback):
    """Hears its first row only when it is let."""

    def __init__(self) -> None:
        self.gate, self.is_in = threading.Event(), threading.Event()
        self.heard: list[int] = []
        self.flushed: list[int] = []

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.is_in.set()
        self.gate.wait()
        self.heard.append(result["training_iteration"])

    def flush(self, number: int) -> None:
        self.flushed.append(number)


def follow(callback: Slow, folder: Path, error: Exception | None) -> None:
    run = tk.RunConfig(name="e", storage_path=folder, callbacks=[callback])
    plan = Plan(trainable=lambda config: None, param_space={"x": 1}, tune=tk.TuneConfig(), run=run)
    play = Script()
    with audience(plan, None, Spaces(plan, plan.space.signature(), 0)) as telling:
        assert isinstance(telling, Telling)
        telling.catch_up(play.experiment.state)
        for event in EVENTS:
            play(event)
            telling.witness(event, play.experiment.state)
        telling.observe([], play.experiment.state)
        assert callback.is_in.wait(120)
        threading.Timer(0.1, callback.gate.set).start()
        if error is not None:
            raise error


def test_the_end_waits_for_who_has_not_heard_all(tmp_path: Path) -> None:
    callback = Slow()
    follow(callback, tmp_path, None)
    assert callback.heard == [1, 2, 3]
    assert callback.flushed == [7]


def test_a_failure_of_the_driver_is_no_reason_to_keep_anything_back(tmp_path: Path) -> None:
    callback = Slow()
    with pytest.raises(tk.StorageError):
        follow(callback, tmp_path, tk.StorageError("the disk is full"))
    assert callback.heard == [1, 2, 3]


def test_a_driver_whose_place_was_taken_says_nothing_more(tmp_path: Path) -> None:
    """The next one tells the rest, and a logger of both must not be written by two."""
    callback = Slow()
    with pytest.raises(tk.ExperimentExistsError):
        follow(callback, tmp_path, tk.ExperimentExistsError("another driver has taken over"))
    assert callback.heard == [1]
    assert callback.flushed == []


def test_without_callbacks_there_is_nobody(tmp_path: Path) -> None:
    plan = Plan(trainable=lambda config: None, param_space={}, tune=tk.TuneConfig(), run=tk.RunConfig(name="e"))
    with audience(plan, None, Spaces(plan, plan.space.signature(), 0)) as telling:
        assert telling is None
