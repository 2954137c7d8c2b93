"""What callbacks are told of the journal: all that counts, once, and the same whenever it is told."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.callbacks.narrator import Happening, Narrator
from tunekit.core.commands import Command
from tunekit.core.events import Event
from tunekit.core.experiment import Experiment
from tunekit.core.rows import RowTable
from tunekit.core.state import State
from tunekit.schedulers import ASHA, FIFO
from tunekit.testing.events import (
    Script,
    capacity,
    driver,
    halted,
    interrupted,
    launch_failed,
    lost,
    preempted,
    published,
    raised,
    restore_failed,
    returned,
    row,
    saved,
    staged,
    started,
    started_over,
    suggested,
)
from tunekit.testing.strategies import experiment_events, found_events, trial_events
from tunekit.types import LossCause, StartOver


class Told:
    """A core that is played events, and what is told of them."""

    def __init__(self, **settings: Any) -> None:
        self.play = Script()
        self.narrator = Narrator()
        begin: list[Event] = [driver(num_trials=1, **settings), capacity(1), suggested(1)]
        for event in begin:
            self(event)

    def __call__(self, *events: Event) -> list[tuple[Any, ...]]:
        """Play the events, and return what is told of them: each method with what matters."""
        told: list[Happening] = []
        for event in events:
            self.play(event)
            told += self.narrator.tell(event, self.play.experiment.state)
        return [_short(one) for one in told]


def _short(one: Happening) -> tuple[Any, ...]:
    more = [one.row.iteration] if one.row is not None else list(one.info.values())
    return (one.method.removeprefix("on_"), *more)


def test_the_life_of_a_trial() -> None:
    told = Told(max_failures=1)
    assert told(started(0), row(0, 1)) == [("trial_start",), ("trial_result", 1)]
    assert told(*saved(0, 2)) == [("trial_result", 2), ("checkpoint", 2)]
    assert told(row(0, 3), lost(0)) == [("trial_result", 3), ("trial_recover", "crashed")]
    assert told(started(0, 2, restored_from=2)) == [("trial_restore", 2, range(3, 4))]
    assert told(row(0, 3, 2), returned(0, 2)) == [("trial_result", 3), ("trial_complete",)]
    assert told(capacity(2)) == []
    assert told.narrator.number == len(told.play.history)


def test_a_trial_that_fails_for_good() -> None:
    assert Told()(started(0), raised(0)) == [("trial_start",), ("trial_error", "ValueError: bad")]


def test_a_preemption_is_one_of_the_ways_to_be_lost() -> None:
    told = Told()
    assert told(started(0), preempted(0)) == [("trial_start",), ("trial_recover", "preempted: SIGTERM")]


def test_a_pause_and_the_next_driver() -> None:
    told = Told()
    assert told(started(0), *saved(0, 1), interrupted(), halted(0))[-1] == ("trial_pause",)
    assert told(driver(2, num_trials=1), capacity(1)) == [("restore",)]
    assert told(started(0, 2, restored_from=1)) == [("trial_restore", 1, range(2, 2))]


def test_the_first_driver_takes_over_from_nobody() -> None:
    play, narrator = Script(), Narrator()
    play(driver(5, num_trials=1))
    assert narrator.tell(driver(5, num_trials=1), play.experiment.state) == []


def test_what_a_driver_takes_over_may_be_at_its_end() -> None:
    """A trial whose last row is recorded is complete, though its worker never came to say so."""
    told = Told()
    told(started(0), row(0, 1, final=True))
    assert told(driver(2, num_trials=1)) == [("restore",), ("trial_complete",)]


def test_a_late_word_is_not_told() -> None:
    told = Told(max_failures=5)
    told(started(0), row(0, 1), lost(0), started(0, 2))
    assert told(row(0, 2), staged(0, 2), lost(0), started(0), returned(0)) == []
    assert told(row(0, 1, 2), row(0, 1, 2)) == [("trial_result", 1)]


def test_a_worker_that_never_began_is_nobody_s_news() -> None:
    told = Told(max_failures=5)
    assert told(lost(0, cause=LossCause.NOT_STARTED)) == []
    assert told(started(0, 2)) == [("trial_start",)]


def test_rows_that_a_trial_has_lost_are_named_once() -> None:
    told = Told(max_failures=9)
    told(started(0), *saved(0, 2), *[row(0, at) for at in (3, 4, 5, 6)], lost(0))
    assert told(started(0, 2, restored_from=2)) == [("trial_restore", 2, range(3, 7))]
    told(row(0, 3, 2), lost(0, 2))
    assert told(started(0, 3, restored_from=2)) == [("trial_restore", 2, range(3, 4))]
    told(lost(0, 3))
    assert told(started(0, 4, restored_from=2)) == [("trial_restore", 2, range(3, 3))]
    assert told(restore_failed(0, 2, 4)) == [("trial_recover", "crashed")]


@pytest.mark.parametrize(("sign", "expected"), [(StartOver.UNOPENED, [range(1, 3)]), (StartOver.UNREAD, [])])
def test_a_function_that_counts_from_1_again_loses_all_of_its_rows(sign: StartOver, expected: list[range]) -> None:
    told = Told(max_failures=9)
    told(started(0), *saved(0, 2), lost(0), started(0, 2, restored_from=2))
    assert [superseded for _, _, superseded in told(started_over(0, 2, 2, sign))] == expected


def test_a_failure_checkpoint_is_no_checkpoint_to_go_on_from() -> None:
    told = Told(max_failures=1)
    told(started(0), row(0, 1))
    assert told(staged(0, 1, exact=False), raised(0), published(0, 1, exact=False))[1:] == []


# -- any history -------------------------------------------------------------------------------------------------------


@cache
def said(trial: int, attempt: int) -> st.SearchStrategy[Event]:
    return trial_events(trial, attempt) | found_events(trial, attempt)


@cache
def said_of_all() -> st.SearchStrategy[Event]:
    return experiment_events()


def history(scheduler: Any, data: st.DataObject) -> tuple[Experiment, list[tuple[Event, list[Command]]]]:
    """Return an experiment that anything may have happened to, and all of it."""
    play = Script(scheduler)
    play(driver(num_trials=3, max_failures=3, metric="loss"), capacity(2), suggested(3))
    generation = 1
    for _ in range(data.draw(st.integers(5, 40), label="events")):
        if data.draw(st.integers(0, 9), label="kind") == 0:
            generation += 1
            play(driver(generation, num_trials=3, max_failures=3, metric="loss"), capacity(2))
        elif data.draw(st.integers(0, 9)) == 0:
            play(data.draw(said_of_all()))
        else:
            trials = play.experiment.state.trials
            index = data.draw(st.integers(0, len(trials) - 1), label="trial")
            about = (index, data.draw(st.integers(max(1, trials[index].attempt - 1), max(1, trials[index].attempt))))
            play(data.draw(said(*about)))
    return play.experiment, play.history


def narrate(scheduler: Any, events: list[Event]) -> list[Happening]:
    narrator, experiment = Narrator(), Experiment(scheduler)
    told = []
    for event in events:
        experiment.handle(event)
        told += narrator.tell(event, experiment.state)
    return told


def kept(told: list[Happening], state: State) -> list[dict[int, Any]]:
    """Return the rows that somebody has who puts each where it belongs, and cuts off what trials have lost."""
    tables: list[dict[int, Any]] = [{} for _ in state.trials]
    for one in told:
        if one.row is not None:
            tables[one.row.trial][one.row.iteration] = one.row
        elif one.method == "on_trial_complete" and one.trial is not None and one.seen is not None:
            cut = one.seen.iteration
            tables[one.trial] = {at: row for at, row in tables[one.trial].items() if at <= cut}
    return tables


def test_rows_of_an_attempt_that_failed_to_launch_are_no_rows() -> None:
    """Even if it had said that it began: the core and whoever reads the journal draw the line at the same place."""
    told = Told(max_failures=9)
    told(started(0), launch_failed(0))
    assert told(row(0, 1)) == []


@settings(max_examples=40)
@given(st.data(), st.sampled_from([FIFO(), ASHA(max_t=4, reduction_factor=2)]))
def test_whoever_follows_has_the_results(data: st.DataObject, scheduler: Any) -> None:
    """Promise 2: from what is told comes the very table that the journal's readers see, each iteration once."""
    experiment, played = history(scheduler, data)
    told = narrate(scheduler, [event for event, _ in played])
    assert [one.number for one in told] == sorted(one.number for one in told)
    assert told == narrate(scheduler, [event for event, _ in played])
    table = RowTable(record for event, commands in played for record in [event, *commands])
    expected = [{row.iteration: row for row in table.rows(trial)} for trial in experiment.state.trials]
    assert kept(told, experiment.state) == expected
