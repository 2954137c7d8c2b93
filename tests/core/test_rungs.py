"""A rung counts a trial once, and keeps its first value, however often the trial comes to it."""

from __future__ import annotations

from typing import Any

import pytest

from tunekit.core.commands import Command, ContinueTrial, StopTrial
from tunekit.core.events import Event
from tunekit.schedulers import ASHA
from tunekit.schedulers.asha import ASHAState
from tunekit.testing.events import Script, capacity, driver, lost, raised, row, saved, started

RUNG = 2
SETTINGS: dict[str, Any] = {"metric": "loss", "max_failures": -1}


@pytest.fixture
def play() -> Script:
    """Four trials are on their way to the rung."""
    play = Script(ASHA(grace_period=RUNG, reduction_factor=2, max_t=8))
    play.begin(num_trials=4, **SETTINGS)
    for index in range(4):
        play(started(index), row(index, 1))
    return play


def at_rung(play: Script, trial: int, value: float, attempt: int = 1) -> str:
    """Have a trial report at the rung, and return what it is told."""
    commands = play(row(trial, RUNG, attempt, metrics={"loss": value}))
    return verdict(commands)


def verdict(commands: list[Command]) -> str:
    (said,) = [command for command in commands if isinstance(command, ContinueTrial | StopTrial)]
    return "goes on" if isinstance(said, ContinueTrial) else "ends"


def recorded(play: Script) -> int:
    state = play.experiment.state.scheduler
    assert isinstance(state, ASHAState)
    return state._stages[0][RUNG].rung.num_recorded


WAYS: dict[str, list[Event]] = {
    "its worker is lost": [lost(0)],
    "it raises": [raised(0)],
    "the driver dies": [
        driver(2, num_trials=4, ask_batch=4, **SETTINGS),
        capacity(4),
        *(started(index, 2) for index in range(1, 4)),
    ],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("again", [0.5, 0.1, 9.9, float("nan")])
def test_a_trial_that_comes_to_a_rung_again_is_counted_once(play: Script, way: str, again: float) -> None:
    """Also if it reports another value there: the first one stands, and nobody else is judged by the other."""
    assert at_rung(play, 0, 0.5) == "goes on"
    play(*WAYS[way])
    attempt = 1 if way != "the driver dies" else 2
    play(started(0, 2), row(0, 1, 2))
    assert at_rung(play, 0, again, attempt=2) == "goes on"
    assert recorded(play) == 1
    assert at_rung(play, 1, 0.6, attempt) == "ends"
    assert at_rung(play, 2, 0.4, attempt) == "goes on"
    assert recorded(play) == 3
    play.replay()


def test_a_row_that_is_delivered_twice_is_counted_once(play: Script) -> None:
    at_rung(play, 0, 0.5)
    assert play(row(0, RUNG, metrics={"loss": 0.1})) == []
    assert recorded(play) == 1


def test_a_trial_that_was_to_end_there_ends_there_again(play: Script) -> None:
    """Its worker died before it had stopped, with a checkpoint of the rung that it is to save still owed."""
    play(driver(2, num_trials=4, saves_at_end=True, **SETTINGS), capacity(4))
    play(*(event for index in range(4) for event in [started(index, 2), *saved(index, 1, 2)]))
    assert at_rung(play, 0, 0.5, 2) == "goes on"
    assert at_rung(play, 1, 0.7, 2) == "ends"
    play(lost(1, 2), started(1, 3, restored_from=1))
    assert at_rung(play, 1, 0.1, 3) == "ends"
    assert recorded(play) == 2
