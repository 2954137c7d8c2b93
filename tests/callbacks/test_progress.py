"""One line per trial: what it says, and what it keeps to itself."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tunekit.callbacks.progress import Progress
from tunekit.core.events import (
    CapacityChanged,
    Draw,
    DriverStarted,
    ErrorInfo,
    Event,
    ResultReported,
    Rule,
    SaveFailed,
    Settings,
    TrialHalted,
    TrialRaised,
    TrialReturned,
    TrialsSuggested,
    TrialStarted,
    WorkerLost,
)
from tunekit.core.experiment import Experiment
from tunekit.schedulers import ASHA, FIFO
from tunekit.testing.events import saved
from tunekit.types import LossCause, TrialStatus


class Watched:
    """A core with a progress display on it."""

    def __init__(self, *, verbose: int = 1, scheduler: Any = None, **settings: Any) -> None:
        self.stream = io.StringIO()
        self.progress = Progress("t_{:05d}".format, verbose=verbose, stream=self.stream)
        self.core = Experiment(scheduler or FIFO())
        settings.setdefault("num_trials", 1)
        started = DriverStarted(generation=1, settings=Settings(metric="loss", **settings))
        self.see(started, CapacityChanged(max_live=1), TrialsSuggested(draws=[Draw()]))

    def see(self, *events: Event) -> list[str]:
        self.stream.seek(0)
        self.stream.truncate()
        for event in events:
            self.core.handle(event)
        self.progress.observe(events, self.core.state)
        lines = self.stream.getvalue().splitlines()
        self.summary = "".join(line for line in lines if line.startswith("= "))
        return [line for line in lines if not line.startswith("= ")]


def row(iteration: int, loss: Any = 0.25, attempt: int = 1) -> ResultReported:
    return ResultReported(trial=0, attempt=attempt, iteration=iteration, metrics={"loss": loss})


ERROR = ErrorInfo(type="ValueError", message="bad\nluck " + "x" * 200)


def test_a_trial_that_ends_is_one_line() -> None:
    watched = Watched()
    assert watched.see(TrialStarted(trial=0, attempt=1), row(1), row(2)) == []
    assert watched.see(TrialReturned(trial=0, attempt=1)) == ["✓ t_00000  completed  2 it  loss=0.25"]


def test_results_are_lines_when_asked_for() -> None:
    watched = Watched(verbose=2)
    lines = watched.see(TrialStarted(trial=0, attempt=1), row(1), row(2, loss=float("nan")))
    assert lines == ["  t_00000  iteration 1  loss=0.25", "  t_00000  iteration 2  loss=?"]


def test_a_failure_says_why_on_one_short_line() -> None:
    watched = Watched()
    (line,) = watched.see(TrialStarted(trial=0, attempt=1), TrialRaised(trial=0, attempt=1, error=ERROR))
    assert line.startswith("✗ t_00000  failed  no result  bad luck xxx")
    assert len(line) < 120


def test_a_retry_says_that_it_is_one() -> None:
    watched = Watched(max_failures=1)
    (line,) = watched.see(
        TrialStarted(trial=0, attempt=1), WorkerLost(trial=0, attempt=1, cause=LossCause.CRASHED, detail="signal 9")
    )
    assert line == "↻ t_00000  lost, tries again: crashed: signal 9 (1 failure, 0 more allowed)"


def test_a_trial_that_is_given_up_is_not_promised_more() -> None:
    watched = Watched(max_failures=4, rules=[Rule("bad", "give_up", 1)])
    (line,) = watched.see(TrialStarted(trial=0, attempt=1), TrialRaised(trial=0, attempt=1, error=ERROR))
    assert line.endswith("… (1 failure)")


@pytest.mark.parametrize("cause", [LossCause.NOT_STARTED, LossCause.DRIVER_LOST])
def test_what_the_user_need_not_know_is_not_said(cause: LossCause) -> None:
    assert Watched().see(WorkerLost(trial=0, attempt=1, cause=cause)) == []


def test_a_trial_that_makes_room_for_another_one_is_not_said_to_be_lost() -> None:
    watched = Watched(scheduler=ASHA(max_t=16, grace_period=1), num_trials=2, logical_slots=2)
    watched.core.handle(TrialsSuggested(draws=[Draw()]))
    assert watched.see(TrialStarted(trial=0, attempt=1), row(1), row(2), row(3), row(4)) == []
    assert watched.core.state.trials[0].status is TrialStatus.STOPPING
    assert watched.see(TrialHalted(trial=0, attempt=1)) == []
    assert watched.core.state.trials[1].status is TrialStatus.LAUNCHING


@pytest.mark.parametrize("saves", [True, False])
def test_a_trial_that_halts_although_nobody_asked_may_have_lost_rows(*, saves: bool) -> None:
    """Its worker has not heard of the driver for the time of its lease."""
    watched = Watched()
    watched.see(TrialStarted(trial=0, attempt=1), *(saved(0, 1) if saves else [row(1)]), row(2))
    (line,) = watched.see(TrialHalted(trial=0, attempt=1))
    began = "iteration 1" if saves else "the beginning"
    assert line == f"↻ t_00000  was cut off from the driver after 2 it  loss=0.25, goes on from {began}"
    assert watched.core.state.trials[0].attempt == 2


def test_where_it_goes_on_is_said_before_it_does() -> None:
    """There is no place for it, and what it has saved is not published yet."""
    watched = Watched()
    watched.see(TrialStarted(trial=0, attempt=1), *saved(0, 1)[:-1], row(2), CapacityChanged(max_live=0))
    (line,) = watched.see(TrialHalted(trial=0, attempt=1))
    assert line.endswith("goes on from what it has just saved")
    watched = Watched()
    watched.see(TrialStarted(trial=0, attempt=1), *saved(0, 1), row(2), CapacityChanged(max_live=0))
    (line,) = watched.see(TrialHalted(trial=0, attempt=1))
    assert line.endswith("goes on from iteration 1")


def test_trouble_with_a_checkpoint_is_a_warning() -> None:
    watched = Watched()
    (line,) = watched.see(SaveFailed(trial=0, attempt=1, iteration=7, error=ERROR))
    assert line.startswith("! t_00000  save failed at iteration 7: bad luck")


def test_a_resumed_sweep_says_where_it_stands() -> None:
    watched = Watched()
    watched.see(TrialStarted(trial=0, attempt=1), row(1), TrialReturned(trial=0, attempt=1))
    lines = watched.see(DriverStarted(generation=2, settings=Settings(num_trials=1)))
    assert lines == ["· resumed: 1 trials so far, 1 of them ended"]


def test_the_end_says_how_many_trials_there_were_and_what_they_were_lost_of() -> None:
    watched = Watched(max_failures=-1)
    watched.see(TrialStarted(trial=0, attempt=1), row(1))
    assert watched.summary == ""
    for attempt, how in enumerate(["SIGSEGV", "SIGSEGV", "exit code 3"], 1):
        watched.see(WorkerLost(trial=0, attempt=attempt, cause=LossCause.CRASHED, exit=how))
    watched.see(WorkerLost(trial=0, attempt=4, cause=LossCause.PREEMPTED), TrialReturned(trial=0, attempt=5))
    lost = "2 crashed: SIGSEGV, 1 crashed: exit code 3, 1 preempted"
    assert watched.summary == f"= 1 trials: 1 completed; attempts lost: {lost}"
