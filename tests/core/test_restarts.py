"""Attempts that were given a checkpoint and began anew: how it shows, what is no sign of it, and what follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tunekit.core.commands import LaunchTrial, StopTrial
from tunekit.core.events import ResultReported
from tunekit.core.restarts import SilentRestart
from tunekit.core.trial import CheckpointStatus
from tunekit.testing.events import (
    Script,
    capacity,
    driver,
    halted,
    lost,
    published,
    raised,
    restore_failed,
    returned,
    row,
    saved,
    staged,
    started,
    started_over,
)
from tunekit.types import LossCause, StartOver, TrialStatus

Metrics = Callable[[int], dict[str, Any]]


def learns(step: int) -> dict[str, Any]:
    return {"loss": math.exp(-step)}


def rows(metrics: Metrics, steps: range, *, at: int, attempt: int = 1) -> list[ResultReported]:
    """Return what a trial reports whose state is at these steps, from iteration ``at`` on."""
    return [row(0, at + i, attempt, metrics=metrics(step)) for i, step in enumerate(steps)]


def lives(first: Metrics, saved_at: int, length: int, then: list[ResultReported], **settings: Any) -> Script:
    """Return a sweep of one trial that was lost after ``length`` rows, and reported ``then`` after its checkpoint."""
    play = Script()
    play.begin(max_failures=9, **{"metric": "loss", **settings})
    for report in rows(first, range(1, length + 1), at=1):
        play(report)
        if report.iteration == saved_at:
            play(staged(0, saved_at, size=1), published(0, saved_at))
    play(lost(0), started(0, 2, restored_from=saved_at), *then)
    return play


def begun_anew(metrics: Metrics, saved_at: int = 4, length: int = 6, count: int = 4, **settings: Any) -> Script:
    """Return a sweep whose trial was given its checkpoint and does again what it did at first."""
    return lives(metrics, saved_at, length, rows(metrics, range(1, count + 1), at=saved_at + 1, attempt=2), **settings)


def gone_on(metrics: Metrics, saved_at: int = 4, length: int = 6, **settings: Any) -> Script:
    """Return a sweep whose trial went on from its checkpoint as it should."""
    then = rows(metrics, range(saved_at + 1, saved_at + 9), at=saved_at + 1, attempt=2)
    return lives(metrics, saved_at, length, then, **settings)


# -- the rows of the beginning come again ------------------------------------------------------------------------------


@pytest.mark.parametrize("saved_at", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("settings", [{}, {"metric": None}])
def test_three_rows_of_the_beginning_are_a_sign(saved_at: int, settings: dict[str, Any]) -> None:
    """S003-7 and the like: nothing fails when load_checkpoint restores nothing, so somebody must look."""
    play = begun_anew(learns, saved_at, **settings)
    assert play.trial(0).silent_restarts == [SilentRestart(2, saved_at, StartOver.SAME_ROWS)]
    assert play.experiment.state.started_over == [0]
    assert play.trial(0).status is TrialStatus.RUNNING
    play.replay()


def test_two_rows_are_no_sign() -> None:
    play = begun_anew(learns, count=2)
    assert play.trial(0).silent_restarts == []


def test_a_timer_of_the_user_hides_nothing() -> None:
    clock = iter(range(1000))

    def timed(step: int) -> dict[str, Any]:
        return {**learns(step), "seconds": next(clock) / 7, "time_epoch": next(clock), "net": {"norm": next(clock) / 3}}

    assert begun_anew(timed).trial(0).silent_restarts


@pytest.mark.parametrize(
    "metrics",
    [
        learns,
        lambda step: {"loss": 0.25},
        lambda step: {"loss": math.nan},
        lambda step: {"loss": 1.0 / (step % 2 + 1)},
        lambda step: {"loss": max(0.5, 1 / step)},
        lambda step: {"loss": 0.5 if step > 1 else 0.9},
        lambda step: {"reward": step % 4},
        lambda step: {},
        lambda step: {"loss": (0.1, 0.2, 0.3, 0.4)[step % 4], "round": (step - 1) // 4},
    ],
    ids=["learns", "constant", "nan", "of two", "plateau", "step", "counter", "nothing", "rounds"],
)
@pytest.mark.parametrize("saved_at", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("length", [3, 4, 6, 8])
def test_who_goes_on_is_not_suspected(metrics: Metrics, saved_at: int, length: int) -> None:
    """A constant metric, and one that repeats itself, say nothing of where a trial began."""
    play = gone_on(metrics, min(saved_at, length), length)
    assert play.trial(0).silent_restarts == []


@pytest.mark.parametrize(("length", "is_accused"), [(3, True), (4, False)])
def test_a_metric_with_just_the_period_of_its_first_checkpoint_is_accused(length: int, *, is_accused: bool) -> None:
    """The price: nothing tells it from a beginning, unless it has begun again before it was lost."""
    play = gone_on(lambda step: {"loss": (0.1, 0.2, 0.3)[step % 3]}, 3, length)
    assert bool(play.trial(0).silent_restarts) == is_accused


@pytest.mark.parametrize("saved_at", [6, 8])
def test_a_metric_that_repeats_itself_says_nothing(saved_at: int) -> None:
    """Its first values came again before, so they may come again."""
    play = begun_anew(lambda step: {"loss": (0.1, 0.2, 0.3, 0.4, 0.5)[step % 5]}, saved_at, length=8)
    assert play.trial(0).silent_restarts == []


def test_a_trial_that_starts_without_a_checkpoint_does_as_it_did() -> None:
    play = Script()
    play.begin(metric="loss", max_failures=9)
    play(*rows(learns, range(1, 6), at=1), lost(0))
    play(started(0, 2), *rows(learns, range(1, 9), at=1, attempt=2))
    assert play.trial(0).silent_restarts == []


def test_it_is_warned_of_once_but_all_of_them_are_kept() -> None:
    play = begun_anew(learns)
    play(lost(0, 2), started(0, 3, restored_from=4), *rows(learns, range(1, 5), at=5, attempt=3))
    assert [restart.attempt for restart in play.trial(0).silent_restarts] == [2, 3]
    assert play.experiment.state.started_over == [0]


def test_a_later_run_of_the_script_does_not_warn_again() -> None:
    play = begun_anew(learns)
    play(driver(2, num_trials=1, metric="loss"))
    assert play.experiment.state.started_over == []
    assert len(play.trial(0).silent_restarts) == 1


# -- what the worker has seen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [StartOver.UNOPENED, StartOver.UNREAD])
def test_what_the_worker_says_is_kept(sign: StartOver) -> None:
    play = lives(learns, 4, 6, [])
    assert play(started_over(0, 2, 4, sign), row(0, 1, 2)) == []
    assert play.trial(0).silent_restarts == [SilentRestart(2, 4, sign)]


def test_an_attempt_that_shows_two_signs_is_listed_once() -> None:
    play = lives(learns, 4, 6, [])
    play(started_over(0, 2, 4, StartOver.UNREAD), *rows(learns, range(1, 5), at=5, attempt=2))
    assert play.trial(0).silent_restarts == [SilentRestart(2, 4, StartOver.UNREAD)]


def test_where_it_is_an_error_the_error_is_enough() -> None:
    play = lives(learns, 4, 6, [], silent_restart="fail")
    play(started_over(0, 2, 4), raised(0, 2, retryable=False))
    trial = play.trial(0)
    assert (trial.status, len(trial.silent_restarts)) == (TrialStatus.FAILED, 1)
    assert play.experiment.state.started_over == []


def test_what_an_earlier_attempt_says_is_ignored() -> None:
    play = lives(learns, 4, 6, [])
    play(started_over(0, 1, 4))
    assert play.trial(0).silent_restarts == []
    assert play.experiment.state.num_stale == 1


# -- a trial may not begin anew ----------------------------------------------------------------------------------------


def stopped() -> Script:
    """Return a sweep whose trial has begun anew, has saved that, and is told to stop."""
    play = lives(learns, 4, 6, [], silent_restart="fail", num_to_keep=1, saves_at_end=True)
    first, second, third = rows(learns, range(1, 4), at=5, attempt=2)
    play(first, staged(0, 5, 2), published(0, 5, 2), second)
    (stop,) = play(third)
    assert isinstance(stop, StopTrial)
    assert not stop.pause
    return play


@pytest.mark.parametrize(
    "ending", [halted(0, 2), returned(0, 2), raised(0, 2), lost(0, 2), lost(0, 2, LossCause.DRIVER_LOST)]
)
def test_however_its_attempt_ends_it_has_failed(ending: Any) -> None:
    play = stopped()
    play(ending)
    trial = play.trial(0)
    assert trial.status is TrialStatus.FAILED
    assert trial.error is not None
    assert trial.error.type == "tunekit.errors.SilentRestartError"
    assert "iteration 4 is thrown away" in trial.error.message
    assert "validate_save_restore" in trial.error.hint
    play.replay()


def test_the_next_driver_finds_it_failed() -> None:
    play = stopped()
    play(driver(2, num_trials=1, silent_restart="fail"))
    assert play.trial(0).status is TrialStatus.FAILED


def test_what_it_was_given_is_kept_and_trusted() -> None:
    """Whoever mends load_checkpoint goes on from where the trial had come to."""
    play = stopped()
    play(staged(0, 7, 2), published(0, 7, 2), halted(0, 2))
    assert 4 in play.trial(0).checkpoints
    play(driver(2, num_trials=1, metric="loss", num_to_keep=1, resume_errored=True))
    (launch,) = [command for command in play(capacity(1)) if isinstance(command, LaunchTrial)]
    assert launch.resume_from == 4
    play(started(0, 3, restored_from=4), *rows(learns, range(5, 9), at=5, attempt=3), returned(0, 3))
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_failures_from_what_it_was_given_do_not_lead_to_what_was_made_anew() -> None:
    """The given one is suspect after two failures alike; it is still the newest that holds this trial's training."""
    play = stopped()
    play(staged(0, 7, 2), published(0, 7, 2), halted(0, 2))
    play(driver(2, num_trials=1, metric="loss", max_failures=9, resume_errored=True), capacity(1))
    for attempt in range(3, 6):
        (launch,) = (command for command in play(raised(0, attempt)) if isinstance(command, LaunchTrial))
        assert launch.resume_from == 4
    assert play.trial(0).checkpoints[4].is_suspect
    play.replay()


