"""A trial whose process is told to end again and again, and which comes no further, is not preempted for ever."""

from __future__ import annotations

import pytest

from tunekit.core.events import Place, TrialPreempted, TrialStarted, WorkerLost
from tunekit.core.failures import MAX_FUTILE_PREEMPTIONS
from tunekit.testing.events import Script, capacity, driver, preempted, row
from tunekit.types import LossCause, TrialStatus


def told_to_end(play: Script, attempt: int, iteration: int = 0, node: str = "n1") -> str:
    """Have an attempt come to a row and be told to end; return what the trial has lost it to."""
    play(TrialStarted(trial=0, attempt=attempt, place=Place(node=node)))
    play(*[row(0, i, attempt) for i in range(1, iteration + 1)], preempted(0, attempt))
    error = play.trial(0).error
    return "" if error is None else error.type


def test_who_is_told_to_end_again_and_again_and_comes_no_further_does_it_itself(play: Script) -> None:
    """A machine that is taken away does not come back; so it was not."""
    play.begin(max_failures=1, max_futile_preemptions=MAX_FUTILE_PREEMPTIONS)
    causes = [told_to_end(play, attempt, iteration=4) for attempt in range(1, 6)]
    assert causes == ["preempted"] * 3 + ["crashed"] * 2
    trial = play.trial(0)
    assert (trial.status, trial.num_failures, trial.num_preemptions) == (TrialStatus.FAILED, 2, 3)
    assert trial.error is not None
    assert trial.error.message == "SIGTERM, again and again on one machine, and no new row"
    assert trial.losses == {"preempted": 3, "crashed: SIGTERM": 2}


@pytest.mark.parametrize(
    ("reason", "entry"),
    [
        ("SIGUSR1", "crashed: SIGUSR1"),
        ("SIGTERM, and it raised OSError: no", "crashed: SIGTERM"),
        ("AWS: its machine is taken away", "crashed"),
        ("", "crashed"),
    ],
)
def test_it_is_entered_under_what_told_the_process_to_end(play: Script, reason: str, entry: str) -> None:
    """A signal that the event names; nothing else is made up."""
    play.begin(max_failures=9, max_futile_preemptions=1)
    for attempt in (1, 2):
        play(TrialStarted(trial=0, attempt=attempt, place=Place(node="n1")))
        play(TrialPreempted(trial=0, attempt=attempt, reason=reason))
    assert play.trial(0).losses == {"preempted": 1, entry: 1}


def test_of_a_machine_that_takes_its_processes_along_it_is_how_they_ended(play: Script) -> None:
    """The signal that was the notice; without one, that by which the process ended."""
    play.begin(max_failures=9, max_futile_preemptions=0)
    for attempt, (detail, how) in enumerate(
        [("SIGUSR1; the actor died", ""), ("AWS: its machine is taken away; it died", "SIGKILL")], 1
    ):
        play(TrialStarted(trial=0, attempt=attempt, place=Place(node="n1")))
        play(WorkerLost(trial=0, attempt=attempt, cause=LossCause.PREEMPTED, detail=detail, exit=how))
    assert play.trial(0).losses == {"crashed: SIGUSR1": 1, "crashed: SIGKILL": 1}


def test_a_new_row_or_another_machine_is_as_good_as_none_before(play: Script) -> None:
    play.begin(max_failures=0, max_futile_preemptions=1)
    for attempt, (iteration, node) in enumerate([(4, "n1"), (5, "n1"), (5, "n2"), (2, ""), (2, ""), (2, "n1")], 1):
        assert told_to_end(play, attempt, iteration, node) == "preempted", attempt  # Without a name it may be any.
    assert told_to_end(play, 7, 2) == "crashed"
    assert play.trial(0).status is TrialStatus.FAILED


def test_an_old_sweep_is_preempted_for_ever(play: Script) -> None:
    """As its journal says: the settings of that time named no limit."""
    play.begin(max_failures=0)
    assert {told_to_end(play, attempt) for attempt in range(1, 20)} == {"preempted"}


def test_a_failed_trial_that_is_tried_again_begins_to_count_anew(play: Script) -> None:
    play.begin(max_failures=0, max_futile_preemptions=1)
    assert [told_to_end(play, 1), told_to_end(play, 2)] == ["preempted", "crashed"]
    play(driver(2, max_failures=0, max_futile_preemptions=1, resume_errored=True), capacity(1))
    assert told_to_end(play, 3) == "preempted"
