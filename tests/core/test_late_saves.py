"""Saves that are finished behind the trial, failure checkpoints, and what a new driver finds."""

from __future__ import annotations

import msgspec
import pytest

from tunekit.core.commands import (
    Command,
    ContinueTrial,
    DeleteCheckpoint,
    EndExperiment,
    InterruptTrial,
    KillTrial,
    LaunchTrial,
    PublishCheckpoint,
    StopTrial,
)
from tunekit.core.events import CheckpointStaged, Event, StopRequested
from tunekit.core.trial import CheckpointStatus
from tunekit.schedulers import ASHA
from tunekit.testing.events import (
    Script,
    adopted,
    capacity,
    deleted,
    driver,
    halted,
    interrupted,
    lost,
    missing,
    preempted,
    publish_failed,
    published,
    raised,
    returned,
    row,
    save_failed,
    saved,
    saving,
    staged,
    started,
    timer,
)
from tunekit.types import LossCause, Outcome, TrialStatus


def timed(iteration: int, time_total_s: float) -> CheckpointStaged:
    """Return a checkpoint whose manifest says how long the trial had trained."""
    event = staged(0, iteration)
    return msgspec.structs.replace(event, manifest={**event.manifest, "time_total_s": time_total_s})


def launches(commands: list[Command]) -> list[tuple[int, int | None]]:
    return [(c.attempt, c.resume_from) for c in commands if isinstance(c, LaunchTrial)]


# -- later than its row ------------------------------------------------------------------------------------------------


def test_it_is_published_however_far_the_trial_has_come(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), row(0, 1, saves=True), row(0, 2), row(0, 3))
    [command] = play(timed(1, 1.5))
    assert isinstance(command, PublishCheckpoint)
    play(published(0, 1))
    [launch] = play(lost(0))
    assert isinstance(launch, LaunchTrial)
    assert (launch.resume_from, launch.time_total_s) == (1, 1.5)


def test_it_comes_while_the_trial_waits_at_its_horizon() -> None:
    play = Script(ASHA(max_t=9, grace_period=2, reduction_factor=2))
    play.begin(num_trials=2, metric="loss")
    assert play(row(0, 1, saves=True), row(0, 2)) == [ContinueTrial(trial=0, attempt=1, until=4)]
    assert len(play(staged(0, 1))) == 1
    stop = play(row(1, 1, saves=True), row(1, 2, metrics={"loss": 9.0}))
    assert isinstance(stop[0], StopTrial)
    assert len(play(staged(1, 1))) == 1
    play(halted(1))
    assert play.trial(1).status is TrialStatus.STOPPED
    assert play(published(1, 1)) == []


def test_what_was_in_flight_is_lost_with_the_worker_and_computed_again(play: Script) -> None:
    """At most one save, and nothing that was acknowledged."""
    play.begin(max_failures=-1)
    play(started(0), *saved(0, 1), row(0, 2, saves=True), row(0, 3))
    assert launches(play(lost(0))) == [(2, 1)]
    assert play(staged(0, 2)) == []
    assert play.experiment.state.num_stale == 1


def test_a_last_row_is_owed_its_save(play: Script) -> None:
    play.begin(max_failures=-1, saves_at_end=True)
    play(started(0), *saved(0, 1), row(0, 2, final=True))
    assert launches(play(lost(0))) == [(2, 1)]
    play(started(0, 2, restored_from=1), row(0, 2, 2, final=True), staged(0, 2, 2))
    play(lost(0, 2))
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_a_save_behind_the_last_row_is_owed_as_well(play: Script) -> None:
    """The last row itself is not saved, but one before it was to be."""
    play.begin(max_failures=-1)
    play(started(0), *saved(0, 1), row(0, 2, saves=True), row(0, 3, final=True))
    assert launches(play(lost(0))) == [(2, 1)]
    play(started(0, 2, restored_from=1), row(0, 2, 2, saves=True), row(0, 3, 2, final=True), staged(0, 2, 2))
    play(lost(0, 2))
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_a_save_for_which_there_was_no_time_is_owed_by_who_was_to_end_there(play: Script) -> None:
    """Its machine went, and it left without the save that its row had announced."""
    play.begin(max_failures=0, time_limit_s=50.0)
    play(started(0), *saved(0, 1), row(0, 2, saves=True), timer(50.0))
    assert launches(play(preempted(0))) == [(2, 1)]


def test_a_save_that_a_newer_one_has_replaced_is_not_owed(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), row(0, 1, saves=True), row(0, 2, saves=True), staged(0, 2), row(0, 3, final=True), lost(0))
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_a_late_failure_to_save_leaves_the_newest_row_owing(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), row(0, 1, saves=True), row(0, 2, saves=True, final=True), save_failed(0, 1))
    last = play.trial(0).last
    assert last is not None
    assert last.saves


