"""Callbacks are told at least once what is behind their position, and can neither hold up nor break anything."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tunekit as tk
from tunekit.callbacks import telling as module
from tunekit.callbacks.telling import Facts, Telling
from tunekit.core.events import Event
from tunekit.testing.events import Script, capacity, driver, lost, returned, row, saved, started, suggested

STORY: list[Event] = [
    driver(num_trials=1, max_failures=3),
    capacity(1),
    suggested(1),
    started(0),
    *saved(0, 1),
    row(0, 2),
    lost(0),
    started(0, 2, restored_from=1),
    row(0, 2, 2),
    returned(0, 2),
]
NUMBERS = [4, 5, 7, 8, 9, 10, 11, 12]
"""Of the records of the story that are told."""


class Diary(tk.Callback):
    """Remembers what it is told, and how far it had come at each flush."""

    def __init__(self, position: int | None = None) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.flushed: list[int] = []
        self.at = position

    def setup(self, *args: Any, **info: Any) -> None:
        self.info = info

    def position(self) -> int | None:
        return self.at

    def flush(self, number: int) -> None:
        self.flushed.append(number)

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.heard.append((iteration, "start", trial.trial_id, trial.config))

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.heard.append((iteration, "result", result["training_iteration"], result["loss"]))
        result.clear()  # It is a copy.

    def on_trial_restore(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.heard.append((iteration, "restore", info["restored_from"], info["superseded"]))

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.heard.append((iteration, "recover", info["error"]))

    def on_checkpoint(self, iteration: int, trials: Any, trial: Any, checkpoint: Any, **info: Any) -> None:
        self.heard.append((iteration, "checkpoint", checkpoint.path))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.heard.append((iteration, "complete", trial.status, trial.iteration))

    def on_restore(self, iteration: int, trials: Any, **info: Any) -> None:
        self.heard.append((iteration, "drivers", [(trial.trial_id, trial.iteration) for trial in trials]))

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        self.heard.append(("end", trials[0].status, trials[-1:][0].attempt, len(trials)))


def facts() -> Facts:
    return Facts(path="/e", trainable_name="t", setup={"name": "e"}, resolve=lambda _, values: {"shown": values["x"]})


def tell(*callbacks: tk.Callback, at: int = 0, batch: int = 100) -> None:
    """Tell the story to callbacks of a driver that took over after ``at`` records of it."""
    play, told = Script(), Telling(callbacks, facts())
    waiting: list[Event] = []
    for number, event in enumerate(STORY, start=1):
        if number == at + 1:
            told.catch_up(play.experiment.state)
        play(event)
        told.witness(event, play.experiment.state)
        waiting.append(event)
        if number > at and len(waiting) >= batch:
            told.observe(waiting, play.experiment.state)
            waiting = []
    if at >= len(STORY):
        told.catch_up(play.experiment.state)
    told.observe(waiting, play.experiment.state)
    told.close()


def test_what_a_callback_hears() -> None:
    diary = Diary()
    tell(diary)
    assert diary.heard == [
        (4, "start", "t_00000", {"shown": 0}),
        (5, "result", 1, 1.0),
        (7, "checkpoint", "/e/t_00000/checkpoint_000001"),
        (8, "result", 2, 0.5),
        (9, "recover", "crashed"),
        (10, "restore", 1, range(2, 3)),
        (11, "result", 2, 0.5),
        (12, "complete", "completed", 2),
        ("end", "completed", 2, 1),
    ]
    assert diary.info == {"name": "e"}


@pytest.mark.parametrize("at", range(len(STORY) + 1))
@pytest.mark.parametrize("position", range(len(STORY) + 1))
@pytest.mark.parametrize("batch", [1, 100])
def test_everything_behind_its_position_is_told_whoever_journalled_it(at: int, position: int, batch: int) -> None:
    """Promise 2, for observers: at least once, with numbers that stand for the same record in each driver."""
    diary = Diary(min(position, at))
    tell(diary, at=at, batch=batch)
    assert [heard[0] for heard in diary.heard[:-1]] == [number for number in NUMBERS if number > min(position, at)]
    assert diary.flushed == sorted(diary.flushed)


def test_each_callback_has_its_own_position() -> None:
    diaries = [Diary(0), Diary(None), Diary(7), Diary(8)]
    tell(*diaries, at=9)
    heard = [[one[0] for one in diary.heard[:-1]] for diary in diaries]
    assert heard == [NUMBERS, [10, 11, 12], [8, 9, 10, 11, 12], [9, 10, 11, 12]]


class Vandal(tk.Callback):
    """Spoils what it is given."""

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        result["val"]["loss"] = 0.0
        trial.config.clear()


def test_what_a_callback_is_given_is_a_copy() -> None:
    play, diary = Script(), Diary()
    told = Telling([Vandal(), diary], facts())
    told.catch_up(play.experiment.state)
    for event in [*STORY[:4], row(0, 1, metrics={"loss": 1.0, "val": {"loss": 0.5}})]:
        play(event)
        told.witness(event, play.experiment.state)
    told.observe([], play.experiment.state)
    told.close()
    last = play.trial(0).last
    assert last is not None
    assert last.metrics == {"loss": 1.0, "val": {"loss": 0.5}}


@pytest.mark.parametrize("at", range(len(STORY) + 1))
def test_who_keeps_nothing_hears_what_happens_from_now_on(at: int) -> None:
    diary = Diary(None)
    tell(diary, at=at, batch=1)
    assert [heard[0] for heard in diary.heard[:-1]] == [number for number in NUMBERS if number > at]


def test_a_flush_never_speaks_for_a_record_that_is_told_only_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that takes over may end many trials at once: all of that is one record."""
    monkeypatch.setattr(module, "_CHUNK", 2)
    events: list[Event] = [driver(num_trials=3), capacity(3), suggested(3)]
    for index in range(3):
        events += [started(index), row(index, 1, final=True)]
    play, diary = Script(), Diary(0)
    order: list[str] = []
    diary.flush = lambda number: order.append(f"flush {number}")  # type: ignore[method-assign]
    diary.on_trial_complete = lambda iteration, **info: order.append("complete")  # type: ignore[method-assign]
    told = Telling([diary], facts())
    for event in [*events, driver(2, num_trials=3)]:
        play(event)
        told.witness(event, play.experiment.state)
    told.catch_up(play.experiment.state)
    told.close()
    assert order.count("complete") == 3
    assert order.index("flush 10") == len(order) - 1


