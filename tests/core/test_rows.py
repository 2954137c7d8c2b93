"""The table of results: supersession, fencing, and agreement with the core."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.commands import Command, LaunchTrial
from tunekit.core.events import (
    CapacityChanged,
    Draw,
    DriverStarted,
    ErrorInfo,
    Event,
    LaunchFailed,
    Place,
    RestoreFailed,
    ResultReported,
    Settings,
    TrialHalted,
    TrialRaised,
    TrialReturned,
    TrialsSuggested,
    TrialStarted,
    WorkerLost,
)
from tunekit.core.experiment import Experiment
from tunekit.core.rows import RowTable, end_of, knows_last
from tunekit.core.trial import TrialState
from tunekit.schedulers import FIFO
from tunekit.types import LossCause, TrialStatus

_OOPS = ErrorInfo(type="ValueError", message="oops")


def _launch(attempt: int, resume_from: int | None = None, trial: int = 0) -> LaunchTrial:
    return LaunchTrial(trial=trial, attempt=attempt, resume_from=resume_from)


def _rows(attempt: int, *iterations: int, trial: int = 0) -> list[Any]:
    return [
        ResultReported(trial=trial, attempt=attempt, iteration=at, metrics={"x": at / 10, "by": attempt})
        for at in iterations
    ]


def _lost(attempt: int, trial: int = 0) -> WorkerLost:
    return WorkerLost(trial=trial, attempt=attempt, cause=LossCause.CRASHED)


def _state(
    status: TrialStatus, attempt: int, last: ResultReported | None = None, resume_from: int | None = None
) -> TrialState:
    return TrialState(trial=0, draw=Draw(), status=status, attempt=attempt, last=last, resume_from=resume_from)


def _shown(table: RowTable, state: TrialState) -> dict[int, int]:
    """Return iteration → attempt of the rows that count."""
    rows = table.rows(state)
    assert [row.iteration for row in rows] == sorted({row.iteration for row in rows})
    return {row.iteration: row.attempt for row in rows}


_FIRST: list[Event | Command] = [_launch(1), *_rows(1, 1, 2, 3, 4), _lost(1)]
_REWOUND: list[Event | Command] = [*_FIRST, _launch(2, resume_from=2), *_rows(2, 3)]
"""A trial that came to 4, fell back to its checkpoint at 2, and is at 3 again."""


@pytest.mark.parametrize("status", [TrialStatus.RUNNING, TrialStatus.PENDING, TrialStatus.PAUSED, TrialStatus.FAILED])
def test_rows_stay_until_a_later_attempt_replaces_them(status: TrialStatus) -> None:
    """S003-12: the history shows each iteration once."""
    table = RowTable(_REWOUND)
    assert _shown(table, _state(status, 2, _rows(2, 3)[0], 2)) == {1: 1, 2: 1, 3: 2, 4: 1}


@pytest.mark.parametrize("status", [TrialStatus.COMPLETED, TrialStatus.STOPPED])
def test_a_trial_that_came_to_its_end_has_no_rows_beyond_it(status: TrialStatus) -> None:
    table = RowTable(_REWOUND)
    assert _shown(table, _state(status, 2, _rows(2, 3)[0], 2)) == {1: 1, 2: 1, 3: 2}


@pytest.mark.parametrize(
    ("state", "end"),
    [
        (_state(TrialStatus.COMPLETED, 2, _rows(2, 3)[0], 2), 3),
        (_state(TrialStatus.COMPLETED, 2, _rows(1, 4)[0], 2), 2),
        (_state(TrialStatus.STOPPED, 2, _rows(1, 4)[0], None), 0),
        (_state(TrialStatus.COMPLETED, 1), 0),
        (_state(TrialStatus.FAILED, 2, _rows(1, 4)[0], 2), None),
        (_state(TrialStatus.RUNNING, 2, _rows(1, 4)[0], 2), None),
        (_state(TrialStatus.PENDING, 0), None),
    ],
)
def test_a_trial_ends_with_its_last_attempt(state: TrialState, end: int | None) -> None:
    assert end_of(state) == end


@pytest.mark.parametrize(
    ("state", "known"),
    [
        (_state(TrialStatus.RUNNING, 1, _rows(1, 4)[0]), True),
        (_state(TrialStatus.FAILED, 1), True),
        (_state(TrialStatus.FAILED, 2, _rows(1, 4)[0], 2), True),
        (_state(TrialStatus.FAILED, 2, _rows(2, 3)[0], 2), False),
        (_state(TrialStatus.COMPLETED, 2, _rows(2, 3)[0], 2), True),
        (_state(TrialStatus.COMPLETED, 2, _rows(1, 4)[0], 2), False),
        (_state(TrialStatus.COMPLETED, 2, _rows(1, 4)[0], 4), True),
        (_state(TrialStatus.STOPPED, 3, _rows(2, 3)[0], 5), False),
    ],
)
def test_the_newest_row_is_not_always_the_last_one(state: TrialState, known: bool) -> None:  # noqa: FBT001
    assert knows_last(state) == known


@pytest.mark.parametrize(
    "ending",
    [
        _lost(1),
        TrialRaised(trial=0, attempt=1, error=_OOPS),
        TrialHalted(trial=0, attempt=1),
        TrialReturned(trial=0, attempt=1),
        LaunchFailed(trial=0, attempt=1, error=_OOPS),
        RestoreFailed(trial=0, attempt=1, iteration=3, error=_OOPS),
        DriverStarted(generation=2, settings=Settings()),
        _launch(2),
    ],
)
def test_a_late_word_of_an_ended_attempt_is_void(ending: Event | Command) -> None:
    """Rule 6: fencing is by attempt, whatever made the attempt end."""
    table = RowTable([_launch(1), *_rows(1, 1, 2), ending, *_rows(1, 3)])
    assert _shown(table, _state(TrialStatus.RUNNING, 2)) == {1: 1, 2: 1}


def test_an_ending_of_another_attempt_or_trial_ends_nothing() -> None:
    table = RowTable([_launch(2), _lost(1), _lost(3), _lost(2, trial=1), *_rows(2, 1)])
    assert _shown(table, _state(TrialStatus.RUNNING, 2)) == {1: 2}


def test_an_attempt_that_was_never_launched_has_no_rows() -> None:
    table = RowTable([*_rows(1, 1), _launch(1), *_rows(2, 1), *_rows(0, 1)])
    assert _shown(table, _state(TrialStatus.RUNNING, 1)) == {}
    assert RowTable().rows(_state(TrialStatus.PENDING, 0)) == []


def test_a_row_that_is_sent_twice_counts_once() -> None:
    """Within an attempt the first one stands: iterations only grow."""
    first, again = _rows(1, 2)[0], ResultReported(trial=0, attempt=1, iteration=2, metrics={"x": 9})
    table = RowTable([_launch(1), *_rows(1, 1), first, again, *_rows(1, 1)])
    assert table.rows(_state(TrialStatus.RUNNING, 1)) == [*_rows(1, 1), first]
    assert table.rewritten == []


def test_a_different_outcome_of_a_repeated_row_is_noted() -> None:
    def row(attempt: int, at: int, **metrics: Any) -> ResultReported:
        return ResultReported(trial=0, attempt=attempt, iteration=at, metrics=metrics)

    before = [row(1, 1, x=0.1), row(1, 2, x=math.nan), row(1, 3, x=0.3)]
    after = [row(2, 1, x=0.1), row(2, 2, x=math.nan), row(2, 3, x=0.4)]
    table = RowTable([_launch(1), *before, _lost(1), _launch(2), *after])
    assert table.rewritten == [(before[2], after[2], ["x"])]


def test_the_place_is_that_of_the_attempt() -> None:
    here, there = Place(pid=1, hostname="here"), Place(pid=2, hostname="there")
    first: list[Event | Command] = [_launch(1), TrialStarted(trial=0, attempt=1, place=here), *_rows(1, 1, 2), _lost(1)]
    late: list[Event | Command] = [TrialStarted(trial=0, attempt=1, place=there), _launch(2, resume_from=1)]
    second: list[Event | Command] = [TrialStarted(trial=0, attempt=2, restored_from=1, place=there), *_rows(2, 2)]
    table = RowTable(first + late + second)
    rows = table.rows(_state(TrialStatus.RUNNING, 2))
    assert [table.place(row) for row in rows] == [here, there]
    assert table.place(_rows(1, 1, trial=5)[0]) == Place()


_attempts = st.integers(1, 4)
_words: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        lambda attempt, at, x: ResultReported(trial=0, attempt=attempt, iteration=at, metrics={"x": x}),
        _attempts,
        st.integers(1, 6),
        st.integers(0, 9),
    ),
    st.builds(lambda attempt: TrialStarted(trial=0, attempt=attempt), _attempts),
    st.builds(_lost, _attempts),
    st.builds(lambda attempt: TrialRaised(trial=0, attempt=attempt, error=_OOPS), _attempts),
    st.builds(lambda attempt: TrialHalted(trial=0, attempt=attempt), _attempts),
    st.builds(lambda attempt: TrialReturned(trial=0, attempt=attempt), _attempts),
    st.just(DriverStarted(generation=0, settings=Settings())),
)


@given(st.lists(_words, max_size=25))
def test_the_table_counts_what_the_core_took_in(words: list[Event]) -> None:
    """Any words in any order: the rows are those that the core accepted, the newest attempt of each iteration."""
    settings = Settings(num_trials=1, max_failures=-1)
    core = Experiment(FIFO())
    table = RowTable()
    model: dict[int, ResultReported] = {}
    generation = 1
    start: list[Event] = [
        DriverStarted(generation=1, settings=settings),
        CapacityChanged(max_live=1),
        TrialsSuggested(draws=[Draw()]),
    ]
    for word in start + words:
        event = word
        if isinstance(word, DriverStarted) and word.generation == 0:
            generation += 1
            event = DriverStarted(generation=generation, settings=settings)
        turn: list[Event] = [event, CapacityChanged(max_live=1)] if isinstance(event, DriverStarted) else [event]
        for fact in turn:
            commands = core.handle(fact)
            table.apply(fact)
            for command in commands:
                table.apply(command)
            trials = core.state.trials
            if trials and trials[0].last is fact:
                model[trials[0].last.iteration] = trials[0].last
    trial = core.state.trials[0]
    if trial.status in {TrialStatus.COMPLETED, TrialStatus.STOPPED}:
        last = max((row.iteration for row in model.values() if row.attempt == trial.attempt), default=0)
        model = {at: row for at, row in model.items() if at <= last}
    rows = table.rows(trial)
    assert rows == [model[at] for at in sorted(model)]
    if knows_last(trial):
        assert rows[-1:] == ([] if trial.last is None else [trial.last])


def test_a_hundred_thousand_rows_fold_in_a_moment() -> None:
    table = RowTable()
    for trial in range(100):
        table.apply(_launch(1, trial=trial))
        for at in range(1, 1001):
            table.apply(ResultReported(trial=trial, attempt=1, iteration=at, metrics={"x": at}))
    state = TrialState(trial=99, draw=Draw(), status=TrialStatus.RUNNING, attempt=1)
    assert len(table.rows(state)) == 1000
