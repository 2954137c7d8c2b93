"""Deterministic mode in the core: what becomes of seats when trials end otherwise than they were to."""

from __future__ import annotations

from typing import Any

import pytest

from tunekit.core.commands import AskSearcher
from tunekit.core.events import ErrorInfo, Event
from tunekit.core.sequencer import Sequencer
from tunekit.schedulers import ASHA
from tunekit.testing.events import (
    Script,
    adopted,
    capacity,
    driver,
    halted,
    lost,
    missing,
    published,
    raised,
    returned,
    row,
    saved,
    staged,
    started,
    suggested,
    timer,
)
from tunekit.testing.sim_pauser import Pauser
from tunekit.types import LossCause, TrialStatus

OTHER = ErrorInfo(type="CudaError", message="uncorrectable ECC error")


def order_of(play: Script) -> Sequencer:
    order = play.experiment.state.order
    assert order is not None
    return order


def crash(trial: int, attempt: int = 1) -> Event:
    return lost(trial, attempt, LossCause.CRASHED)


def test_a_trial_that_has_ended_does_not_return_from_a_pause() -> None:
    """Its clock ends it while it waits to hear that it is to pause; its seat would be waited for for ever."""
    play = Script(Pauser(every=1, share=0.0))
    play.begin(num_trials=2, logical_slots=2, metric="loss", time_limit_s=5.0, stop_grace_s=1.0)
    play(started(0), started(1), row(1, 1), lost(0, cause=LossCause.PREEMPTED), timer(6.5), halted(1))
    assert play.trial(1).status is TrialStatus.COMPLETED
    play(started(0, 2), row(0, 1, 2), halted(0, 2))
    assert play.trial(1).status is TrialStatus.COMPLETED
    assert {*order_of(play).seats} == {0}
    assert order_of(play).returning == []


def test_nor_does_one_that_has_failed() -> None:
    """It is to pause, and its worker crashes: twice at one row, so that it has failed."""
    play = Script(Pauser(every=1, share=0.0))
    play.begin(num_trials=1, logical_slots=1, metric="loss", max_failures=0)
    play(row(0, 1), crash(0), row(0, 1, 2), crash(0, 2))
    assert play.trial(0).status is TrialStatus.FAILED
    assert (order_of(play).seats, order_of(play).returning) == ({}, [])
    assert play.experiment.state.ended


@pytest.mark.parametrize(
    ("losses", "is_said"),
    [
        ((raised(0), raised(0, 2)), False),
        ((row(0, 1), raised(0), row(0, 1, 2), raised(0, 2)), False),
        ((*saved(0, 1), raised(0), started(0, 2, restored_from=1), raised(0, 2)), False),
        ((row(0, 1), raised(0), raised(0, 2)), True),
        ((raised(0), row(0, 1, 2), raised(0, 2)), True),
        ((raised(0), raised(0, 2, error=OTHER)), True),
        ((raised(0), raised(0, 2, error=OTHER, retryable=False)), True),
        ((crash(0), raised(0, 2)), True),
        ((*saved(0, 1), lost(0, 1, LossCause.DRIVER_LOST), *(raised(0, attempt) for attempt in (2, 3))), True),
        ((row(0, 1), lost(0, 1, LossCause.DRIVER_LOST), *(raised(0, attempt) for attempt in (2, 3))), False),
        ((raised(0), crash(0, 2)), True),
    ],
    ids=[
        *("its own exceptions", "always after the same row", "after the same row, from its checkpoint"),
        *("before the row that it had come to", "after a row that it had not come to", "two exceptions"),
        *("an exception and a misuse", "a crash, then an exception", "an exception, then a crash"),
        *("from the first as it was restored", "from the first after it began again"),
    ],
)
def test_a_trial_that_fails_ends_the_promise_only_if_another_run_may_spare_it(
    losses: tuple[Event, ...], *, is_said: bool
) -> None:
    play = Script(Pauser(every=2, share=2.0))
    play.begin(num_trials=2, logical_slots=2, metric="loss", max_failures=1)
    play(*losses, row(1, 1), row(1, 2))
    assert play.trial(0).status is TrialStatus.FAILED
    assert ("failed for good" in order_of(play).depends_on) is is_said


def test_a_trial_that_is_stopped_while_it_waits_to_be_tried_again_waits_no_longer() -> None:
    """It was lost after the row that is decided later, since another trial comes first."""
    play = Script(ASHA(max_t=16, grace_period=1, reduction_factor=2))
    play.begin(num_trials=2, logical_slots=2, metric="loss", max_failures=1, backoff_s=100.0)
    play(row(1, 1, metrics={"loss": 2.0}), crash(1))
    assert play.trial(1).retry_at is not None
    play(row(0, 1, metrics={"loss": 1.0}))
    assert (play.trial(1).status, play.trial(1).retry_at) == (TrialStatus.STOPPED, None)
    assert play.experiment.next_deadline() is None
    play.replay()


def test_a_failed_trial_that_is_tried_again_is_asked_about_what_it_computes_again() -> None:
    """From the checkpoint that it goes on from, which is not its newest: that one is suspect."""
    play = Script(Pauser(every=1, share=2.0))
    play.begin(num_trials=1, logical_slots=1, metric="loss", max_failures=2)
    play(*saved(0, 1), *saved(0, 2), raised(0), raised(0, 2), raised(0, 3))
    assert play.trial(0).status is TrialStatus.FAILED
    play(driver(2, num_trials=1, logical_slots=1, metric="loss", max_failures=2, resume_errored=True), capacity(1))
    assert order_of(play).seats[0].seen == 1


