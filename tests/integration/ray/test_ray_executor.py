"""The executor on a real cluster, from its start to its end."""

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
from tunekit.core.commands import ContinueTrial
from tunekit.core.events import (
    LaunchFailed,
    ResultReported,
    TrialRaised,
    TrialReturned,
    TrialStarted,
    WorkerLost,
)
from tunekit.errors import ResourcesError, TrainableError
from tunekit.runtime.executor import crew, ray_executor
from tunekit.runtime.executor.first_worker import actors
from tunekit.runtime.line.door import door_name
from tunekit.types import LossCause

pytestmark = pytest.mark.ray

Make = Callable[..., Any]


def iterations(events: list[Any]) -> list[int]:
    return [event.iteration for event in events if isinstance(event, ResultReported)]


def test_each_trial_tells_its_story_once_and_in_order(rig: Make, reporter: Any) -> None:
    sweep = rig(reporter, prefetch=4)
    for trial in range(50):
        sweep.launch(trial, rows=3)
    sweep.until(lambda: sum(isinstance(event, TrialReturned) for event in sweep.events) == 50)
    for trial in range(50):
        kinds = [type(event) for event in sweep.of(trial)]
        assert kinds == [TrialStarted, ResultReported, ResultReported, ResultReported, TrialReturned]
        assert iterations(sweep.of(trial)) == [1, 2, 3]
    places = {event.place.pid for event in sweep.events if isinstance(event, TrialStarted)}
    assert len(places) <= 2, "processes are used again"
    assert sweep.capacity in {2, 10}


def test_what_waits_behind_a_crash_is_not_charged(rig: Make, reporter: Any, all_are_brief: None) -> None:
    sweep = rig(reporter, max_concurrent_trials=1, prefetch=2)
    sweep.launch(0)
    sweep.await_event(TrialReturned)  # It was brief, so that others are prefetched now.
    sweep.launch(1, sleep_s=600)
    sweep.launch(2)
    os.kill(sweep.pid(1), signal.SIGKILL)
    assert sweep.await_event(WorkerLost, 1).cause is LossCause.CRASHED
    assert sweep.await_event(WorkerLost, 2).cause is LossCause.NOT_STARTED
    sweep.launch(2, attempt=2)
    sweep.await_event(TrialReturned, 2, 2)


def test_a_killed_relay_loses_and_doubles_nothing(
    rig: Make, reporter: Any, monkeypatch: pytest.MonkeyPatch, find_processes: Callable[[str], list[int]]
) -> None:
    """As from another machine, or from a container that does not see the driver's sockets."""
    monkeypatch.setattr(crew, "actors", lambda _, relay: actors("elsewhere", relay))
    monkeypatch.setattr(ray_executor, "_RELAY_S", 0.5)
    before = set(find_processes("ray::Relay"))  # Another test's, perhaps, that is about to end.
    sweep = rig(reporter)
    for trial in range(2):
        sweep.launch(trial, until=100, rows=300, pause_s=0.01)
    sweep.until(lambda: len(iterations(sweep.of(0))) > 20 and len(iterations(sweep.of(1))) > 20)
    (pid,) = set(find_processes("ray::Relay")) - before
    os.kill(pid, signal.SIGKILL)
    for trial in range(2):  # Ordered while nobody can pass it on.
        sweep.do(ContinueTrial(trial=trial, attempt=1, until=1000))
    for trial in range(2):
        sweep.await_event(TrialReturned, trial)
        assert [row.metrics["i"] for row in sweep.of(trial, 1, ResultReported)] == list(range(300))
    assert set(find_processes("ray::Relay")) - before - {pid}


def test_a_worker_of_this_machine_needs_no_relay(
    rig: Make, reporter: Any, monkeypatch: pytest.MonkeyPatch, find_processes: Callable[[str], list[int]]
) -> None:
    name, before = door_name(), set(find_processes("ray::Relay"))
    monkeypatch.setattr(crew, "door_name", lambda: name)
    sweep = rig(reporter, max_concurrent_trials=1)
    sweep.launch(0, rows=1, sleep_s=600)
    sweep.await_event(ResultReported)
    # The door itself, and its end of the worker's line.
    sweep.until(lambda: Path("/proc/net/unix").read_text().count(f"@{name}\n") == 1 + 1)
    assert set(find_processes("ray::Relay")) <= before


def test_a_process_in_which_user_code_raised_is_not_used_again(rig: Make, reporter: Any) -> None:
    def raises(config: dict[str, Any]) -> None:
        if config["raises"]:
            raise ValueError("no")

    sweep = rig(raises, max_concurrent_trials=1)
    sweep.launch(0, raises=True)
    assert sweep.await_event(TrialRaised).error.type == "ValueError"
    sweep.launch(1, raises=False)
    sweep.await_event(TrialReturned, 1)
    assert sweep.pid(1) != sweep.pid(0)


def test_fresh_processes(rig: Make, reporter: Any) -> None:
    sweep = rig(reporter, max_concurrent_trials=1, prefetch=4, sweep={"fresh_process": True})
    for trial in range(3):
        sweep.launch(trial)
    assert len({sweep.pid(trial) for trial in range(3)}) == 3


