"""Replay is the core once more; a core that decides otherwise than the journal says is found out."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.codec import Record
from tunekit.core.commands import AskSearcher, Command, LaunchTrial, TellSearcher
from tunekit.core.events import DriverStarted, Event, ResultReported, Settings, TimerFired, TrialReturned
from tunekit.errors import ReplayMismatchError
from tunekit.journal.replay import Replay, replay


class FakeCore:
    """Decides by what it has seen, so that order and loss of events show in its commands."""

    def __init__(self) -> None:
        self.seen = 0

    def handle(self, event: Event) -> list[Command]:
        self.seen += 1
        match event:
            case DriverStarted():
                return [AskSearcher(first=self.seen, count=1), AskSearcher(first=self.seen, count=2)]
            case ResultReported():
                return [LaunchTrial(trial=self.seen, attempt=event.iteration)]
            case TrialReturned():
                return [TellSearcher(trial=self.seen, metrics={"loss": math.nan})] * event.trial
        return []


def started(generation: int = 1) -> DriverStarted:
    return DriverStarted(generation=generation, settings=Settings())


def row(iteration: int = 1) -> ResultReported:
    return ResultReported(trial=0, attempt=1, iteration=iteration, metrics={})


def returned(num_commands: int) -> TrialReturned:
    return TrialReturned(trial=num_commands, attempt=1)


def recorded(*drivers: list[list[Event]], lost: bool) -> list[Record]:
    """Return the journal of drivers, given by their turns, each killed before its last commands were durable."""
    core = FakeCore()
    journal: list[Record] = []
    for turns in drivers:
        for number, events in enumerate(turns):
            journal += events
            commands = [command for event in events for command in core.handle(event)]
            if number < len(turns) - 1 or not lost:
                journal += commands
    return journal


def test_events_and_commands_of_a_whole_journal_are_counted() -> None:
    journal = recorded([[started()], [row(), TimerFired(), row()], [returned(2)]], lost=False)
    assert replay(journal, FakeCore().handle) == Replay(num_events=5, num_commands=6, unrecorded=())


def test_commands_of_the_last_turn_may_be_missing_at_the_end() -> None:
    journal = recorded([[started()], [row(1), row(2)]], lost=True)
    assert replay(journal, FakeCore().handle) == Replay(
        num_events=3,
        num_commands=2,
        unrecorded=(LaunchTrial(trial=2, attempt=1), LaunchTrial(trial=3, attempt=2)),
    )


def test_commands_that_died_with_a_driver_are_not_missed_later() -> None:
    journal = recorded([[started(1)]], [[started(2)], [row()]], [[started(3)], [row()], [row()]], lost=True)
    assert replay(journal, FakeCore().handle).num_commands == 2 + 2 + 1


TURNS: st.SearchStrategy[list[list[Event]]] = st.lists(
    st.lists(st.one_of(st.builds(row, st.integers(1, 3)), st.builds(returned, st.integers(0, 3))), min_size=1)
)


Drivers = list[list[list[Event]]]


@given(drivers=st.lists(TURNS, min_size=1, max_size=4), lost=st.sampled_from([True, False]))
def test_any_journal_that_drivers_leave_replays(drivers: Drivers, *, lost: bool) -> None:
    all_turns: Drivers = [[[started(number)], *turns] for number, turns in enumerate(drivers, start=1)]
    journal = recorded(*all_turns, lost=lost)
    core = FakeCore()
    found = replay(journal, core.handle)
    assert found.num_events == core.seen == sum(len(events) for turns in all_turns for events in turns)
    assert found.num_events + found.num_commands == len(journal)


@given(drivers=st.lists(TURNS, min_size=1, max_size=3), lost=st.sampled_from([True, False]), data=st.data())
def test_a_command_that_is_lost_alone_is_missed(drivers: Drivers, *, lost: bool, data: st.DataObject) -> None:
    """Some turns give two commands or more; the loss of one of them, and not of all, is found."""
    two = returned(2)
    all_turns: Drivers = [[[started(number)], [two], *turns, [two]] for number, turns in enumerate(drivers, start=1)]
    journal = recorded(*all_turns, lost=lost)
    places = [
        place
        for place in range(1, len(journal))
        if isinstance(journal[place], Command) and isinstance(journal[place - 1], Command)
    ]
    del journal[data.draw(st.sampled_from(places))]
    with pytest.raises(ReplayMismatchError):
        replay(journal, FakeCore().handle)


def test_a_mismatch_shows_both_sides_and_the_event() -> None:
    journal = recorded([[started()], [row()], [row(2)]], lost=False)
    journal[4] = LaunchTrial(trial=99, attempt=1)
    with pytest.raises(ReplayMismatchError) as caught:
        replay(journal, FakeCore().handle)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.number, error.event) == (4, row())
    assert (error.recorded, error.computed) == (LaunchTrial(trial=99, attempt=1), LaunchTrial(trial=2, attempt=1))
    for shown in ("record 4", "trial=99", "trial=2", "ResultReported"):
        assert shown in str(error)


def test_a_command_that_the_core_does_not_give_is_a_mismatch() -> None:
    with pytest.raises(ReplayMismatchError, match="computed: nothing") as caught:
        replay([started(), *FakeCore().handle(started()), AskSearcher(first=0, count=7)], FakeCore().handle)
    assert caught.value.fields["event"] == started()
    with pytest.raises(ReplayMismatchError, match=r"event: *nothing"):
        replay([AskSearcher(first=0, count=7)], FakeCore().handle)


def test_a_core_that_gives_one_command_more_is_a_mismatch_at_the_next_event() -> None:
    journal: list[Record] = [started(), AskSearcher(first=1, count=1)]
    more: list[Record] = [TimerFired()]
    for rest in (more, []):
        with pytest.raises(ReplayMismatchError) as caught:
            replay([*journal, *rest], FakeCore().handle)
        assert caught.value.fields["computed"] == AskSearcher(first=1, count=2)


def test_nan_in_a_command_is_equal_to_nan() -> None:
    journal: list[Record] = [returned(1), TellSearcher(trial=1, metrics={"loss": float("nan")})]
    assert replay(journal, FakeCore().handle).num_commands == 1
