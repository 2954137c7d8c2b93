"""One trial: rows, decisions, stopping, and the four ways in which an attempt ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tunekit.core.commands import (
    ContinueTrial,
    DeleteCheckpoint,
    EndExperiment,
    LaunchTrial,
    PublishCheckpoint,
    StopTrial,
)
from tunekit.core.decisions import Continue, Decision, Pause, Stop
from tunekit.core.events import ErrorInfo, Event, LaunchFailed, Place, TrialStarted
from tunekit.errors import ExperimentError
from tunekit.testing.events import (
    Script,
    driver,
    halted,
    interrupted,
    launch_failed,
    lost,
    publish_failed,
    published,
    raised,
    restore_failed,
    returned,
    row,
    save_failed,
    saved,
    staged,
    timer,
)
from tunekit.types import LossCause, Mode, Outcome, TrialStatus

FINISHED = EndExperiment(outcome=Outcome.FINISHED)


@dataclass(frozen=True)
class Fixed:
    """A scheduler whose decisions are written down: at each of these iterations it says this."""

    decisions: dict[int, Decision] = field(default_factory=dict)
    needs_metric: bool = True

    def begin(self, mode: Mode) -> FixedState:
        return FixedState(self.decisions)

    def identity(self) -> dict[str, object]:
        return {}


class FixedState:
    def __init__(self, decisions: dict[int, Decision]) -> None:
        self.decisions = decisions
        self.asked: list[tuple[int, int, float | None]] = []

    def horizon(self, trial: int, iteration: int) -> int | None:
        return min((at for at in self.decisions if at > iteration), default=None)

    def decide(self, trial: int, iteration: int, value: float | None) -> Decision:
        self.asked.append((trial, iteration, value))
        return self.decisions.get(iteration, Continue(until=self.horizon(trial, iteration)))


@pytest.fixture
def ruled() -> Iterator[Script]:
    """A core whose scheduler says: go on at 2, pause at 4, stop at 6."""
    decisions: dict[int, Decision] = {
        2: Continue(until=4),
        4: Pause(reason="let others catch up"),
        6: Stop(reason="not among the best"),
    }
    script = Script(Fixed(decisions))
    yield script
    script.replay()


# -- rows and decisions ------------------------------------------------------------------------------------------------


def test_a_row_is_recorded_and_says_that_the_trial_runs(play: Script) -> None:
    play.begin()
    assert play(row(0, 1)) == []
    assert (play.trial(0).status, play.trial(0).iteration) == (TrialStatus.RUNNING, 1)


def test_where_a_trial_runs_is_noted(play: Script) -> None:
    play.begin()
    play(TrialStarted(trial=0, attempt=1, place=Place(pid=7)))
    assert play.trial(0).place.pid == 7


@pytest.mark.parametrize("again", [1, 2])
def test_a_row_that_came_before_is_ignored(again: int, play: Script) -> None:
    play.begin()
    play(row(0, 1), row(0, 2))
    assert play(row(0, again, metrics={"loss": 9.0})) == []
    assert play.trial(0).last == row(0, 2)
    assert play.experiment.state.num_stale == 1


def test_after_a_rewind_rows_are_counted_from_the_checkpoint(play: Script) -> None:
    play.begin(max_failures=1)
    play(*saved(0, 1), row(0, 2), row(0, 3), lost(0), row(0, 2, 2))
    assert (play.trial(0).last, play.experiment.state.num_stale) == (row(0, 2, 2), 0)


def test_decisions_are_made_at_the_horizon_only(ruled: Script) -> None:
    assert ruled.begin(metric="loss") == [LaunchTrial(trial=0, attempt=1, until=2)]
    assert ruled(row(0, 1)) == []
    assert ruled(row(0, 2)) == [ContinueTrial(trial=0, attempt=1, until=4)]
    assert ruled(row(0, 3)) == []
    assert ruled.experiment.state.scheduler.asked == [(0, 2, 0.5)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("metrics", [{}, {"loss": "low"}, {"loss": float("nan")}])
def test_a_metric_that_is_no_number_is_none_to_the_scheduler(metrics: dict[str, object], ruled: Script) -> None:
    ruled.begin(metric="loss")
    ruled(row(0, 2, metrics=metrics))
    assert ruled.experiment.state.scheduler.asked == [(0, 2, None)]  # type: ignore[attr-defined]


def test_a_paused_trial_goes_on_when_nobody_else_wants_the_place(ruled: Script) -> None:
    ruled.begin(num_trials=2, max_live=1)
    pause = StopTrial(trial=0, attempt=1, reason="let others catch up", pause=True)
    assert ruled(row(0, 2), row(0, 4)) == [pause]
    ruled(staged(0, 4), published(0, 4))
    assert ruled(halted(0)) == [LaunchTrial(trial=1, attempt=1, until=2)]
    assert ruled(returned(1)) == [LaunchTrial(trial=0, attempt=2, resume_from=4, until=6, time_total_s=4.0)]
    assert ruled(row(0, 6, 2)) == [StopTrial(trial=0, attempt=2, reason="not among the best")]
    assert ruled(halted(0, 2)) == [FINISHED]
    assert ruled.trial(0).status is TrialStatus.STOPPED


def test_a_paused_trial_waits_for_its_checkpoint_to_be_published(ruled: Script) -> None:
    """It would otherwise go on from an older one and compute again what it has just saved."""
    ruled.begin()
    ruled(row(0, 2), row(0, 4), staged(0, 4))
    assert ruled(halted(0)) == []
    assert ruled(published(0, 4)) == [LaunchTrial(trial=0, attempt=2, resume_from=4, until=6, time_total_s=4.0)]


def test_the_trials_own_end_needs_no_decision(ruled: Script) -> None:
    ruled.begin()
    assert ruled(row(0, 2, final=True)) == []
    assert ruled(returned(0, reason="training_iteration 2 >= 2")) == [FINISHED]
    assert (ruled.trial(0).status, ruled.trial(0).reason) == (TrialStatus.COMPLETED, "training_iteration 2 >= 2")


def test_a_stop_of_the_users_function_comes_before_the_scheduler(ruled: Script) -> None:
    ruled.begin()
    assert ruled(row(0, 2, stop="loss is good")) == [StopTrial(trial=0, attempt=1, reason="loss is good")]
    assert ruled.experiment.state.scheduler.asked == []  # type: ignore[attr-defined]
    assert ruled(halted(0)) == [FINISHED]
    assert ruled.trial(0).status is TrialStatus.COMPLETED


def test_a_trial_on_its_way_into_a_pause_is_still_judged_at_its_rung(ruled: Script) -> None:
    """The row was recorded, so the rung counts it; it would be skipped if the trial went on from its checkpoint."""
    ruled.begin(metric="loss")
    ruled(*saved(0, 5), interrupted())
    assert ruled(row(0, 6)) == []
    assert ruled.experiment.state.scheduler.asked[-1] == (0, 6, 1 / 6)  # type: ignore[attr-defined]
    assert ruled(staged(0, 6), published(0, 6), halted(0)) == [
        EndExperiment(outcome=Outcome.INTERRUPTED, error="Ctrl-C")
    ]
    assert (ruled.trial(0).status, ruled.trial(0).reason) == (TrialStatus.STOPPED, "not among the best")


def test_a_trial_on_its_way_into_a_pause_may_be_told_to_go_on_later(ruled: Script) -> None:
    ruled.begin()
    ruled(interrupted())
    assert ruled(row(0, 2)) == []  # no ContinueTrial: the worker has been told to stop
    ruled(staged(0, 2), published(0, 2), halted(0))
    assert ruled.trial(0).status is TrialStatus.PAUSED


def test_a_stop_of_the_users_function_is_heard_on_the_way_into_a_pause(play: Script) -> None:
    play.begin(asks_every_result=True)
    play(interrupted(), row(0, 3, stop="loss is good"), halted(0))
    assert (play.trial(0).status, play.trial(0).reason) == (TrialStatus.COMPLETED, "loss is good")


def test_a_trial_that_began_anew_is_not_answered_before_the_row_at_which_it_waits(play: Script) -> None:
    """It would take that for the answer at that row, and go on although it is to stop there."""
    play.begin(asks_every_result=True, max_failures=1)
    play(*saved(0, 2), lost(0))
    assert play(row(0, 1, 2), row(0, 2, 2)) == []
    assert play(row(0, 3, 2)) == [ContinueTrial(trial=0, attempt=2, until=4)]
    play.replay()


# -- ends --------------------------------------------------------------------------------------------------------------


def test_a_trial_may_return_without_a_row(play: Script) -> None:
    play.begin()
    assert play(returned(0)) == [FINISHED]


def test_a_trial_that_returns_while_it_is_being_paused_is_complete(play: Script) -> None:
    play.begin()
    play(interrupted(), returned(0))
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_a_stop_that_nobody_asked_for_is_a_lease_that_ran_out(play: Script) -> None:
    play.begin()
    assert play(*saved(0, 3), halted(0)) == [LaunchTrial(trial=0, attempt=2, resume_from=3, time_total_s=3.0)]
    assert play.trial(0).num_failures == 0


def test_a_success_forgets_the_failures_on_the_way(play: Script) -> None:
    play.begin(max_failures=1)
    play(raised(0), returned(0, 2))
    assert (play.trial(0).status, play.trial(0).error) == (TrialStatus.COMPLETED, None)


@pytest.mark.parametrize("end", [lost(0), raised(0), halted(0), driver(2, num_trials=1)])
def test_a_trial_whose_last_row_is_saved_does_not_run_again(end: Event, play: Script) -> None:
    """It would go on from its last checkpoint and report a row beyond its last."""
    play.begin(max_failures=0)
    play(row(0, 5, final=True), staged(0, 5), published(0, 5))
    assert play(end) == [FINISHED]
    assert (play.trial(0).status, play.trial(0).num_failures) == (TrialStatus.COMPLETED, 0)


@pytest.mark.parametrize("end", [lost(0), raised(0), halted(0), driver(2, num_trials=1)])
def test_nor_if_it_was_being_paused_at_that_moment(end: Event, play: Script) -> None:
    play.begin(max_failures=0)
    play(row(0, 5, final=True, saves=True), interrupted(), staged(0, 5), published(0, 5), end)
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_a_trial_whose_last_row_is_not_saved_comes_to_it_again(play: Script) -> None:
    play.begin(max_failures=1)
    assert play(*saved(0, 4), row(0, 5, final=True, saves=True), lost(0)) == [
        LaunchTrial(trial=0, attempt=2, resume_from=4, time_total_s=4.0)
    ]
    assert play(lost(0, 2, LossCause.PREEMPTED)) == [LaunchTrial(trial=0, attempt=3, resume_from=4, time_total_s=4.0)]


def test_a_trial_that_saves_nothing_at_its_last_row_is_complete_with_it(play: Script) -> None:
    play.begin(max_failures=0)
    assert play(*saved(0, 4), row(0, 5, final=True), lost(0)) == [FINISHED]
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_a_save_that_failed_is_not_owed(play: Script) -> None:
    play.begin(max_failures=0)
    play(*saved(0, 4), row(0, 5, final=True, saves=True), save_failed(0, 5), lost(0))
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_a_trial_that_is_stopped_where_it_was_to_save_runs_again(play: Script) -> None:
    """Else it would end without the checkpoint that an undisturbed run has."""
    play.begin(asks_every_result=True, max_failures=1)
    play(*saved(0, 4), row(0, 5, saves=True, stop="enough"))
    assert play(lost(0)) == [LaunchTrial(trial=0, attempt=2, resume_from=4, until=5, time_total_s=4.0)]
    play(row(0, 5, 2, saves=True, stop="enough"), staged(0, 5, 2), lost(0, 2))
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_a_trial_that_dies_while_it_is_stopped_is_stopped(ruled: Script) -> None:
    ruled.begin(max_failures=0)
    ruled(*saved(0, 5), row(0, 6))
    assert ruled(lost(0)) == [FINISHED]
    assert (ruled.trial(0).status, ruled.trial(0).num_failures) == (TrialStatus.STOPPED, 0)


@pytest.mark.parametrize("cause", [LossCause.CRASHED, LossCause.PREEMPTED, LossCause.DRIVER_LOST])
def test_a_trial_that_owes_its_last_checkpoint_runs_again(cause: LossCause, ruled: Script) -> None:
    """The decision stands: at the same rung it is told to stop again, and saves."""
    ruled.begin(saves_at_end=True, max_failures=1)
    ruled(*saved(0, 5), row(0, 6))
    assert ruled(lost(0, cause=cause)) == [LaunchTrial(trial=0, attempt=2, resume_from=5, until=6, time_total_s=5.0)]
    assert ruled.trial(0).num_failures == (cause is LossCause.CRASHED)
    assert ruled(row(0, 6, 2)) == [StopTrial(trial=0, attempt=2, reason="not among the best")]
    assert ruled(staged(0, 6, 2), lost(0, 2)) == []
    assert ruled(published(0, 6, 2)) == [FINISHED]


def test_a_damaged_checkpoint_pays_no_debt(play: Script) -> None:
    play.begin(asks_every_result=True, saves_at_end=True, max_failures=-1)
    play(*saved(0, 5), *saved(0, 6), lost(0), restore_failed(0, 6, 2), row(0, 6, 3, stop="enough"))
    assert play(lost(0, 3)) == [LaunchTrial(trial=0, attempt=4, resume_from=5, until=6, time_total_s=5.0)]


def test_a_trial_that_had_to_be_killed_is_stopped_whatever_it_owes(ruled: Script) -> None:
    ruled.begin(saves_at_end=True, stop_grace_s=1.0)
    ruled(row(0, 6), timer(1.0), timer(2.0))
    assert ruled(lost(0, cause=LossCause.KILLED)) == [FINISHED]
    assert ruled.trial(0).status is TrialStatus.STOPPED


def test_a_trial_that_cannot_be_launched_is_charged(play: Script) -> None:
    play.begin(max_failures=1)
    assert play(launch_failed(0)) == [LaunchTrial(trial=0, attempt=2)]
    assert play(launch_failed(0, 2)) == [FINISHED]
    assert play.trial(0).status is TrialStatus.FAILED


def test_a_launch_that_can_never_succeed_fails_its_trial_at_once(play: Script) -> None:
    play.begin(max_failures=-1)
    play(LaunchFailed(trial=0, attempt=1, error=ErrorInfo(type="KeyError", message="gpu"), retryable=False))
    assert (play.trial(0).status, play.trial(0).num_failures) == (TrialStatus.FAILED, 0)


def test_what_no_attempt_could_survive_ends_the_run(play: Script) -> None:
    play.begin(max_failures=-1)
    error = ErrorInfo(type="tunekit.errors.StorageError", message="elsewhere", hint="share it")
    play(LaunchFailed(trial=0, attempt=1, error=error, fatal=True))
    assert play.experiment.state.outcome is Outcome.ERROR
    assert play.experiment.state.error == "tunekit.errors.StorageError: elsewhere\n\nhint: share it"
    assert (play.trial(0).status, play.trial(0).num_failures) == (TrialStatus.PENDING, 0)


def test_a_scheduler_that_raises_is_named_with_what_it_was_asked() -> None:
    class Broken:
        needs_metric = True

        def begin(self, mode: Mode) -> Broken:
            del mode
            return self

        def identity(self) -> dict[str, object]:
            return {}

        def horizon(self, trial: int, iteration: int) -> int | None:
            del trial
            return iteration + 1

        def decide(self, trial: int, iteration: int, value: float | None) -> Decision:
            raise ZeroDivisionError(trial, iteration, value)

    play = Script(Broken())
    play.begin(metric="loss")
    with pytest.raises(ExperimentError, match=r"Broken\.decide raised ZeroDivisionError.*trial 0 at iteration 1"):
        play(row(0, 1))


def test_a_save_that_failed_changes_nothing(play: Script) -> None:
    play.begin()
    assert play(row(0, 1), save_failed(0, 1)) == []
    assert play.trial(0).checkpoints == {}


# -- restoring ---------------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_used(play: Script) -> None:
    play.begin(max_failures=0)
    play(*saved(0, 1), *saved(0, 2), lost(0, cause=LossCause.PREEMPTED))
    assert play(restore_failed(0, 2, 2)) == [
        DeleteCheckpoint(trial=0, attempt=1, iteration=2, quarantine=True),
        LaunchTrial(trial=0, attempt=3, resume_from=1, time_total_s=1.0),
    ]
    assert play(restore_failed(0, 1, 3))[1:] == [LaunchTrial(trial=0, attempt=4)]
    assert play.trial(0).num_failures == 0


def test_a_damaged_checkpoint_is_saved_again(play: Script) -> None:
    play.begin(max_failures=0)
    play(*saved(0, 1), lost(0, cause=LossCause.PREEMPTED), restore_failed(0, 1, 2))
    publish = PublishCheckpoint(trial=0, attempt=3, iteration=1, manifest={"iteration": 1, "attempt": 3})
    assert play(row(0, 1, 3), staged(0, 1, 3)) == [publish]
    assert play(published(0, 1, 3), lost(0, 3, LossCause.PREEMPTED)) == [
        LaunchTrial(trial=0, attempt=4, resume_from=1, time_total_s=1.0)
    ]


def test_a_retry_waits_for_the_checkpoint_that_is_being_published(play: Script) -> None:
    play.begin(max_failures=1)
    assert play(row(0, 1), staged(0, 1), lost(0)) == []
    assert play(published(0, 1)) == [LaunchTrial(trial=0, attempt=2, resume_from=1, time_total_s=1.0)]


def test_a_retry_does_without_a_checkpoint_that_could_not_be_published(play: Script) -> None:
    play.begin(max_failures=1)
    assert play(row(0, 1), staged(0, 1), lost(0)) == []
    assert play(publish_failed(0, 1)) == [
        DeleteCheckpoint(trial=0, attempt=1, iteration=1),
        LaunchTrial(trial=0, attempt=2),
    ]