def test_parameters_come_through_the_object_store(rig: Make, reporter: Any) -> None:
    ballast = bytes(100_000)  # Which makes the trainable itself a large object.

    def total(config: dict[str, Any], data: Any) -> dict[str, float]:
        assert len(ballast) == 100_000
        return {"total": float(data.sum()), "is_shared": float(not data.flags.writeable)}

    data = np.ones(1_000_000)
    sweep = rig(tk.with_parameters(total, data=data), max_concurrent_trials=1)
    sweep.launch(0)
    sweep.await_event(TrialReturned)
    assert sweep.of(0, 1, ResultReported)[-1].metrics == {"total": 1e6, "is_shared": 1.0}


def test_each_attempt_has_its_own_parameters(rig: Make) -> None:
    """Two trials in one process, of which each changes in place what it can."""

    def greedy(config: dict[str, Any], bag: list[int], array: Any) -> dict[str, float]:
        bag.append(0)
        return {"size": float(len(bag)), "is_shared": float(not array.flags.writeable)}

    sweep = rig(tk.with_parameters(greedy, bag=[1], array=np.ones(3)), max_concurrent_trials=1)
    for trial in range(2):
        sweep.launch(trial)
        sweep.await_event(TrialReturned, trial)
        assert sweep.of(trial, 1, ResultReported)[-1].metrics == {"size": 2.0, "is_shared": 1.0}
    assert sweep.pid(0) == sweep.pid(1)


def test_what_cannot_be_sent_is_said(rig: Make, reporter: Any) -> None:
    """A configuration fails its own trial; a trainable fails before any trial."""
    sweep = rig(reporter, max_concurrent_trials=1)
    sweep.launch(0, lock=threading.Lock())
    failed = sweep.await_event(LaunchFailed)
    assert "lock" in failed.error.message
    assert not failed.retryable
    lock = threading.Lock()
    with pytest.raises(TrainableError, match="lock"):
        rig(lambda config: lock.acquire())


def test_resources_that_no_node_has_are_refused_before_anything_starts(rig: Make, reporter: Any) -> None:
    with pytest.raises(ResourcesError, match=r"CPU=3.*no node.*CPU=2"):
        rig(tk.with_resources(reporter, {"cpu": 3}))


def test_what_ray_refuses_fails_its_trial_alone(rig: Make, reporter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = rig(reporter, max_concurrent_trials=1)
    hire = sweep.executor._crew.hire

    def refuse(record: Any, *rest: Any, **named: Any) -> None:
        if dict(record.shape)["CPU"] == 2.0:
            raise ValueError("no such thing")
        hire(record, *rest, **named)

    monkeypatch.setattr(sweep.executor._crew, "hire", refuse)
    sweep.resources = {"CPU": 2.0}
    sweep.launch(0)
    failed = sweep.await_event(LaunchFailed)
    assert (failed.error.message, failed.retryable, failed.fatal) == ("no such thing", False, False)
    sweep.resources = {"CPU": 1.0}
    sweep.launch(1)
    sweep.await_event(TrialReturned, 1)


def test_a_function_that_raises_fails_its_trial_alone(
    rig: Make, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = rig(reporter, max_concurrent_trials=1)
    spec_of = sweep.executor._spec_of

    def raising(launch: Any) -> Any:
        if launch.trial == 0:
            raise KeyError("width")
        return spec_of(launch)

    monkeypatch.setattr(sweep.executor, "_spec_of", raising)
    sweep.launch(0)
    sweep.launch(1)
    failed = sweep.await_event(LaunchFailed)
    assert (failed.error.type, failed.retryable) == ("KeyError", False)
    sweep.await_event(TrialReturned, 1)


def test_idle_workers_clean_up_before_they_leave(rig: Make, tmp_path: Path) -> None:
    """An instance that is kept for the next trial is cleaned up at the end of the sweep, and has its time for it."""

    class Slow(tk.Trainable):
        def step(self) -> dict[str, Any]:
            return {"x": 1, "done": True}

        def reset_config(self, config: dict[str, Any]) -> bool:
            return True

        def cleanup(self) -> None:
            time.sleep(2.0)
            (tmp_path / "cleaned").touch()

    sweep = rig(Slow, max_concurrent_trials=1, sweep={"reuse_actors": True}, leave_s=240.0)
    sweep.launch(0)
    sweep.await_event(TrialReturned)
    sweep.executor.close()
    assert (tmp_path / "cleaned").exists()


def test_shapes_take_turns(rig: Make, reporter: Any) -> None:
    """A trial that needs the whole machine gets it from idle workers that hold halves of it."""
    sweep = rig(reporter)
    sweep.launch(0)
    sweep.launch(1)
    sweep.until(lambda: sweep.of(0, 1, TrialReturned) and sweep.of(1, 1, TrialReturned))
    sweep.resources = {"CPU": 2.0}
    sweep.launch(2)
    sweep.await_event(TrialReturned, 2)
    sweep.resources = {"CPU": 1.0}
    sweep.launch(3)
    sweep.await_event(TrialReturned, 3)


def test_nothing_is_left_behind(rig: Make, reporter: Any, find_processes: Callable[[str], list[int]]) -> None:
    sweep = rig(reporter)
    sweep.launch(0)
    sweep.launch(1, sleep_s=600)
    sweep.await_event(TrialReturned, 0)
    sweep.pid(1)
    sweep.until(lambda: all(record.is_up for record in sweep.executor._pool.workers.values()))
    assert find_processes("ray::Worker"), "it is known how to find them"
    sweep.executor.close()
    for pid in find_processes("ray::Worker") + find_processes("ray::Relay"):
        sweep.until_gone(pid)