@pytest.mark.parametrize("at", range(7))
def test_a_driver_may_die_at_any_of_these_events(play: Script, at: int) -> None:
    play.begin(max_failures=0)
    events: list[Event] = [started(0), row(0, 1, saves=True), row(0, 2), staged(0, 1), row(0, 3), published(0, 1)]
    events.append(row(0, 4))
    play(*events[: at + 1])
    again = play(driver(2, num_trials=1))
    is_staged = at >= 3
    is_published = at >= 5
    assert len(again) == (is_staged and not is_published)
    if again:
        assert launches(play(capacity(1))) == []
        assert launches(play(published(0, 1))) == [(2, 1)]
    else:
        assert launches(play(capacity(1))) == [(2, 1 if is_published else None)]


# -- patience ----------------------------------------------------------------------------------------------------------


def test_a_trial_that_saves_is_not_taken_for_stuck(play: Script) -> None:
    play.begin(stop_grace_s=10.0, save_grace_s=100.0)
    play(started(0), row(0, 1), interrupted())
    assert play.experiment.next_deadline() == 10
    play(saving(0))
    assert play.experiment.next_deadline() == 100
    assert play(timer(50.0)) == []
    assert play(timer(100.0)) == [InterruptTrial(trial=0, attempt=1)]
    assert play(timer(110.0)) == [KillTrial(trial=0, attempt=1)]
    play(lost(0, cause=LossCause.KILLED))


def test_patience_never_shortens_a_grace(play: Script) -> None:
    play.begin(stop_grace_s=10.0, save_grace_s=0.0)
    play(started(0), row(0, 1), interrupted(), saving(0))
    assert play.experiment.next_deadline() == 10


@pytest.mark.parametrize("stop", [StopRequested(at=107.0), timer(107.0)])
def test_a_trial_that_is_at_its_last_save_when_it_is_stopped_keeps_its_patience(play: Script, stop: Event) -> None:
    """It leaves its machine, say, and then the run is interrupted, or its time limit is over."""
    play.begin(stop_grace_s=10.0, save_grace_s=100.0, saves_at_end=True, time_limit_s=107.0)
    play(started(0), row(0, 1), timer(99.0), saving(0, final=True), timer(103.0), saving(0))
    assert isinstance(play(stop)[0], StopTrial)
    assert play.experiment.next_deadline() == 203
    play(staged(0, 1), preempted(0), published(0, 1))
    assert play.trial(0).checkpoints[1].status is CheckpointStatus.PUBLISHED


def test_a_stop_long_after_has_its_own_grace(play: Script) -> None:
    play.begin(stop_grace_s=10.0, save_grace_s=20.0)
    play(started(0), row(0, 1), saving(0, final=True), StopRequested(at=15.0))
    assert play.experiment.next_deadline() == 25


def test_a_save_in_the_middle_of_a_trial_is_forgotten(play: Script) -> None:
    """It may have ended long ago, and nobody would have said so; and so journals of earlier versions have it."""
    play.begin(stop_grace_s=10.0, save_grace_s=100.0)
    play(started(0), row(0, 1), saving(0), interrupted())
    assert play.experiment.next_deadline() == 10


def test_patience_ends_with_a_row_and_with_the_attempt(play: Script) -> None:
    play.begin(stop_grace_s=10.0, save_grace_s=100.0, max_failures=-1)
    play(started(0), row(0, 1), saving(0, final=True), row(0, 2), interrupted())
    assert play.experiment.next_deadline() == 10
    play(halted(0), driver(2, num_trials=1, max_failures=-1), capacity(1))
    play(started(0, 2), row(0, 1, 2), saving(0, 2, final=True), lost(0, 2))
    play(started(0, 3), row(0, 1, 3), interrupted())
    assert play.experiment.next_deadline() == 10


def test_who_was_not_told_to_stop_gets_no_deadline(play: Script) -> None:
    play.begin()
    play(started(0), saving(0))
    assert play.experiment.next_deadline() is None


# -- failure checkpoints -----------------------------------------------------------------------------------------------


def test_a_failure_checkpoint_is_published_apart_and_never_gone_on_from(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), *saved(0, 1), row(0, 2))
    [command] = play(staged(0, 2, exact=False))
    assert isinstance(command, PublishCheckpoint)
    assert not command.exact
    assert launches(play(raised(0))) == [(2, 1)]
    play(published(0, 2, exact=False))
    trial = play.trial(0)
    assert list(trial.checkpoints) == [1]
    assert trial.failures_saved[1].status is CheckpointStatus.PUBLISHED
    assert launches(play(lost(0, 2))) == [(3, 1)]


def test_it_holds_nobody_back_but_the_end_of_the_run(play: Script) -> None:
    play.begin(max_failures=0)
    play(started(0), row(0, 1), staged(0, 1, exact=False))
    assert play(raised(0)) == []
    assert play.trial(0).status is TrialStatus.FAILED
    assert play(published(0, 1, exact=False)) == [EndExperiment(outcome=Outcome.FINISHED)]


def test_there_is_one_for_each_attempt_and_none_is_replaced(play: Script) -> None:
    play.begin(max_failures=-1)
    for attempt in (1, 2, 3):
        play(started(0, attempt), row(0, 1, attempt), staged(0, 1, attempt, exact=False))
        assert play(staged(0, 1, attempt, exact=False)) == []
        play(raised(0, attempt), published(0, 1, attempt, exact=False))
    assert list(play.trial(0).failures_saved) == [1, 2, 3]