@pytest.mark.parametrize("is_decided_before", [True, False], ids=["before it is tried again", "after that"])
def test_a_trial_that_failed_where_it_is_then_stopped_trains_no_more_when_it_is_tried_again(
    *, is_decided_before: bool
) -> None:
    """Its worker is preempted once too often while it waits at its rung, and what is decided there comes after that."""
    play = Script(ASHA(max_t=6, grace_period=2, reduction_factor=2))
    options: dict[str, Any] = {"num_trials": 2, "logical_slots": 2, "metric": "loss", "max_preemption_failures": 0}
    play.begin(**options)
    play(row(0, 1), row(1, 1), row(1, 2, metrics={"loss": 9.0}), staged(1, 2), published(1, 2))
    play(*(lost(1, attempt, LossCause.PREEMPTED) for attempt in range(1, play.trial(1).attempt + 1)))
    assert play.trial(1).status is TrialStatus.FAILED
    assert order_of(play).seats[1].is_undecided
    if is_decided_before:
        play(row(0, 2))
    play(driver(2, resume_errored=True, **options), capacity(2))
    play(*([] if is_decided_before else [row(0, 2, 2)]))
    trial = play.trial(1)
    assert (trial.status, trial.iteration) == (TrialStatus.STOPPED, 2)
    assert trial.reason.startswith("rung 2: 9")
    assert play.trial(0).status.is_live
    play(*saved(0, 6, play.trial(0).attempt), returned(0, play.trial(0).attempt))
    assert play.experiment.state.ended


def stopped_after_it_failed(**settings: Any) -> tuple[Script, dict[str, Any]]:
    """Return a sweep whose trial 1 has failed at its rung, where it was stopped later; its checkpoint is staged."""
    play = Script(ASHA(max_t=6, grace_period=2, reduction_factor=2))
    options = {"num_trials": 2, "logical_slots": 2, "metric": "loss", "max_preemption_failures": 0, **settings}
    play.begin(**options)
    play(row(0, 1), row(1, 1), row(1, 2, metrics={"loss": 9.0}), staged(1, 2), lost(1, 1, LossCause.PREEMPTED))
    return play, options


def test_nor_if_its_checkpoint_is_published_by_the_driver_that_tries_it_again() -> None:
    play, options = stopped_after_it_failed()
    play(row(0, 2), driver(2, resume_errored=True, **options))
    assert order_of(play).returning == [(1, None)]
    play(capacity(2))
    assert order_of(play).returning == [(1, None)], "who knows whether it will be there"
    play(published(1, 2))
    assert (play.trial(1).status, play.trial(1).attempt) == (TrialStatus.STOPPED, 1)


def test_nor_if_its_checkpoint_is_found_by_the_driver_that_tries_it_again() -> None:
    """It was missing for a while: a disk that was not mounted."""
    play, options = stopped_after_it_failed()
    play(published(1, 2), row(0, 2), driver(2, **options), missing(1, 2), capacity(2))
    assert play.trial(1).checkpoints == {}
    play(driver(3, resume_errored=True, **options), adopted(1, 2), capacity(2))
    assert (play.trial(1).status, play.trial(1).attempt) == (TrialStatus.STOPPED, 1)


def test_one_whose_checkpoint_is_gone_computes_what_is_missing_and_is_stopped_again() -> None:
    play, options = stopped_after_it_failed()
    play(published(1, 2), row(0, 2), driver(2, resume_errored=True, **options), missing(1, 2), capacity(2))
    assert play.trial(1).status is TrialStatus.LAUNCHING
    assert (play.trial(1).resume_from, play.trial(1).until) == (None, 2)
    play(row(1, 1, 2), row(1, 2, 2, metrics={"loss": 9.0}), row(0, 3, 2), row(0, 4, 2))
    assert play.trial(1).status is TrialStatus.STOPPING


def test_a_trial_whose_end_the_user_put_off_meets_the_rung_that_it_had_ended_at() -> None:
    """Its last row was there, and its worker died before that was saved; then ``stop`` was raised."""
    play = Script(ASHA(max_t=8, grace_period=2, reduction_factor=2))
    options: dict[str, Any] = {"num_trials": 2, "logical_slots": 2, "metric": "loss", "saves_at_end": True}
    play.begin(**options)
    play(row(0, 1), row(1, 1), row(1, 2, final=True, metrics={"loss": 9.0}))
    play(driver(2, **options), capacity(2), row(0, 1, 2), row(0, 2, 2))
    play(row(1, 1, 2), row(1, 2, 2, metrics={"loss": 9.0}))
    assert play.trial(1).status is TrialStatus.STOPPING
    assert play.trial(1).reason.startswith("rung 2: 9")


def test_a_searcher_that_waits_is_asked_again_once_a_paused_trial_has_ended() -> None:
    """Nobody sits on a slot meanwhile; who is paused may still teach it something."""
    play = Script(Pauser(every=1, share=0.0))
    play(driver(num_trials=2, logical_slots=1, metric="loss", searcher_learns=True), capacity(1), suggested(1))
    play(started(0), *saved(0, 1), halted(0))
    assert ([*order_of(play).seats], order_of(play).returning) == ([], [(0, 1)])
    play(suggested(0))
    assert [*order_of(play).seats] == [0]
    commands = play(started(0, 2), row(0, 2, 2, final=True), returned(0, 2))
    assert AskSearcher(first=1, count=1) in commands
    assert not play.experiment.state.ended
