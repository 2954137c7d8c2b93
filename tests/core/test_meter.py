"""What trials cost is known at any moment, and so is when they will have cost too much."""

from __future__ import annotations

import math

import pytest
from msgspec import structs

from tunekit.core.commands import EndExperiment, LaunchTrial, StopTrial
from tunekit.core.events import TrialAssigned, TrialStarted, WorkerLost
from tunekit.core.meter import Meter
from tunekit.testing.events import Script, capacity, driver, halted, lost, returned, timer
from tunekit.types import LossCause, Outcome

HOUR_S = 3600.0
PRICES = {"GPU": 2.0, "CPU": 0.5}


def test_what_is_occupied_is_counted_while_it_is() -> None:
    """Each resource by itself, from when a worker came."""
    meter = Meter()
    meter.begin(HOUR_S, {"GPU": 1.0, "CPU": 2.0}, took_s=HOUR_S / 2)
    meter.begin(2 * HOUR_S, {"CPU": 1.0}, took_s=0.0)
    assert meter.cost(2 * HOUR_S, PRICES) == pytest.approx(1.5 * (2.0 + 1.0))
    meter.end(3 * HOUR_S, {"GPU": 1.0, "CPU": 2.0})
    assert meter.cost(5 * HOUR_S, PRICES) == pytest.approx(2.5 * 3.0 + 3 * 0.5)
    meter.end(5 * HOUR_S, {"CPU": 1.0})
    assert meter.held == {}
    assert meter.cost(9 * HOUR_S, PRICES) == pytest.approx(2.5 * 3.0 + 3 * 0.5)
    assert meter.used == pytest.approx({"GPU": 2.5, "CPU": 8.0})


def test_prices_hold_for_what_went_before() -> None:
    """They may be set later, and changed."""
    meter = Meter()
    meter.begin(0.0, {"GPU": 1.0}, took_s=0.0)
    meter.end(HOUR_S, {"GPU": 1.0})
    assert [meter.cost(HOUR_S, prices) for prices in ({}, {"GPU": 3.0}, {"TPU": 9.0})] == [0.0, 3.0, 0.0]


def test_the_moment_is_known_beforehand() -> None:
    """If nothing changes; what is free, or over, never gets there."""
    meter = Meter()
    assert meter.reaches_at(1.0, PRICES) == math.inf
    meter.begin(0.0, {"GPU": 2.0}, took_s=0.0)
    assert meter.reaches_at(2.0, PRICES) == pytest.approx(HOUR_S / 2)
    assert meter.reaches_at(2.0, {"CPU": 1.0}) == math.inf
    meter.end(HOUR_S / 4, {"GPU": 2.0})
    assert meter.reaches_at(2.0, PRICES) == math.inf
    assert meter.reaches_at(1.0, PRICES) == HOUR_S / 4


# -- in the experiment -------------------------------------------------------------------------------------------------


def test_trials_are_paused_when_they_have_cost_enough(play: Script) -> None:
    """S004-11: the run ends with its reason; with more it goes on, and what went before counts."""
    play.begin(num_trials=2, max_cost=3.0, prices={"GPU": 2.0})
    assert play.experiment.next_deadline() is None
    for trial in range(2):
        assert play(started(trial, {"GPU": 0.5, "CPU": 1.0})) == []
    due = play.experiment.next_deadline()
    assert due == pytest.approx(1.5 * HOUR_S, abs=60.0)
    assert due is not None
    paused = play(timer(due))
    assert [(type(command), command.pause) for command in paused if isinstance(command, StopTrial)] == [
        (StopTrial, True)
    ] * 2
    assert play(halted(0)) == []
    [end] = play(halted(1))
    assert isinstance(end, EndExperiment)
    assert (end.outcome, end.error) == (Outcome.MAX_COST, "max_cost is used up: the trials have cost 3 of 3")
    again = play(driver(2, num_trials=2, max_cost=3.0, prices={"GPU": 2.0}))
    assert [command.outcome for command in again if isinstance(command, EndExperiment)] == [Outcome.MAX_COST]
    more = play(driver(3, num_trials=2, max_cost=4.0, prices={"GPU": 2.0}), capacity(2))
    assert [type(command) for command in more] == [LaunchTrial, LaunchTrial]


def test_dearer_resources_of_an_earlier_run_count(play: Script) -> None:
    """Prices are of the script that asks."""
    play.begin()
    play(started(0, {"GPU": 1.0}), timer(2 * HOUR_S))
    [end] = play(driver(2, num_trials=1, max_cost=3.0, prices={"GPU": 2.0}))
    assert isinstance(end, EndExperiment)
    assert end.outcome is Outcome.MAX_COST


