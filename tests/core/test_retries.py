"""What a trial is charged for, how long it waits for its next attempt, and when a run is not worth going on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tunekit.core.commands import EndExperiment, LaunchTrial
from tunekit.core.events import ErrorInfo, LaunchFailed, TrialRaised
from tunekit.core.failures import MAX_BACKOFF_S, MAX_STORAGE_FAULTS, account, backoff_s, likeness
from tunekit.testing.events import (
    Script,
    capacity,
    driver,
    interrupted,
    lost,
    preempted,
    published,
    raised,
    row,
    saved,
    staged,
    started,
    timer,
)
from tunekit.types import LossCause, Outcome, TrialStatus


def failed(
    trial: int, attempt: int = 1, *, kind: str = "ValueError", line: int = 3, retryable: bool = True
) -> TrialRaised:
    trace = f'Traceback:\n  File "own.py", line 1, in main\n    f()\n  File "own.py", line {line}, in f\n    {kind}'
    error = ErrorInfo(type=kind, message=f"of attempt {attempt}", traceback=trace)
    return TrialRaised(trial=trial, attempt=attempt, error=error, retryable=retryable)


def unreadable(attempt: int) -> LaunchFailed:
    error = ErrorInfo(type="OSError", message="no route to host")
    return LaunchFailed(trial=0, attempt=attempt, error=error, cause=LossCause.STORAGE)


# -- budgets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [LossCause.PREEMPTED, LossCause.NODE_LOST])
def test_machines_that_are_lost_have_a_budget_of_their_own(cause: LossCause, play: Script) -> None:
    """S003-12: preemption never consumes max_failures."""
    play.begin(max_failures=0, max_preemption_failures=2)
    for attempt in (1, 2):
        assert play(lost(0, attempt, cause)) == [LaunchTrial(trial=0, attempt=attempt + 1)]
    play(lost(0, 3, cause))
    trial = play.trial(0)
    assert (trial.status, trial.num_failures, trial.num_preemptions) == (TrialStatus.FAILED, 0, 3)


@pytest.mark.parametrize("saves", [False, True])
def test_a_trial_that_took_its_leave_goes_on_from_what_it_saved(play: Script, *, saves: bool) -> None:
    """S003-10: it is preempted as one that vanished is, and no failure is charged."""
    play.begin(max_failures=0, max_preemption_failures=1)
    play(*(saved(0, 3) if saves else [row(0, 3)]))
    (launch,) = play(preempted(0))
    assert isinstance(launch, LaunchTrial)
    assert (launch.attempt, launch.resume_from) == (2, 3 if saves else None)
    trial = play.trial(0)
    assert (trial.num_failures, trial.num_preemptions) == (0, 1)
    assert trial.error == ErrorInfo(type="preempted", message="SIGTERM")
    play(preempted(0, 2))
    assert play.trial(0).status is TrialStatus.FAILED, "it has a budget"


def test_a_trial_that_took_its_leave_waits_for_its_checkpoint(play: Script) -> None:
    play.begin(max_failures=0)
    play(row(0, 3), staged(0, 3))
    assert play(preempted(0)) == []
    (launch,) = play(published(0, 3))
    assert isinstance(launch, LaunchTrial)
    assert launch.resume_from == 3


def test_a_trial_that_took_its_leave_at_its_last_row_is_complete(play: Script) -> None:
    play.begin(max_failures=0)
    play(row(0, 3, final=True), preempted(0))
    assert play.trial(0).status is TrialStatus.COMPLETED


@pytest.mark.parametrize("saves", [False, True])
def test_a_stop_that_met_a_preemption_is_owed_its_checkpoint(play: Script, *, saves: bool) -> None:
    play.begin(saves_at_end=True)
    play(row(0, 3, stop="enough"))
    if saves:
        play(staged(0, 3), published(0, 3))
    play(preempted(0))
    assert play.trial(0).status is (TrialStatus.COMPLETED if saves else TrialStatus.LAUNCHING)


def test_without_a_budget_any_number_of_machines_may_go(play: Script) -> None:
    play.begin(max_failures=0)
    for attempt in range(1, 100):
        assert play(lost(0, attempt, LossCause.PREEMPTED)) == [LaunchTrial(trial=0, attempt=attempt + 1)]
    assert account(play.experiment.state.settings, play.trial(0)) == "99 preemptions"


def test_both_budgets_are_told_in_words(play: Script) -> None:
    play.begin(max_failures=3, max_preemption_failures=5)
    assert account(play.experiment.state.settings, play.trial(0)) == ""
    play(lost(0, 1, LossCause.PREEMPTED), raised(0, 2))
    told = account(play.experiment.state.settings, play.trial(0))
    assert told == "1 failure, 2 more allowed; 1 preemption, 4 more allowed"
    play(raised(0, 3), raised(0, 4), raised(0, 5))
    assert account(play.experiment.state.settings, play.trial(0)) == "4 failures; 1 preemption"


def test_a_driver_that_goes_on_with_failed_trials_gives_both_budgets_again(play: Script) -> None:
    play.begin(max_failures=0, max_preemption_failures=1)
    play(lost(0, 1, LossCause.PREEMPTED), raised(0, 2))
    play(driver(2, num_trials=1, resume_errored=True))
    assert (play.trial(0).num_failures, play.trial(0).num_preemptions) == (0, 0)


def test_a_storage_that_cannot_be_read_is_tried_again_and_again_but_not_for_ever(play: Script) -> None:
    """S003-12: a hiccup of the storage is no failure of the trial."""
    play.begin(max_failures=0)
    play(started(0), *saved(0, 1), lost(0, 1, LossCause.PREEMPTED))
    waits = []
    for attempt in range(2, 2 + MAX_STORAGE_FAULTS):
        began = play.experiment.state.now
        assert play(unreadable(attempt)) == []
        due = play.experiment.next_deadline()
        assert due is not None
        waits.append(due - began)
        assert [type(command) for command in play(timer(due))] == [LaunchTrial]
    assert all(later > 1.5 * earlier for earlier, later in pairwise(waits))
    play(unreadable(2 + MAX_STORAGE_FAULTS))
    assert (play.trial(0).status, play.trial(0).num_failures) == (TrialStatus.FAILED, 0)


def test_a_storage_that_can_be_read_again_is_forgiven(play: Script) -> None:
    play.begin(max_failures=0)
    play(unreadable(1))
    due = play.experiment.next_deadline()
    assert due is not None
    play(timer(due), started(0, 2))
    assert play.trial(0).num_storage_faults == 0


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_a_trial_waits_twice_as_long_after_each_failure(play: Script) -> None:
    play.begin(max_failures=-1, backoff_s=10.0)
    least = 10.0
    for attempt in range(1, 10):
        began = play.experiment.state.now
        assert play(lost(0, attempt)) == []
        due = play.experiment.next_deadline()
        assert due is not None
        assert least <= due - began <= 1.25 * least
        assert play(timer((began + due) / 2)) == []
        assert play(timer(due)) == [LaunchTrial(trial=0, attempt=attempt + 1)]
        least = min(2 * least, MAX_BACKOFF_S)
    play.replay()


def test_who_waits_leaves_the_place_to_others(play: Script) -> None:
    play.begin(num_trials=2, max_live=1, max_failures=1, backoff_s=10.0)
    assert play(lost(0)) == [LaunchTrial(trial=1, attempt=1)]


def test_a_preempted_trial_does_not_wait(play: Script) -> None:
    play.begin(backoff_s=10.0)
    assert play(lost(0, 1, LossCause.NODE_LOST)) == [LaunchTrial(trial=0, attempt=2)]


def test_the_end_of_the_run_does_not_wait_for_who_waits_and_a_new_driver_tries_at_once(play: Script) -> None:
    play.begin(max_failures=1, backoff_s=10.0)
    play(lost(0))
    end = play(interrupted())
    assert isinstance(end[-1], EndExperiment)
    play(driver(2, num_trials=1, max_failures=1, backoff_s=10.0))
    assert play(capacity(1)) == [LaunchTrial(trial=0, attempt=2)]


def test_the_wait_is_the_same_whenever_it_is_computed_and_differs_between_trials(play: Script) -> None:
    play.begin(num_trials=2, seed=5)
    settings = play.experiment.state.settings
    one, other = play.trial(0), play.trial(1)
    assert backoff_s(settings, one, 1.0, 3) == backoff_s(settings, one, 1.0, 3) != backoff_s(settings, other, 1.0, 3)
    assert backoff_s(settings, one, 1.0, 10_000) <= 1.25 * MAX_BACKOFF_S


# -- poisoned checkpoints ----------------------------------------------------------------------------------------------


def begin_saved(play: Script) -> None:
    """Save at 1 and at 2, and lose the worker."""
    play.begin(max_failures=-1)
    play(started(0), *saved(0, 1), *saved(0, 2), lost(0, 1, LossCause.PREEMPTED))


def starts(commands: list[Any]) -> list[int | None]:
    return [command.resume_from for command in commands if isinstance(command, LaunchTrial)]


def test_two_failures_of_one_kind_from_one_checkpoint_lead_to_the_one_before(play: Script) -> None:
    begin_saved(play)
    assert starts(play(failed(0, 2))) == [2]
    assert starts(play(failed(0, 3))) == [1]
    assert starts(play(lost(0, 4, LossCause.PREEMPTED))) == [1], "it stays suspect"
    play.replay()


def test_what_a_later_attempt_saves_there_is_trusted_again(play: Script) -> None:
    begin_saved(play)
    play(failed(0, 2), failed(0, 3), started(0, 4), *saved(0, 2, 4))
    assert starts(play(lost(0, 4))) == [2]


@pytest.mark.parametrize("other", [failed(0, 3, kind="KeyError"), failed(0, 3, line=4), lost(0, 3)])
def test_failures_of_two_kinds_blame_nothing(play: Script, other: Any) -> None:
    begin_saved(play)
    play(failed(0, 2))
    assert starts(play(other)) == [2]


def test_preemption_in_between_blames_nothing_and_forgets_nothing(play: Script) -> None:
    begin_saved(play)
    play(failed(0, 2))
    assert starts(play(lost(0, 3, LossCause.PREEMPTED))) == [2]
    assert starts(play(failed(0, 4))) == [1]


def test_the_only_checkpoint_is_used_whatever_it_did(play: Script) -> None:
    play.begin(max_failures=-1)
    play(started(0), *saved(0, 1), lost(0))
    for attempt in range(2, 6):
        assert starts(play(failed(0, attempt))) == [1]


def test_a_checkpoint_of_a_later_iteration_is_another_one(play: Script) -> None:
    begin_saved(play)
    play(failed(0, 2), started(0, 3), *saved(0, 3, 3))
    assert starts(play(failed(0, 3))) == [3]


# -- the guard ---------------------------------------------------------------------------------------------------------


def begin_guarded(play: Script, limit: int | None = 3, **settings: Any) -> None:
    play.begin(num_trials=6, max_identical_failures=limit, **settings)


def test_trials_that_all_fail_in_the_same_way_before_any_row_end_the_run(play: Script) -> None:
    begin_guarded(play)
    play(failed(0), failed(1))
    assert play.experiment.state.outcome is None
    play(failed(2))
    state = play.experiment.state
    assert state.outcome is Outcome.ERROR
    assert state.error == (
        "3 trials have failed in the same way, and none has ever reported a result: "
        "ValueError: of attempt 1 (max_identical_failures=3)"
    )


@pytest.mark.parametrize("retryable", [True, False])
def test_attempts_of_one_trial_count_once(play: Script, *, retryable: bool) -> None:
    begin_guarded(play, max_failures=-1)
    for attempt in range(1, 10):
        play(failed(0, attempt))
    play(failed(1, retryable=retryable))
    assert play.experiment.state.outcome is None
    play(failed(2, retryable=retryable))
    assert play.experiment.state.outcome is Outcome.ERROR


@pytest.mark.parametrize("other", [{"kind": "KeyError"}, {"line": 4}])
def test_failures_that_differ_end_nothing(play: Script, other: dict[str, Any]) -> None:
    begin_guarded(play)
    play(failed(0), failed(1), failed(2, **other), failed(3), failed(4))
    assert play.experiment.state.outcome is None


def test_a_crash_among_failures_that_are_alike_does_not_keep_the_run_going(play: Script) -> None:
    play.begin(num_trials=9, max_identical_failures=3)
    play(lost(0, cause=LossCause.CRASHED), *(failed(trial) for trial in range(1, 5)))
    assert play.experiment.state.outcome is None, "4 of 5 are not nearly all"
    play(failed(5))
    assert play.experiment.state.outcome is Outcome.ERROR
    assert play.experiment.state.error.startswith("5 trials have failed in the same way")


def test_one_row_of_any_trial_shows_that_it_can_work(play: Script) -> None:
    begin_guarded(play)
    play(row(5, 1), *(failed(trial) for trial in range(5)))
    assert play.experiment.state.outcome is None


def test_lost_machines_and_drivers_say_nothing_about_the_code(play: Script) -> None:
    begin_guarded(play, limit=1)
    play(*(lost(trial, cause=LossCause.PREEMPTED) for trial in range(6)))
    play(driver(2, num_trials=6, max_identical_failures=1))
    assert play.experiment.state.outcome is None


def test_whoever_runs_it_again_has_mended_something(play: Script) -> None:
    begin_guarded(play)
    play(failed(0), failed(1), driver(2, num_trials=6, max_identical_failures=3), capacity(6), failed(2, 2))
    assert play.experiment.state.outcome is None


def test_without_a_number_nothing_is_compared(play: Script) -> None:
    begin_guarded(play, limit=None)
    play(*(failed(trial) for trial in range(6)))
    assert play.experiment.state.outcome is Outcome.FINISHED


def test_errors_are_alike_by_type_and_innermost_line() -> None:
    assert likeness(failed(0).error) == likeness(failed(1, 7).error)
    assert likeness(failed(0).error).line == 'File "own.py", line 3, in f'
    assert likeness(ErrorInfo(type="crashed", message="pid 7")) == ("crashed", "")