def test_word_of_one_that_comes_again_when_it_is_gone_is_stale(play: Script) -> None:
    """The attempt may still be under way then, and its files are no longer where they were staged."""
    play.begin(max_failures=-1, max_experiment_bytes=10)
    play(started(0), *saved(0, 1, size=10), row(0, 2), staged(0, 2, size=5, exact=False))
    assert play(published(0, 2, exact=False)) == [DeleteCheckpoint(trial=0, iteration=2, attempt=1, exact=False)]
    play(deleted(0, 2, exact=False))
    assert play(staged(0, 2, size=5, exact=False)) == []
    assert play.experiment.state.num_stale == 1


def test_retention_leaves_it_alone_and_does_not_count_it(play: Script) -> None:
    play.begin(max_failures=-1, num_to_keep=1)
    play(started(0), *saved(0, 1), row(0, 2), staged(0, 2, exact=False), raised(0), published(0, 2, exact=False))
    assert play.trial(0).checkpoints[1].status is CheckpointStatus.PUBLISHED
    play(started(0, 2, restored_from=1), *saved(0, 2, 2), *saved(0, 3, 2))
    assert play.trial(0).failures_saved[1].status is CheckpointStatus.PUBLISHED


def test_one_beside_a_regular_one_of_the_same_row(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), row(0, 1), staged(0, 1), staged(0, 1, exact=False), raised(0))
    assert launches(play(published(0, 1, exact=False))) == []
    assert launches(play(published(0, 1))) == [(2, 1)]


def test_one_that_cannot_be_published_is_cleaned_up(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), row(0, 1), staged(0, 1, exact=False), raised(0))
    delete = DeleteCheckpoint(trial=0, iteration=1, attempt=1, exact=False)
    assert play(publish_failed(0, 1, exact=False)) == [delete]
    assert delete in play(driver(2, num_trials=1, max_failures=-1))
    play(deleted(0, 1, exact=False))
    assert not play.trial(0).failures_saved


def test_a_new_driver_publishes_it_again(play: Script) -> None:
    play.begin(max_failures=-1)
    first = play(started(0), row(0, 1), staged(0, 1, exact=False))
    assert play(driver(2, num_trials=1, max_failures=-1)) == first


# -- what a new driver finds -------------------------------------------------------------------------------------------


def test_what_is_missing_is_not_gone_on_from(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), *saved(0, 1), *saved(0, 2))
    play(driver(2, num_trials=1), missing(0, 2))
    assert launches(play(capacity(1))) == [(2, 1)]


def test_what_is_missing_beneath_a_staged_one_leaves_that(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), *saved(0, 1), lost(0), started(0, 2), row(0, 1, 2), staged(0, 1, 2))
    play(driver(2, num_trials=1, max_failures=-1), missing(0, 1, 1), capacity(1), publish_failed(0, 1, 2))
    play(deleted(0, 1, 2))
    assert play.trial(0).checkpoints == {}


def test_what_was_found_is_gone_on_from(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), *saved(0, 1), row(0, 2))
    play(driver(2, num_trials=1), adopted(0, 2, time_total_s=7.0, num_bytes=3))
    [launch] = play(capacity(1))
    assert isinstance(launch, LaunchTrial)
    assert (launch.resume_from, launch.time_total_s) == (2, 7.0)


@pytest.mark.parametrize("attempt", [0, 2])
def test_what_no_attempt_of_the_journal_wrote_is_not_taken_in(play: Script, attempt: int) -> None:
    play.begin()
    play(started(0), *saved(0, 1), row(0, 2))
    play(driver(2, num_trials=1), adopted(0, 2, attempt))
    assert launches(play(capacity(1))) == [(2, 1)]


def test_what_the_journal_knows_stays_as_it_is(play: Script) -> None:
    play.begin(num_to_keep=1)
    play(started(0), *saved(0, 1), *saved(0, 2))
    play(driver(2, num_trials=1, num_to_keep=1), adopted(0, 1), missing(0, 1), missing(0, 2, 7), missing(0, 3))
    known = play.trial(0).checkpoints
    assert [entry.status for entry in known.values()] == [CheckpointStatus.DELETING, CheckpointStatus.PUBLISHED]


def test_failure_checkpoints_are_found_and_missed_too(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), row(0, 1), staged(0, 1, exact=False), raised(0), published(0, 1, exact=False))
    play(driver(2, num_trials=1, max_failures=-1), missing(0, 1, exact=False))
    assert not play.trial(0).failures_saved
    play(adopted(0, 1, exact=False))
    assert play.trial(0).failures_saved[1].iteration == 1
    assert not play.trial(0).checkpoints


def test_nothing_beyond_the_end_of_a_trial_is_taken_in(play: Script) -> None:
    play.begin()
    play(started(0), row(0, 1), returned(0))
    play(driver(2, num_trials=1), adopted(0, 2))
    assert not play.trial(0).checkpoints
