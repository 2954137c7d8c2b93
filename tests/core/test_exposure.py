"""What counts as a loss of work, and who is told what trials may expect."""

from __future__ import annotations

import msgspec
import pytest

from tunekit.core.cadence import Outlook
from tunekit.core.commands import Command, LaunchTrial, PublishCheckpoint, TellOutlook
from tunekit.core.events import Event
from tunekit.testing.events import (
    Script,
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
)
from tunekit.types import LossCause


def at(seconds: float, event: Event) -> Event:
    return msgspec.structs.replace(event, at=seconds)


def outlook(play: Script) -> Outlook:
    state = play.experiment.state
    return state.exposure.outlook(state.now)


RUNS = [started(0), at(100.0, row(0, 1))]


@pytest.mark.parametrize(
    "loss",
    [raised(0), *(lost(0, cause=cause) for cause in LossCause if cause is not LossCause.KILLED), preempted(0)],
    ids=lambda event: str(getattr(event, "cause", type(event).__name__)),
)
def test_whatever_makes_a_trial_go_back_is_a_loss(play: Script, loss: Event) -> None:
    play.begin(max_failures=5)
    play(*RUNS, at(200.0, loss))
    assert (outlook(play).losses, outlook(play).spared, outlook(play).uptime_s) == (1.0, 0.0, 200.0)


def test_who_was_warned_in_time_and_saved_its_newest_row_has_lost_nothing(play: Script) -> None:
    play.begin()
    play(*RUNS, *saved(0, 2), preempted(0))
    assert (outlook(play).losses, outlook(play).spared) == (0.0, 1.0)
    play(started(0, 2), *saved(0, 3, 2), row(0, 4, 2), preempted(0, 2))
    assert (outlook(play).losses, outlook(play).spared) == (1.0, 1.0)


def test_a_crash_behind_a_save_is_a_loss_all_the_same(play: Script) -> None:
    """That it came right then was luck; the interval must not grow by it."""
    play.begin(max_failures=5)
    play(*RUNS, *saved(0, 2), lost(0))
    assert outlook(play).losses == 1.0


def test_the_death_of_a_driver_is_a_loss_of_each_trial_that_ran(play: Script) -> None:
    play.begin(num_trials=3)
    play(started(0), started(1), at(50.0, row(0, 1)), at(60.0, driver(2, num_trials=3)))
    assert (outlook(play).losses, outlook(play).uptime_s) == (2.0, 120.0)


@pytest.mark.parametrize(
    "events",
    [
        [returned(0)],
        [raised(0)],
        [lost(0)],
        [raised(0, retryable=False)],
        [raised(0, fatal=True)],
        [interrupted(), halted(0)],
        [row(0, 2, final=True), lost(0)],
    ],
    ids=["returned", "failed", "failed by a crash", "no use", "fatal", "told to stop", "at its end"],
)
def test_an_end_that_costs_nothing_to_repeat_is_none(play: Script, events: list[Event]) -> None:
    play.begin(max_failures=0)
    play(*RUNS, *events)
    assert outlook(play).losses == 0.0
    assert play.experiment.state.exposure.num_running == 0


@pytest.mark.parametrize("failure", [launch_failed(0), restore_failed(0, 1), lost(0, cause=LossCause.NOT_STARTED)])
def test_what_never_ran_has_lost_nothing(play: Script, failure: Event) -> None:
    play.begin(max_failures=5)
    play(at(30.0, failure))
    assert (outlook(play).losses, outlook(play).uptime_s) == (0.0, 0.0)


def test_a_launch_and_each_save_bring_news_to_those_who_want_it(play: Script) -> None:
    (launch,) = play.begin(tells_outlook=True)
    assert launch == LaunchTrial(trial=0, attempt=1, outlook=Outlook())
    commands = play(*RUNS, at(300.0, staged(0, 1, took_s=3.0, blocked_s=0.25)))
    news = Outlook(uptime_s=300.0, blocked_s=0.25, durable_s=3.0)
    assert [type(command) for command in commands] == [PublishCheckpoint, TellOutlook]
    assert commands[1] == TellOutlook(trial=0, attempt=1, outlook=news)
    (again,) = play(published(0, 1), at(400.0, lost(0, cause=LossCause.NODE_LOST)))
    assert isinstance(again, LaunchTrial)
    assert again.outlook == Outlook(uptime_s=400.0, losses=1.0, blocked_s=0.25, durable_s=3.0)


def test_nobody_else_is_told_anything(play: Script) -> None:
    (launch,) = play.begin(max_failures=1)
    assert launch == LaunchTrial(trial=0, attempt=1)
    commands: list[Command] = play(*RUNS, staged(0, 1, took_s=3.0, blocked_s=0.25))
    assert [type(command) for command in commands] == [PublishCheckpoint]
    (again,) = play(published(0, 1), lost(0))
    assert again == LaunchTrial(trial=0, attempt=2, resume_from=1, time_total_s=1.0)


def test_what_was_seen_without_anybody_asking_counts_when_somebody_does(play: Script) -> None:
    """S003-18: the cadence may be changed at each run."""
    play.begin(max_failures=5)
    play(*RUNS, at(900.0, lost(0)))
    play(started(0, 2), at(1000.0, driver(2, num_trials=1, tells_outlook=True)))
    assert outlook(play).losses == 2.0


def test_a_save_at_the_end_says_nothing_about_the_cost_of_others(play: Script) -> None:
    """The trial waits for that one as for no other, and says so with a zero."""
    play.begin()
    play(*RUNS, staged(0, 1, took_s=600.0))
    assert outlook(play).interval_s is None
