"""One worker after another is stopped, killed or asked to decide, and the executor says what became of its trial."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.commands import ContinueTrial, InterruptTrial, KillTrial, StopTrial
from tunekit.core.events import (
    ResultReported,
    TrialHalted,
    TrialRaised,
    TrialReturned,
    TrialStarted,
    WorkerLost,
)
from tunekit.types import LossCause

pytestmark = pytest.mark.ray

Make = Callable[..., Any]


def iterations(events: list[Any]) -> list[int]:
    return [event.iteration for event in events if isinstance(event, ResultReported)]


def test_a_killed_worker_says_its_last_words_first_and_is_replaced(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, rows=5, sleep_s=60)
    pid = sweep.pid(trial)
    sweep.until(lambda: len(iterations(sweep.of(trial))) == 5)
    os.kill(pid, signal.SIGKILL)
    lost = sweep.await_event(WorkerLost, trial)
    assert lost.cause is LossCause.CRASHED
    assert sweep.of(trial)[-1] is lost
    sweep.launch(trial, attempt=2, rows=2)
    sweep.await_event(TrialReturned, trial, 2)
    assert sweep.pid(trial, 2) != pid


def test_orders_survive_the_mailbox(shared_rig: Any, find_processes: Callable[[str], list[int]]) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, until=1, rows=3)
    sweep.until(lambda: iterations(sweep.of(trial)) == [1])
    os.kill(find_processes("ray::Mailbox")[0], signal.SIGKILL)
    sweep.do(ContinueTrial(trial=trial, attempt=1, until=2))  # Posted into a process that is dying.
    sweep.until(lambda: iterations(sweep.of(trial)) == [1, 2])
    sweep.do(StopTrial(trial=trial, attempt=1))
    sweep.await_event(TrialHalted, trial)


def test_horizons_are_answered(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, until=1, rows=1000)
    for iteration in range(1, 21):
        sweep.until(lambda last=iteration: iterations(sweep.of(trial)) == list(range(1, last + 1)))
        sweep.do(ContinueTrial(trial=trial, attempt=1, until=iteration + 1))
    sweep.until(lambda: len(iterations(sweep.of(trial))) == 21)
    sweep.do(StopTrial(trial=trial, attempt=1))
    sweep.await_event(TrialHalted, trial)
    assert iterations(sweep.of(trial)) == list(range(1, 22))


def test_a_stop_comes_in_the_middle_of_a_trial(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, rows=100_000, pause_s=0.01)
    sweep.until(lambda: iterations(sweep.of(trial)))
    sweep.do(StopTrial(trial=trial, attempt=1))
    sweep.await_event(TrialHalted, trial)
    sweep.launch(trial + 1)
    sweep.await_event(TrialReturned, trial + 1)
    assert sweep.pid(trial + 1) == sweep.pid(trial), "a stop is no reason to give a process up"


def test_a_trial_that_waits_is_stopped_without_being_started(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, sleep_s=60)
    sweep.pid(trial)
    sweep.launch(trial + 1)
    sweep.do(StopTrial(trial=trial + 1, attempt=1))
    sweep.await_event(TrialHalted, trial + 1)
    assert len(sweep.of(trial + 1)) == 1
    sweep.do(StopTrial(trial=trial, attempt=1), InterruptTrial(trial=trial, attempt=1))
    sweep.await_event(TrialHalted, trial)


def test_a_sleeping_function_is_interrupted(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, sleep_s=60)
    sweep.pid(trial)
    sweep.do(StopTrial(trial=trial, attempt=1), InterruptTrial(trial=trial, attempt=1))
    sweep.await_event(TrialHalted, trial)
    sweep.launch(trial + 1, rows=1)
    sweep.await_event(TrialReturned, trial + 1)
    assert sweep.pid(trial + 1) != sweep.pid(trial), "an interrupted process is not used again"


def test_a_stopped_process_is_killed_and_reported_at_once(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, sleep_s=60)
    pid = sweep.pid(trial)
    os.kill(pid, signal.SIGSTOP)
    sweep.do(KillTrial(trial=trial, attempt=1))
    assert sweep.await_event(WorkerLost, trial).cause is LossCause.KILLED
    assert Path(f"/proc/{pid}").exists(), "the report does not wait for the process"
    sweep.launch(trial, attempt=2)
    sweep.await_event(TrialReturned, trial, 2)
    sweep.until_gone(pid)


def test_a_kill_that_comes_too_late_is_not_charged_to_the_next_trial(rig: Make, reporter: Any) -> None:
    sweep = rig(reporter, max_concurrent_trials=1, prefetch=2)
    sweep.launch(0)
    sweep.await_event(TrialReturned)
    sweep.launch(1, rows=1, pause_s=0.5)
    sweep.launch(2, sleep_s=60)
    sweep.pid(1)
    assert sweep.executor._pool.holder((2, 1)) is not None
    with sweep.executor._lock:
        time.sleep(1.0)  # The first one ends and the second one starts while the driver is busy.
        sweep.do(KillTrial(trial=1, attempt=1))
    lost = sweep.await_event(WorkerLost, 2)
    assert lost.cause is LossCause.NOT_STARTED
    assert sweep.of(2, 1, TrialStarted), "it had started, and is spared all the same"
    assert sweep.of(1, 1, TrialReturned)


def test_a_terminated_process_is_a_loss_and_no_error_of_the_user(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, rows=1, sleep_s=60)
    pid = sweep.pid(trial)
    sweep.until(lambda: iterations(sweep.of(trial)))
    os.kill(pid, signal.SIGTERM)
    sweep.await_event(WorkerLost, trial)
    assert not sweep.of(trial, 1, TrialRaised)
