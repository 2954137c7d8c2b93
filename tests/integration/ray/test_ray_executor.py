"""The executor on a real cluster: order, losses, stops, and nothing left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tunekit as tk
from tunekit.core.commands import ContinueTrial, InterruptTrial, KillTrial, StopTrial
from tunekit.core.events import (
    LaunchFailed,
    ResultReported,
    TrialHalted,
    TrialRaised,
    TrialReturned,
    TrialStarted,
    WorkerLost,
)
from tunekit.errors import ResourcesError, TrainableError
from tunekit.types import LossCause

pytestmark = pytest.mark.ray

Make = Callable[..., Any]


def make_reporter() -> Callable[[dict[str, Any]], None]:
    """Return a function by value: workers cannot import this file."""

    def reporter(config: dict[str, Any]) -> None:
        for i in range(config.get("rows", 0)):
            tk.report({"i": i})
            time.sleep(config.get("pause_s", 0.0))
        time.sleep(config.get("sleep_s", 0.0))

    return reporter


def iterations(events: list[Any]) -> list[int]:
    return [event.iteration for event in events if isinstance(event, ResultReported)]


def test_each_trial_tells_its_story_once_and_in_order(rig: Make) -> None:
    sweep = rig(make_reporter(), prefetch=4)
    for trial in range(50):
        sweep.launch(trial, rows=3)
    sweep.until(lambda: sum(isinstance(event, TrialReturned) for event in sweep.events) == 50)
    for trial in range(50):
        kinds = [type(event) for event in sweep.of(trial)]
        assert kinds == [TrialStarted, *[ResultReported] * 4, TrialReturned] or kinds == [
            TrialStarted,
            *[ResultReported] * 3,
            TrialReturned,
        ]
        assert iterations(sweep.of(trial))[:3] == [1, 2, 3]
    places = {event.place.pid for event in sweep.events if isinstance(event, TrialStarted)}
    assert len(places) <= 2, "processes are used again"
    assert sweep.capacity in {2, 10}


def test_a_killed_worker_says_its_last_words_first_and_is_replaced(rig: Make) -> None:
    sweep = rig(make_reporter(), max_concurrent_trials=1)
    sweep.launch(0, rows=5, sleep_s=60)
    pid = sweep.pid()
    sweep.until(lambda: len(iterations(sweep.of(0))) == 5)
    os.kill(pid, signal.SIGKILL)
    lost = sweep.await_event(WorkerLost)
    assert lost.cause is LossCause.CRASHED
    assert sweep.of(0)[-1] is lost
    sweep.launch(0, attempt=2, rows=2)
    sweep.await_event(TrialReturned, attempt=2)
    assert sweep.pid(attempt=2) != pid


def test_what_waits_behind_a_crash_is_not_charged(rig: Make) -> None:
    sweep = rig(make_reporter(), max_concurrent_trials=1, prefetch=2)
    sweep.launch(0)
    sweep.await_event(TrialReturned)  # It was brief, so that others are prefetched now.
    sweep.launch(1, sleep_s=60)
    sweep.launch(2)
    os.kill(sweep.pid(1), signal.SIGKILL)
    assert sweep.await_event(WorkerLost, 1).cause is LossCause.CRASHED
    assert sweep.await_event(WorkerLost, 2).cause is LossCause.NOT_STARTED
    sweep.launch(2, attempt=2)
    sweep.await_event(TrialReturned, 2, 2)


def test_a_killed_mailbox_loses_and_doubles_nothing(rig: Make, find_processes: Callable[[str], list[int]]) -> None:
    sweep = rig(make_reporter())
    for trial in range(2):
        sweep.launch(trial, rows=300, pause_s=0.01)
    sweep.until(lambda: len(iterations(sweep.of(0))) > 20 and len(iterations(sweep.of(1))) > 20)
    before = find_processes("ray::Mailbox")
    assert len(before) == 1
    os.kill(before[0], signal.SIGKILL)
    for trial in range(2):
        sweep.await_event(TrialReturned, trial)
        rows = [event for event in sweep.of(trial, 1, ResultReported) if not event.final]
        assert [row.metrics["i"] for row in rows] == list(range(300))
    assert find_processes("ray::Mailbox") != before


def test_orders_survive_the_mailbox(rig: Make, find_processes: Callable[[str], list[int]]) -> None:
    sweep = rig(make_reporter(), max_concurrent_trials=1)
    sweep.launch(0, until=1, rows=3)
    sweep.until(lambda: iterations(sweep.of(0)) == [1])
    os.kill(find_processes("ray::Mailbox")[0], signal.SIGKILL)
    sweep.do(ContinueTrial(trial=0, attempt=1, until=2))  # Posted into a process that is dying.
    sweep.until(lambda: iterations(sweep.of(0)) == [1, 2])


def test_horizons_are_answered(rig: Make) -> None:
    sweep = rig(make_reporter(), max_concurrent_trials=1)
    sweep.launch(0, until=1, rows=1000)
    for iteration in range(1, 21):
        sweep.until(lambda last=iteration: iterations(sweep.of(0)) == list(range(1, last + 1)))
        sweep.do(ContinueTrial(trial=0, attempt=1, until=iteration + 1))
    sweep.until(lambda: len(iterations(sweep.of(0))) == 21)
    sweep.do(StopTrial(trial=0, attempt=1))
    sweep.await_event(TrialHalted)
    assert iterations(sweep.of(0)) == list(range(1, 22))


def test_a_stop_comes_in_the_middle_of_a_trial(rig: Make) -> None:
    sweep = rig(make_reporter(), max_concurrent_trials=1)
    sweep.launch(0, rows=100_000, pause_s=0.01)
    sweep.until(lambda: iterations(sweep.of(0)))
    sweep.do(StopTrial(trial=0, attempt=1))
    sweep.await_event(TrialHalted)
    sweep.launch(1)
    sweep.await_event(TrialReturned, 1)
    assert sweep.pid(1) == sweep.pid(0), "a stop is no reason to give a process up"


def test_a_trial_that_waits_is_stopped_without_being_started(rig: Make) -> None:
    sweep = rig(make_reporter(), max_concurrent_trials=1)
    sweep.launch(0, sleep_s=60)
    sweep.pid()
    sweep.launch(1)
    sweep.do(StopTrial(trial=1, attempt=1))
    sweep.await_event(TrialHalted, 1)
    assert len(sweep.of(1)) == 1


def test_a_sleeping_function_is_interrupted(rig: Make) -> None:
    sweep = rig(make_reporter(), max_concurrent_trials=1)
    sweep.launch(0, sleep_s=60)
    sweep.pid()
    sweep.do(StopTrial(trial=0, attempt=1), InterruptTrial(trial=0, attempt=1))
    sweep.await_event(TrialHalted)
    sweep.launch(1, rows=1)
    sweep.await_event(TrialReturned, 1)
    assert sweep.pid(1) != sweep.pid(0), "an interrupted process is not used again"


def test_a_stopped_process_is_killed_and_reported_at_once(rig: Make) -> None:
    sweep = rig(make_reporter(), max_concurrent_trials=1)
    sweep.launch(0, sleep_s=60)
    pid = sweep.pid()
    os.kill(pid, signal.SIGSTOP)
    sweep.do(KillTrial(trial=0, attempt=1))
    assert sweep.await_event(WorkerLost).cause is LossCause.KILLED
    assert Path(f"/proc/{pid}").exists(), "the report does not wait for the process"
    sweep.launch(0, attempt=2)
    sweep.await_event(TrialReturned, attempt=2)
    assert not Path(f"/proc/{pid}").exists()


def test_a_terminated_process_is_a_loss_and_no_error_of_the_user(rig: Make) -> None:
    sweep = rig(make_reporter(), max_concurrent_trials=1)
    sweep.launch(0, rows=1, sleep_s=60)
    pid = sweep.pid()
    sweep.until(lambda: iterations(sweep.of(0)))
    os.kill(pid, signal.SIGTERM)
    sweep.await_event(WorkerLost)
    assert not sweep.of(0, 1, TrialRaised)


def test_a_process_in_which_user_code_raised_is_not_used_again(rig: Make) -> None:
    def raises(config: dict[str, Any]) -> None:
        if config["raises"]:
            raise ValueError("no")

    sweep = rig(raises, max_concurrent_trials=1)
    sweep.launch(0, raises=True)
    assert sweep.await_event(TrialRaised).error.type == "ValueError"
    sweep.launch(1, raises=False)
    sweep.await_event(TrialReturned, 1)
    assert sweep.pid(1) != sweep.pid(0)


def test_fresh_processes(rig: Make) -> None:
    sweep = rig(make_reporter(), max_concurrent_trials=1, prefetch=4, sweep={"fresh_process": True})
    for trial in range(3):
        sweep.launch(trial)
    assert len({sweep.pid(trial) for trial in range(3)}) == 3


def test_parameters_come_through_the_object_store(rig: Make) -> None:
    def total(config: dict[str, Any], data: Any) -> dict[str, float]:
        return {"total": float(data.sum()), "is_shared": float(not data.flags.writeable)}

    data = np.ones(1_000_000)
    sweep = rig(tk.with_parameters(total, data=data), max_concurrent_trials=1)
    sweep.launch(0)
    sweep.await_event(TrialReturned)
    assert sweep.of(0, 1, ResultReported)[-1].metrics == {"total": 1e6, "is_shared": 1.0}


def test_what_cannot_be_sent_is_said(rig: Make) -> None:
    """A configuration fails its own trial; a trainable fails before any trial."""
    sweep = rig(make_reporter(), max_concurrent_trials=1)
    sweep.launch(0, lock=threading.Lock())
    assert "lock" in sweep.await_event(LaunchFailed).error.message
    lock = threading.Lock()
    with pytest.raises(TrainableError, match="lock"):
        rig(lambda config: lock.acquire())


def test_resources_that_no_node_has_are_refused_before_anything_starts(rig: Make) -> None:
    with pytest.raises(ResourcesError, match=r"CPU=3.*no node.*CPU=2"):
        rig(tk.with_resources(make_reporter(), {"cpu": 3}))


def test_shapes_take_turns(rig: Make) -> None:
    """A trial that needs the whole machine gets it from idle workers that hold halves of it."""
    sweep = rig(make_reporter())
    sweep.launch(0)
    sweep.launch(1)
    sweep.until(lambda: sweep.of(0, 1, TrialReturned) and sweep.of(1, 1, TrialReturned))
    sweep.resources = {"CPU": 2.0}
    sweep.launch(2)
    sweep.await_event(TrialReturned, 2)
    sweep.resources = {"CPU": 1.0}
    sweep.launch(3)
    sweep.await_event(TrialReturned, 3)


def test_nothing_is_left_behind(rig: Make, find_processes: Callable[[str], list[int]]) -> None:
    sweep = rig(make_reporter())
    sweep.launch(0)
    sweep.launch(1, sleep_s=60)
    sweep.await_event(TrialReturned, 0)
    sweep.pid(1)
    sweep.executor.close()
    assert not find_processes("ray::Worker")
    deadline = time.monotonic() + 5
    while find_processes("ray::Mailbox") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not find_processes("ray::Mailbox")
