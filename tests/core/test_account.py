"""How often a trial was lost, and why: each cause has its own name in its account."""

from __future__ import annotations

import pytest

from tunekit.core.events import Event, LaunchFailed, RestoreFailed, WorkerLost
from tunekit.core.failures import tally
from tunekit.testing.events import (
    ERROR,
    Script,
    driver,
    launch_failed,
    lost,
    raised,
    restore_failed,
    returned,
    saved,
    started,
    timer,
)
from tunekit.types import LossCause

STORAGE = LaunchFailed(trial=0, attempt=1, error=ERROR, cause=LossCause.STORAGE)


@pytest.mark.parametrize(
    ("event", "entry"),
    [
        (lost(0, cause=LossCause.PREEMPTED), "preempted"),
        (lost(0, cause=LossCause.NODE_LOST), "node lost"),
        (WorkerLost(trial=0, attempt=1, cause=LossCause.CRASHED, exit="SIGKILL"), "crashed: SIGKILL"),
        (WorkerLost(trial=0, attempt=1, cause=LossCause.CRASHED, exit="exit code 3"), "crashed: exit code 3"),
        (lost(0, cause=LossCause.CRASHED), "crashed"),
        (WorkerLost(trial=0, attempt=1, cause=LossCause.OUT_OF_MEMORY, exit="SIGKILL"), "out of memory"),
        (raised(0), "user exception"),
        (launch_failed(0), "start failed"),
        (STORAGE, "storage fault"),
        (driver(2, num_trials=1), "driver lost"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_cause_has_an_entry_of_its_own(event: Event, entry: str, play: Script) -> None:
    play.begin(max_failures=-1)
    play(event)
    assert play.trial(0).losses == {entry: 1}


def test_a_hang_is_told_from_other_kills(play: Script) -> None:
    play.begin(max_failures=-1, hang_timeout_s=5.0)
    play(started(0), timer(5.0), timer(7.0), lost(0, cause=LossCause.KILLED))
    assert play.trial(0).losses == {"hung": 1}


def test_a_damaged_checkpoint_is_a_loss_that_nobody_pays_for(play: Script) -> None:
    play.begin(max_failures=3)
    play(started(0), *saved(0, 1), lost(0), restore_failed(0, 1, 2))
    trial = play.trial(0)
    assert (trial.losses, trial.num_failures) == ({"crashed": 1, "restore failed": 1}, 1)
    assert trial.cause is LossCause.RESTORE_FAILED


def test_the_account_goes_over_all_drivers_and_late_words_do_not_count(play: Script) -> None:
    play.begin(max_failures=-1)
    play(raised(0), raised(0, 1), raised(0, 2), driver(2, num_trials=1, max_failures=-1), raised(0, 3))
    assert play.trial(0).losses == {"user exception": 2, "driver lost": 1}


def test_a_sweep_adds_the_accounts_up(play: Script) -> None:
    play.begin(num_trials=3, max_failures=-1)
    play(raised(0), lost(1), lost(1, 2), RestoreFailed(trial=2, attempt=1, iteration=1, error=ERROR), returned(0, 2))
    state = play.experiment.state
    assert list(tally(state.trials).items()) == [("crashed", 2), ("restore failed", 1), ("user exception", 1)]


def test_an_error_that_is_about_the_sweep_is_no_loss(play: Script) -> None:
    play.begin()
    play(raised(0, fatal=True))
    assert play.trial(0).losses == {}