def test_a_position_beyond_the_end_is_that_of_another_experiment(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary(99)
    tell(diary, at=5)
    assert diary.heard == []
    assert "has come to record 99, but the journal ends at 5" in caplog.text


@pytest.mark.parametrize("position", ["5", (5,), math.nan, -1, [], 3j])
def test_a_position_that_is_none_costs_only_its_callback(position: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Such as the row that a database answers with."""
    wrong, diary = Diary(position), Diary()
    tell(wrong, diary, at=5)
    assert wrong.heard == []
    assert diary.heard
    (record,) = caplog.records
    assert "the callback Diary raised, and is told nothing more in this run" in record.getMessage()
    assert f"position() must return None or the number of a record, 0 or more, got {position!r}" in caplog.text


def test_numbers_of_libraries_are_positions() -> None:
    diary, other = Diary(np.int64(8)), Diary(8)  # type: ignore[arg-type]  # as a table of records returns it
    tell(diary, other)
    assert diary.heard == other.heard


class Raising(Diary):
    def __init__(self, method: str, error: type[BaseException] = ValueError) -> None:
        super().__init__()
        self.num_raised = 0

        def fail(*args: Any, **info: Any) -> None:
            self.num_raised += 1
            raise error("broken")

        # On the class, where it is looked for.
        self.__class__ = type("Broken", (Raising,), {method: fail})


@pytest.mark.parametrize("method", ["setup", "position", "on_trial_result", "flush", "on_experiment_end"])
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_who_raises_is_told_nothing_more_and_costs_nobody_anything(
    method: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """D17: the sweep is not affected, and it is said once."""
    broken, diary = Raising(method, error), Diary()
    tell(broken, diary, batch=1)
    assert broken.num_raised == 1
    assert len(diary.heard) == len(NUMBERS) + 1
    (record,) = caplog.records
    assert "the callback Broken raised, and is told nothing more in this run" in record.getMessage()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


class Hanging(Diary):
    def __init__(self, gate: threading.Event, method: str) -> None:
        super().__init__()
        self.__class__ = type("Stuck", (Hanging,), {method: lambda *args, **info: gate.wait()})


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait long for what hangs; all others have their time."""
    begin, wait = module._Listener.begin, module._Listener.wait

    def begin_soon(self: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(module, "_SETUP_S", 0.1 if isinstance(self.callback, Hanging) else 120.0)
            begin(self)

    def wait_a_moment(self: Any, timeout_s: float) -> None:
        wait(self, 0.1 if isinstance(self.callback, Hanging) else 120.0)

    monkeypatch.setattr(module._Listener, "begin", begin_soon)
    monkeypatch.setattr(module._Listener, "wait", wait_a_moment)


@pytest.mark.parametrize(
    ("method", "said"),
    [("setup", "has not set itself up within 0.1 s"), ("on_trial_result", "was not done 0.1 s after the end")],
)
def test_who_hangs_is_left_alone(
    method: str,
    said: str,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """D17: nobody waits for it, but for a while at the end."""
    hasten(monkeypatch)
    diary = Diary()
    tell(Hanging(gate, method), diary)
    assert len(diary.heard) == len(NUMBERS) + 1
    assert said in caplog.text


def test_who_falls_far_behind_fills_no_memory(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_MAX_BEHIND", 3)
    hasten(monkeypatch)
    tell(Hanging(gate, "on_trial_start"), batch=1)
    (record,) = caplog.records
    assert "the callback Stuck is more than 3 calls behind" in record.getMessage()


def test_a_long_history_is_no_falling_behind(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Who is given to a sweep that has run for days hears all of it, while the sweep goes on."""
    monkeypatch.setattr(module, "_MAX_BEHIND", 3)
    gate, diary = threading.Event(), Diary(position=0)
    hears = diary.on_trial_start
    monkeypatch.setattr(diary, "on_trial_start", lambda **info: (gate.wait(120), hears(**info)))
    threading.Timer(0.2, gate.set).start()
    tell(diary, at=len(STORY) - 2, batch=1)
    assert len(diary.heard) == len(NUMBERS) + 1
    assert caplog.text == ""


def test_a_bug_in_the_narrator_costs_the_sweep_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    diary = Diary()
    told = Telling([diary], facts())
    monkeypatch.setattr(told._narrator, "tell", lambda *_: 1 / 0)
    play = Script()
    for event in STORY:
        play(event)
        told.witness(event, play.experiment.state)
    told.catch_up(play.experiment.state)
    told.close()
    assert caplog.text.count("ZeroDivisionError") == 1
