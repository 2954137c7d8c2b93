"""Who pays for an attempt that is lost while it is to be paused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunekit.core.commands import LaunchTrial
from tunekit.core.events import Event
from tunekit.testing.events import (
    Script,
    capacity,
    driver,
    halted,
    interrupted,
    launch_failed,
    lost,
    published,
    raised,
    row,
    staged,
    timer,
)
from tunekit.testing.sim_pauser import Pauser
from tunekit.types import LossCause, TrialStatus


def pausing(every: int = 1) -> Script:
    """Return a core whose scheduler pauses at each of these rows."""
    return Script(Pauser(every=every, share=0.0))


@pytest.mark.parametrize("fail", [launch_failed, raised])
def test_what_fails_when_the_run_is_to_end_is_not_charged(play: Script, fail: Callable[[int], Event]) -> None:
    """Cleaning up after Ctrl-C may raise; whether the trial fails is for its next attempt to say."""
    play.begin(max_failures=0)
    play(interrupted(), fail(0))
    assert (play.trial(0).status, play.trial(0).num_failures) == (TrialStatus.PENDING, 0)


def test_nor_is_it_at_the_end_of_any_later_run(play: Script) -> None:
    play.begin(max_failures=0)
    for attempt in (1, 2, 3):
        play(interrupted(), lost(0, attempt, LossCause.KILLED))
        play(driver(attempt + 1, num_trials=1, max_failures=0), capacity(1))
    assert (play.trial(0).attempt, play.trial(0).num_failures) == (4, 0)


def test_what_raises_while_the_scheduler_pauses_it_is_charged() -> None:
    """It is save_checkpoint that raises, as it may at any other row; there was no signal from us."""
    play = pausing()
    play.begin(metric="loss", max_failures=0)
    play(row(0, 1))
    assert play.trial(0).status is TrialStatus.STOPPING
    play(raised(0))
    assert play.trial(0).status is TrialStatus.FAILED
    play.replay()


@pytest.mark.parametrize(
    "fail",
    [
        lambda attempt: lost(0, attempt, LossCause.CRASHED),
        lambda attempt: lost(0, attempt, LossCause.KILLED),
        lambda attempt: raised(0, attempt),
    ],
    ids=["crashed", "killed", "raised when it was interrupted"],
)
def test_whoever_is_lost_at_one_pause_twice_is_charged(fail: Callable[[int], Event]) -> None:
    """The first one may be our doing; but the next attempt comes to the same pause, and would for ever."""
    play = pausing(every=4)
    play.begin(metric="loss", max_failures=1, stop_grace_s=1.0)
    for attempt, num_failures in ((1, 0), (2, 1), (3, 2)):
        play(row(0, 4, attempt))
        deadline = play.experiment.next_deadline()
        assert deadline is not None
        play(timer(deadline), fail(attempt))
        assert play.trial(0).num_failures == num_failures
    assert play.trial(0).status is TrialStatus.FAILED
    play.replay()


def test_at_a_later_pause_it_is_spared_again_and_machines_that_go_cost_no_failure() -> None:
    play = pausing()
    play.begin(metric="loss", max_failures=0, max_preemption_failures=1)
    play(row(0, 1), lost(0, 1), row(0, 1, 2), staged(0, 1, 2), halted(0, 2))
    assert play(published(0, 1, 2)) == [LaunchTrial(trial=0, attempt=3, resume_from=1, until=2, time_total_s=1.0)]
    play(row(0, 2, 3), lost(0, 3))
    assert (play.trial(0).attempt, play.trial(0).num_failures) == (4, 0)
    play(row(0, 2, 4), lost(0, 4, LossCause.PREEMPTED))
    assert (play.trial(0).attempt, play.trial(0).num_preemptions) == (5, 1)
    play.replay()


def test_who_saves_nothing_is_spared_once_though_it_passes_the_pause_that_was_decided() -> None:
    play = Script(Pauser(every=1, share=0.0))
    play.begin(num_trials=1, logical_slots=1, metric="loss", max_failures=0, hang_timeout_s=100.0)
    play(row(0, 1), lost(0, 1))
    play(row(0, 1, 2), row(0, 2, 2))
    assert play.trial(0).status is TrialStatus.STOPPING, "it passes row 1, where its pause was decided, and pauses at 2"
    play(lost(0, 2))
    assert play.trial(0).num_failures == 1
    assert play.trial(0).status is TrialStatus.FAILED
    play.replay()


def test_a_driver_that_dies_at_a_pause_does_not_use_up_what_is_spared() -> None:
    play = pausing()
    play.begin(metric="loss", max_failures=0)
    play(row(0, 1), driver(2, num_trials=1, metric="loss", max_failures=0), capacity(1))
    play(row(0, 1, 2), lost(0, 2))
    assert (play.trial(0).attempt, play.trial(0).num_failures) == (3, 0)
    play(row(0, 1, 3), lost(0, 3))
    assert (play.trial(0).status, play.trial(0).num_failures) == (TrialStatus.FAILED, 1)
    play.replay()


def test_a_trial_that_starts_over_begins_without_what_was_spared_before() -> None:
    play = pausing()
    play.begin(metric="loss", max_failures=0)
    play(row(0, 1), staged(0, 1), halted(0), published(0, 1), row(0, 2, 2), lost(0, 2), raised(0, 3))
    assert play.trial(0).status is TrialStatus.FAILED
    play(driver(2, num_trials=1, metric="loss", max_failures=0, restart_errored=True), capacity(1))
    play(row(0, 1, 4), lost(0, 4))
    assert (play.trial(0).attempt, play.trial(0).num_failures) == (5, 0)
    play.replay()
