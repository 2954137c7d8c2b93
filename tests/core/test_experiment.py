"""The experiment as a whole: launching, asking, winding up, ending, and taking over from a dead driver."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tunekit.core.commands import (
    AskSearcher,
    ContinueTrial,
    EndExperiment,
    InterruptTrial,
    KillTrial,
    LaunchTrial,
    StopTrial,
    TellSearcher,
)
from tunekit.core.decisions import Continue, Decision
from tunekit.core.events import CheckpointPublished, StopCriterionFailed, TrialHalted
from tunekit.core.experiment import Experiment
from tunekit.errors import CoreBugError, InvalidTransitionError
from tunekit.testing.events import (
    ERROR,
    Script,
    capacity,
    driver,
    halted,
    interrupted,
    lost,
    published,
    raised,
    returned,
    row,
    saved,
    searcher_failed,
    staged,
    started,
    suggested,
    timer,
)
from tunekit.types import LossCause, Mode, Outcome, TrialStatus

FINISHED = EndExperiment(outcome=Outcome.FINISHED)


# -- asking and launching ----------------------------------------------------------------------------------------------


def test_nothing_is_asked_for_before_there_is_room(play: Script) -> None:
    assert play(driver(num_trials=2)) == []
    assert play(capacity(1)) == [AskSearcher(first=0, count=1)]


def test_configurations_are_asked_for_in_batches(play: Script) -> None:
    play(driver(num_trials=5, ask_batch=3))
    assert play(capacity(2)) == [AskSearcher(first=0, count=3)]
    assert play(suggested(3)) == [LaunchTrial(trial=0, attempt=1), LaunchTrial(trial=1, attempt=1)]
    assert play(returned(0)) == [LaunchTrial(trial=2, attempt=1)]
    assert play(returned(1)) == [AskSearcher(first=3, count=2)]
    assert play(suggested(2)) == [LaunchTrial(trial=3, attempt=1)]


def test_a_searcher_that_learns_is_asked_for_what_fits_and_told_each_end(play: Script) -> None:
    play(driver(num_trials=3, searcher_learns=True, ask_batch=100))
    assert play(capacity(2)) == [AskSearcher(first=0, count=2)]
    play(suggested(2), started(0), row(0, 1))
    assert play(returned(0)) == [TellSearcher(trial=0, metrics={"loss": 1.0}), AskSearcher(first=2, count=1)]
    assert play(raised(1)) == [TellSearcher(trial=1, failed=True)]


def test_a_searcher_without_a_suggestion_is_asked_again_when_a_trial_has_ended(play: Script) -> None:
    play(driver(num_trials=3, searcher_learns=True), capacity(2), suggested(1))
    assert play(suggested(0)) == []
    assert play(row(0, 1)) == []
    assert play(returned(0))[1:] == [AskSearcher(first=1, count=2)]


def test_a_trial_between_two_attempts_counts_as_one_that_will_end(play: Script) -> None:
    """An empty answer while the only trial waits for its checkpoint to be published does not exhaust the search."""
    play(driver(num_trials=3, searcher_learns=True, max_failures=1), capacity(2), suggested(1))
    play(row(0, 1), staged(0, 1), lost(0))
    assert play(suggested(0)) == []
    assert play(published(0, 1)) == [LaunchTrial(trial=0, attempt=2, resume_from=1, time_total_s=1.0)]
    assert play(returned(0, 2))[1:] == [AskSearcher(first=1, count=2)]


def test_an_empty_answer_with_nothing_under_way_exhausts_the_search(play: Script) -> None:
    play(driver(num_trials=5, ask_batch=5), capacity(2))
    assert play(suggested(0)) == [FINISHED]


def test_an_exhausted_space_ends_the_sweep_early(play: Script) -> None:
    play(driver(num_trials=None, ask_batch=4), capacity(4))
    assert play(suggested(1, exhausted=True)) == [LaunchTrial(trial=0, attempt=1)]
    assert play(returned(0)) == [FINISHED]


def test_an_answer_that_nobody_waits_for_is_ignored(play: Script) -> None:
    play.begin(num_trials=1)
    assert play(suggested(1)) == []
    assert len(play.experiment.state.trials) == 1
    assert play.experiment.state.num_stale == 1


def test_a_searcher_that_suggests_too_much_gets_no_more_trials_than_are_wanted(play: Script) -> None:
    play(driver(num_trials=2, ask_batch=2), capacity(4))
    assert play(suggested(3)) == [LaunchTrial(trial=0, attempt=1), LaunchTrial(trial=1, attempt=1)]
    assert play(returned(0), returned(1)) == [FINISHED]


def test_more_room_launches_more_and_less_room_stops_nobody(play: Script) -> None:
    play.begin(num_trials=3, max_live=1)
    assert play(capacity(2)) == [LaunchTrial(trial=1, attempt=1)]
    assert play(capacity(0)) == []
    assert play(returned(0)) == []
    assert play(capacity(2)) == [LaunchTrial(trial=2, attempt=1)]


def test_retries_come_before_new_trials_and_earlier_trials_first(play: Script) -> None:
    play.begin(num_trials=4, max_live=2, max_failures=-1)
    assert play(lost(1)) == [LaunchTrial(trial=1, attempt=2)]
    play(capacity(0), lost(1, 2), lost(0))
    assert play(capacity(2)) == [LaunchTrial(trial=0, attempt=2), LaunchTrial(trial=1, attempt=3)]


def test_a_searcher_that_fails_lets_running_trials_end_in_peace(play: Script) -> None:
    play(driver(num_trials=3), capacity(2), suggested(1))
    assert play(searcher_failed()) == []
    assert play(row(0, 1)) == []
    error = "the searcher failed: ValueError: bad"
    assert play(returned(0)) == [EndExperiment(outcome=Outcome.ERROR, error=error)]


def test_after_a_failure_of_the_searcher_the_next_driver_asks_again(play: Script) -> None:
    play(driver(num_trials=1), capacity(1), searcher_failed(), driver(2, num_trials=1))
    assert play(capacity(1)) == [AskSearcher(first=0, count=1)]
    assert play(suggested(1), returned(0)) == [FINISHED]


# -- horizons ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Every:
    """A scheduler that lets every trial go on, and asks at each ``step``-th iteration."""

    step: int
    needs_metric: bool = False

    def begin(self, mode: Mode) -> Every:
        return self

    def identity(self) -> dict[str, object]:
        return {}

    def horizon(self, trial: int, iteration: int) -> int:
        return iteration + self.step

    def decide(self, trial: int, iteration: int, value: float | None) -> Decision:
        return Continue(until=iteration + self.step)


def test_the_first_horizon_travels_with_the_launch() -> None:
    play = Script(Every(3))
    assert play.begin() == [LaunchTrial(trial=0, attempt=1, until=3)]
    assert play(started(0), row(0, 1)) == []
    assert play(row(0, 2)) == []
    assert play(row(0, 3)) == [ContinueTrial(trial=0, attempt=1, until=6)]
    play.replay()


def test_a_restored_trial_is_asked_at_the_next_horizon() -> None:
    play = Script(Every(3))
    play.begin(max_failures=1)
    play(*saved(0, 1), row(0, 2), row(0, 3))
    again = LaunchTrial(trial=0, attempt=2, resume_from=1, until=4, time_total_s=1.0)
    assert play(lost(0)) == [again]


def test_when_the_driver_judges_each_result_no_horizon_is_further_than_one() -> None:
    play = Script(Every(3))
    assert play.begin(asks_every_result=True, max_failures=1) == [LaunchTrial(trial=0, attempt=1, until=1)]
    assert play(row(0, 1)) == [ContinueTrial(trial=0, attempt=1, until=2)]
    play(staged(0, 1), published(0, 1))
    assert play(lost(0)) == [LaunchTrial(trial=0, attempt=2, resume_from=1, until=2, time_total_s=1.0)]
    assert play(row(0, 2, 2)) == [ContinueTrial(trial=0, attempt=2, until=3)]
    stop = StopTrial(trial=0, attempt=2, reason="loss is good")
    assert play(row(0, 3, 2, stop="loss is good")) == [stop]
    assert play(halted(0, 2)) == [FINISHED]
    assert play.trial(0).status is TrialStatus.COMPLETED
    play.replay()


# -- winding up --------------------------------------------------------------------------------------------------------


def test_a_stop_pauses_what_runs_and_launches_nothing(play: Script) -> None:
    play.begin(num_trials=3, max_live=2)
    play(started(0), row(0, 1))
    assert play(interrupted()) == [
        StopTrial(trial=0, attempt=1, reason="Ctrl-C", pause=True),
        StopTrial(trial=1, attempt=1, reason="Ctrl-C", pause=True),
    ]
    assert play(halted(1)) == []
    assert play(staged(0, 1), halted(0)) == []
    assert play(published(0, 1)) == [EndExperiment(outcome=Outcome.INTERRUPTED, error="Ctrl-C")]
    assert [trial.status for trial in play.experiment.state.trials] == ["paused", "paused", "pending"]


def test_the_next_run_goes_on_from_where_it_was_paused(play: Script) -> None:
    play.begin(num_trials=2)
    play(row(0, 1), interrupted(), staged(0, 1), halted(0), returned(1), published(0, 1))
    assert play(driver(2, num_trials=2)) == []
    assert play(capacity(2)) == [LaunchTrial(trial=0, attempt=2, resume_from=1, time_total_s=1.0)]
    assert play(returned(0, 2)) == [FINISHED]


def test_the_first_reason_to_wind_up_stands(play: Script) -> None:
    play.begin(fail_fast=True)
    play(interrupted(), raised(0))
    assert play.experiment.state.outcome is Outcome.INTERRUPTED


def test_the_time_budget_pauses_everything(play: Script) -> None:
    play.begin(time_budget_s=10.0, stop_grace_s=5.0)
    assert play.experiment.next_deadline() == 10.0
    reason = "the time budget of 10.0 s is used up"
    assert play(timer(10.0)) == [StopTrial(trial=0, attempt=1, reason=reason, pause=True)]
    assert play.experiment.next_deadline() == 15.0
    assert play(halted(0)) == [EndExperiment(outcome=Outcome.TIME_BUDGET, error=reason)]
    assert play(driver(2, num_trials=1, time_budget_s=10.0)) == [
        EndExperiment(outcome=Outcome.TIME_BUDGET, error=reason)
    ]
    assert play(driver(3, num_trials=1, time_budget_s=11.0), capacity(1)) == [LaunchTrial(trial=0, attempt=2)]


def test_a_time_budget_that_runs_out_after_the_last_trial_changes_nothing(play: Script) -> None:
    """Nor does it ask to be woken again and again while the last checkpoint is being published."""
    play.begin(time_budget_s=10.0)
    play(row(0, 1), staged(0, 1), returned(0))
    assert play.experiment.next_deadline() is None
    assert play(timer(10.0)) == []
    assert play(published(0, 1)) == [FINISHED]


def test_a_deadline_is_due_only_while_somebody_waits(play: Script) -> None:
    play.begin(num_trials=2, stop_grace_s=5.0)
    assert play.experiment.next_deadline() is None
    play(timer(1.0), interrupted())
    assert play.experiment.next_deadline() == 6.0
    play(halted(0), halted(1))
    assert play.experiment.next_deadline() is None


def test_a_trial_that_does_not_stop_is_interrupted_and_then_killed(play: Script) -> None:
    play.begin(stop_grace_s=5.0)
    play(timer(1.0), interrupted())
    assert play(timer(5.9)) == []
    assert play(timer(6.0)) == [InterruptTrial(trial=0, attempt=1)]
    assert play.experiment.next_deadline() == 11.0
    assert play(timer(11.0)) == [KillTrial(trial=0, attempt=1)]
    assert play.experiment.next_deadline() is None
    assert play(lost(0, cause=LossCause.KILLED)) == [EndExperiment(outcome=Outcome.INTERRUPTED, error="Ctrl-C")]
    assert play.trial(0).num_failures == 0


def test_one_ring_of_the_clock_serves_all_that_are_due(play: Script) -> None:
    play.begin(num_trials=3, stop_grace_s=5.0)
    play(interrupted(), halted(1))
    assert play(timer(100.0)) == [InterruptTrial(trial=0, attempt=1), InterruptTrial(trial=2, attempt=1)]


def test_fail_fast_winds_up_at_the_first_failure(play: Script) -> None:
    """S003-12."""
    play.begin(num_trials=2, fail_fast=True)
    assert play(raised(0)) == [StopTrial(trial=1, attempt=1, reason="trial 0 failed", pause=True)]
    assert play(halted(1)) == [EndExperiment(outcome=Outcome.FAILED_FAST, error="trial 0 failed")]


def test_an_error_in_the_configuration_ends_the_experiment_and_charges_nobody(play: Script) -> None:
    play.begin(num_trials=2, max_failures=3)
    assert play(raised(0, fatal=True)) == [StopTrial(trial=1, attempt=1, reason="ValueError: bad", pause=True)]
    assert play(halted(1)) == [EndExperiment(outcome=Outcome.ERROR, error="ValueError: bad")]
    assert (play.trial(0).status, play.trial(0).num_failures) == (TrialStatus.PENDING, 0)


def test_a_stop_function_that_raises_ends_the_run_in_order(play: Script) -> None:
    play.begin(max_failures=3)
    reason = "the stop function failed: ValueError: bad"
    assert play(StopCriterionFailed(error=ERROR)) == [StopTrial(trial=0, attempt=1, reason=reason, pause=True)]
    assert play(halted(0)) == [EndExperiment(outcome=Outcome.ERROR, error=reason)]
    assert play.trial(0).num_failures == 0


def test_the_end_waits_for_the_store_and_for_the_searcher(play: Script) -> None:
    play(driver(num_trials=2), capacity(2), suggested(1), row(0, 1), staged(0, 1), interrupted(), halted(0))
    assert play(published(0, 1)) == []
    assert play(suggested(1)) == [EndExperiment(outcome=Outcome.INTERRUPTED, error="Ctrl-C")]
    assert play.trial(1).status is TrialStatus.PENDING


def test_nothing_happens_after_the_end(play: Script) -> None:
    play.begin()
    play(returned(0))
    assert [play(event) for event in (capacity(9), interrupted(), timer(1e6), lost(0), suggested(1))] == [[]] * 5


# -- bugs of the shell -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [capacity(1), suggested(1), interrupted(), timer(1.0), started(0)])
def test_the_first_event_must_be_the_start_of_a_driver(event: object, play: Script) -> None:
    with pytest.raises(CoreBugError, match="first event must be DriverStarted"):
        Experiment(play._scheduler).handle(event)  # type: ignore[arg-type]


def test_time_does_not_run_backwards(play: Script) -> None:
    play.begin()
    play(timer(5.0))
    with pytest.raises(CoreBugError, match="time ran backwards"):
        play.experiment.handle(TrialHalted(trial=0, attempt=1, at=4.9))


@pytest.mark.parametrize("generation", [0, 1])
def test_generations_of_drivers_rise(generation: int, play: Script) -> None:
    play.begin()
    with pytest.raises(CoreBugError, match="generation"):
        play.experiment.handle(driver(generation))


@pytest.mark.parametrize("trial", [-1, 1])
def test_a_trial_that_was_never_made_is_a_bug(trial: int, play: Script) -> None:
    play.begin()
    with pytest.raises(InvalidTransitionError, match="never made"):
        play.experiment.handle(started(trial))
    with pytest.raises(InvalidTransitionError, match="never made"):
        play.experiment.handle(CheckpointPublished(trial=trial, attempt=1, iteration=1))