def test_what_waits_for_a_place_costs_nothing(play: Script) -> None:
    """Neither before it was ever started nor between two attempts."""
    play.begin(max_cost=1.0, prices={"CPU": 1.0})
    assert play.experiment.next_deadline() is None
    play(timer(10 * HOUR_S), started(0, None))
    play(lost(0, cause=LossCause.PREEMPTED))
    assert play.experiment.state.meter.held == {}
    assert play.experiment.next_deadline() is None


def test_an_attempt_that_fails_to_begin_costs_what_it_took(play: Script) -> None:
    """As soon as it is known what the trial occupies."""
    play.begin(max_cost=10.0, prices={"GPU": 1.0})
    play(started(0, {"GPU": 2.0}), lost(0, cause=LossCause.PREEMPTED))
    before = play.experiment.state.meter.used.get("GPU", 0.0)
    play(timer(HOUR_S), WorkerLost(trial=0, attempt=2, cause=LossCause.PREEMPTED, took_s=HOUR_S))
    assert play.experiment.state.meter.used["GPU"] == pytest.approx(before + 2.0)


def test_what_a_trial_took_that_never_began_is_counted_once_it_does(play: Script) -> None:
    """Nobody knows before what it occupies, so the limit does not see it."""
    play.begin(max_cost=1.5, prices={"GPU": 1.0}, max_failures=-1)
    preempted = WorkerLost(trial=0, attempt=1, cause=LossCause.PREEMPTED, took_s=HOUR_S)
    play(timer(HOUR_S), preempted)
    assert play.experiment.state.meter.cost(HOUR_S, {"GPU": 1.0}) == 0.0
    assert play.experiment.next_deadline() is None
    play(structs.replace(started(0, {"GPU": 1.0}), attempt=2))
    assert play.experiment.state.meter.cost(HOUR_S, {"GPU": 1.0}) == 1.0
    assert play.experiment.next_deadline() == 1.5 * HOUR_S


def test_a_driver_that_dies_while_attempts_are_prepared_has_paid_for_them(play: Script) -> None:
    """As much as it lived to see: from when a worker came, or as long as that says, and not from before the launch."""
    play.begin(max_cost=10.0, prices={"GPU": 1.0})
    play(started(0, {"GPU": 2.0}), lost(0, cause=LossCause.PREEMPTED))
    meter = play.experiment.state.meter
    before = meter.used.get("GPU", 0.0)
    play(TrialAssigned(at=HOUR_S, trial=0, attempt=2), timer(3 * HOUR_S))
    play(structs.replace(driver(2, num_trials=1), at=50 * HOUR_S), capacity(1))
    assert meter.used["GPU"] == pytest.approx(before + 2 * 2.0)
    play(WorkerLost(at=51 * HOUR_S, trial=0, attempt=3, cause=LossCause.PREEMPTED, took_s=9 * HOUR_S))
    assert meter.used["GPU"] == pytest.approx(before + 3 * 2.0)


def test_what_is_occupied_before_it_is_known_what_that_is_is_counted_then(play: Script) -> None:
    play.begin()
    play(TrialAssigned(at=HOUR_S, trial=0, attempt=1), timer(3 * HOUR_S), lost(0, cause=LossCause.PREEMPTED))
    play(structs.replace(started(0, {"GPU": 1.0}), attempt=2, took_s=0.0))
    assert play.experiment.state.meter.used == pytest.approx({"GPU": 2.0})


def test_a_deadline_ends_the_run_and_a_later_one_goes_on(play: Script) -> None:
    """It is the moment of the wall clock that the shell has turned into experiment time."""
    play.begin(deadline_s=20.0)
    assert play.experiment.next_deadline() == 20.0
    assert play(timer(20.0)) == [StopTrial(trial=0, attempt=1, reason="the deadline has come", pause=True)]
    assert play(halted(0)) == [EndExperiment(outcome=Outcome.DEADLINE, error="the deadline has come")]
    assert play(driver(2, num_trials=1, deadline_s=90.0), capacity(1)) == [LaunchTrial(trial=0, attempt=2)]
    assert play(returned(0, 2)) == [EndExperiment(outcome=Outcome.FINISHED)]


def started(trial: int, resources: dict[str, float] | None) -> TrialStarted:
    return TrialStarted(trial=trial, attempt=1, resources=resources)
