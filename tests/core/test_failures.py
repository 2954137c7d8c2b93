"""Who pays for a lost attempt."""

from __future__ import annotations

import pytest

from tunekit.core.commands import LaunchTrial
from tunekit.core.failures import is_charged, is_exhausted
from tunekit.testing.events import Script, lost, raised, row
from tunekit.types import LossCause, TrialStatus

SPARED = {
    LossCause.PREEMPTED,
    LossCause.NODE_LOST,
    LossCause.DRIVER_LOST,
    LossCause.NOT_STARTED,
    LossCause.RESTORE_FAILED,
    LossCause.STORAGE,
}


@pytest.mark.parametrize("cause", LossCause)
def test_only_what_the_trial_may_have_brought_about_is_charged(cause: LossCause) -> None:
    assert is_charged(cause) is (cause not in SPARED)


@pytest.mark.parametrize(("failures", "budget", "over"), [(1, 0, True), (0, 0, False), (3, 3, False), (4, 3, True)])
def test_a_budget_of_n_survives_n_failures(failures: int, budget: int, *, over: bool) -> None:
    """S003-12."""
    assert is_exhausted(failures, budget) is over


def test_minus_one_is_no_limit() -> None:
    """S003-12."""
    assert not is_exhausted(10**9, -1)


@pytest.mark.parametrize("max_failures", [0, 1, 3])
@pytest.mark.parametrize("raises", [True, False])
def test_so_many_failures_are_recovered_and_the_next_is_final(max_failures: int, play: Script, *, raises: bool) -> None:
    """S003-12."""
    play.begin(max_failures=max_failures)
    for attempt in range(1, max_failures + 1):
        end = raised(0, attempt) if raises else lost(0, attempt)
        assert play(row(0, 1, attempt), end) == [LaunchTrial(trial=0, attempt=attempt + 1)]
    end = raised(0, max_failures + 1) if raises else lost(0, max_failures + 1)
    play(row(0, 1, max_failures + 1), end)
    trial = play.trial(0)
    assert (trial.status, trial.num_failures) == (TrialStatus.FAILED, max_failures + 1)
    assert trial.reason == ("bad" if raises else "")
    assert trial.last is not None  # a failed trial keeps its rows


def test_no_limit_is_never_reached(play: Script) -> None:
    """S003-12."""
    play.begin(max_failures=-1)
    for attempt in range(1, 50):
        assert play(raised(0, attempt)) == [LaunchTrial(trial=0, attempt=attempt + 1)]


@pytest.mark.parametrize("cause", LossCause)
def test_each_cause_of_a_loss_finds_its_budget(cause: LossCause, play: Script) -> None:
    """S003-12."""
    play.begin(max_failures=0)
    play(lost(0, cause=cause))
    assert (play.trial(0).status is TrialStatus.FAILED) is (cause not in SPARED)


def test_an_error_that_is_certain_to_come_again_is_not_tried_again(play: Script) -> None:
    play.begin(max_failures=5)
    play(raised(0, retryable=False))
    assert (play.trial(0).status, play.trial(0).num_failures) == (TrialStatus.FAILED, 0)