def test_without_what_it_was_given_it_begins_at_the_beginning() -> None:
    play = stopped()
    play(halted(0, 2), driver(2, num_trials=1, metric="loss", max_failures=9, resume_errored=True), capacity(1))
    (launch,) = (c for c in play(restore_failed(0, 4, 3)) if isinstance(c, LaunchTrial))
    assert launch.resume_from is None
    assert play.trial(0).checkpoints[5].began_anew


def test_what_it_was_given_makes_no_room_for_what_it_has_saved_since() -> None:
    """As above, under a limit of bytes, and if the attempt failed before its newest save was published."""
    play = lives(learns, 4, 6, [], silent_restart="fail", max_experiment_bytes=10)
    play(*rows(learns, range(1, 4), at=5, attempt=2), staged(0, 7, 2, size=11), raised(0, 2), published(0, 7, 2))
    assert play.trial(0).status is TrialStatus.FAILED
    assert play.trial(0).checkpoints[4].status is CheckpointStatus.PUBLISHED


def test_a_trial_that_goes_on_is_left_alone() -> None:
    play = gone_on(learns, silent_restart="fail")
    play(*saved(0, 13, 2), returned(0, 2))
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_a_metric_inside_of_a_dict_is_followed_as_well() -> None:
    def metrics(step: int) -> dict[str, Any]:
        return {"val": {"loss": (0.1, 0.2, 0.3, 0.4)[step % 4]}}

    assert gone_on(metrics, 4, 8, metric="val/loss").trial(0).silent_restarts == []
    assert begun_anew(metrics, 3, 4, metric="val/loss").trial(0).silent_restarts


def test_a_first_value_that_came_again_by_itself_is_no_sign_any_more() -> None:
    values = (0.9, 0.8, 0.7, 0.6, 0.9, 0.5)
    play = Script()
    play.begin(metric="loss", max_failures=9)
    for at, value in enumerate(values[:4], start=1):
        play(row(0, at, metrics={"loss": value}))
    play(staged(0, 4), published(0, 4), lost(0), started(0, 2, restored_from=4))
    for at, value in enumerate(values[4:], start=5):
        play(row(0, at, 2, metrics={"loss": value}))
    play(staged(0, 6, 2), published(0, 6, 2), lost(0, 2), started(0, 3, restored_from=6))
    play(*[row(0, 7 + at, 3, metrics={"loss": value}) for at, value in enumerate(values[:3])])
    assert play.trial(0).silent_restarts == []
