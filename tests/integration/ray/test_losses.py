"""One worker after another is stopped, killed or asked to decide, and the executor says what became of its trial."""

from __future__ import annotations

import os
import platform
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.core.commands import ContinueTrial, InterruptTrial, KillTrial, LaunchTrial, StopTrial
from tunekit.core.events import (
    ResultReported,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialStarted,
    WorkerLost,
)
from tunekit.runtime.executor import obituary
from tunekit.types import LossCause

pytestmark = pytest.mark.ray

Make = Callable[..., Any]
KERNEL_TELLS = tuple(map(int, platform.release().split(".")[:2])) >= (6, 15)


@pytest.fixture(autouse=True)
def obituaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until Ray has reaped a process, however long that takes: how it ended is known only then."""
    monkeypatch.setattr(obituary, "_WAIT_S", 240.0)


def await_file(path: Path) -> None:
    deadline = time.monotonic() + 240
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def iterations(events: list[Any]) -> list[int]:
    return [event.iteration for event in events if isinstance(event, ResultReported)]


def test_a_killed_worker_says_its_last_words_first_and_is_replaced(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, rows=5, sleep_s=600)
    pid = sweep.pid(trial)
    sweep.until(lambda: len(iterations(sweep.of(trial))) == 5)
    os.kill(pid, signal.SIGKILL)
    lost = sweep.await_event(WorkerLost, trial)
    assert (lost.cause, lost.exit) == (LossCause.CRASHED, "SIGKILL" if KERNEL_TELLS else "")
    assert lost.node == sweep.executor._cluster.here
    assert sweep.of(trial)[-1] is lost
    sweep.launch(trial, attempt=2, rows=2)
    sweep.await_event(TrialReturned, trial, 2)
    assert sweep.pid(trial, 2) != pid


def make_dying() -> Callable[[dict[str, Any]], None]:
    """Return a function that ends its process as its config says."""

    def dying(config: dict[str, Any]) -> None:
        import ctypes
        import sys
        import threading

        ways: dict[str, Callable[[], Any]] = {
            "segmentation fault": lambda: ctypes.string_at(0),
            "abort": os.abort,
            "exit of a thread": lambda: sys.exit(5),
            "exit of the process by a thread": lambda: os._exit(6),
        }
        tk.report({"is_alive": 1})
        while not Path(config["known"]).exists():  # Else it may be taken for a worker that did not come to it.
            time.sleep(0.01)
        thread = threading.Thread(target=ways[config["way"]])
        if "thread" in config["way"]:
            thread.start()
            thread.join()
        else:
            ways[config["way"]]()

    return dying


def test_each_way_to_die_has_its_name(rig: Make, tmp_path: Path) -> None:
    """A crash says its exit code or signal. Ray itself does not tell them."""
    sweep = rig(make_dying(), max_concurrent_trials=1)
    ways = {"segmentation fault": "SIGSEGV", "abort": "SIGABRT", "exit of the process by a thread": "exit code 6"}
    for trial, (way, how) in enumerate(ways.items()):
        sweep.launch(trial, way=way, known=str(tmp_path / way))
        sweep.await_event(ResultReported, trial)
        (tmp_path / way).touch()
        lost = sweep.await_event(WorkerLost, trial)
        if lost.exit or KERNEL_TELLS:
            assert (lost.cause, lost.exit) == (LossCause.CRASHED, how)
    sweep.launch(9, way="exit of a thread", known=str(tmp_path))
    sweep.await_event(TrialReturned, 9)


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
    sweep.launch(trial, sleep_s=600)
    sweep.pid(trial)
    sweep.launch(trial + 1)
    sweep.do(StopTrial(trial=trial + 1, attempt=1))
    sweep.await_event(TrialHalted, trial + 1)
    assert len(sweep.of(trial + 1)) == 1
    sweep.do(StopTrial(trial=trial, attempt=1), InterruptTrial(trial=trial, attempt=1))
    sweep.await_event(TrialHalted, trial)


def test_a_sleeping_function_is_interrupted(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, sleep_s=600)
    sweep.pid(trial)
    sweep.do(StopTrial(trial=trial, attempt=1), InterruptTrial(trial=trial, attempt=1))
    sweep.await_event(TrialHalted, trial)
    sweep.launch(trial + 1, rows=1)
    sweep.await_event(TrialReturned, trial + 1)
    assert sweep.pid(trial + 1) != sweep.pid(trial), "an interrupted process is not used again"


def test_a_stopped_process_is_killed_and_reported_at_once(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial, sleep_s=600)
    pid = sweep.pid(trial)
    os.kill(pid, signal.SIGSTOP)
    sweep.do(KillTrial(trial=trial, attempt=1))
    assert sweep.await_event(WorkerLost, trial).cause is LossCause.KILLED
    sweep.launch(trial, attempt=2)
    sweep.await_event(TrialReturned, trial, 2)
    sweep.until_gone(pid)


def test_a_kill_that_comes_too_late_is_not_charged_to_the_next_trial(
    rig: Make, reporter: Any, all_are_brief: None, tmp_path: Path
) -> None:
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    sweep = rig(reporter, max_concurrent_trials=1, prefetch=2)
    sweep.launch(0)
    sweep.await_event(TrialReturned)
    sweep.launch(1, rows=1, gate=str(gate))
    sweep.launch(2, attempt=2, begun=str(begun), sleep_s=600)  # Its start is known before any code of the user runs.
    sweep.pid(1)
    assert sweep.executor._pool.holder((2, 2)) is not None
    with sweep.executor._lock:
        gate.touch()  # The first one ends and the second one starts while the driver is busy.
        await_file(begun)
        sweep.do(KillTrial(trial=1, attempt=1))
    lost = sweep.await_event(WorkerLost, 2, 2)
    assert lost.cause is LossCause.NOT_STARTED
    assert sweep.of(2, 2, TrialStarted), "it had started, and is spared all the same"
    assert sweep.of(1, 1, TrialReturned)


def test_a_second_sigterm_ends_a_process_at_once(shared_rig: Any, tmp_path: Path) -> None:
    """It is no error of the user, in whose code Ray's handler raises."""
    sweep, trial, told = shared_rig, shared_rig.fresh(), tmp_path / "told"
    sweep.launch(trial, rows=1, told=str(told), sleep_s=600)
    pid = sweep.pid(trial)
    sweep.until(lambda: iterations(sweep.of(trial)))
    os.kill(pid, signal.SIGTERM)
    await_file(told)  # Two that come at once are one.
    assert Path(f"/proc/{pid}").exists(), "the first one leaves user code its time"
    os.kill(pid, signal.SIGTERM)
    assert sweep.await_event(TrialPreempted, trial).reason.startswith("SIGTERM, and it raised SystemExit")
    sweep.until_gone(pid)
    assert not sweep.of(trial, 1, TrialRaised | WorkerLost)


def test_an_idle_process_leaves_in_peace(shared_rig: Any) -> None:
    sweep, trial = shared_rig, shared_rig.fresh()
    sweep.launch(trial)
    pid = sweep.pid(trial)
    sweep.await_event(TrialReturned, trial)
    os.kill(pid, signal.SIGTERM)
    sweep.take(240)  # It says so, and leaves when that is acknowledged.
    sweep.until_gone(pid)
    sweep.launch(trial + 1)
    sweep.await_event(TrialReturned, trial + 1)
    assert len(sweep.of(trial + 1)) == 2
    assert sweep.pid(trial + 1) != pid


def test_a_process_that_was_told_to_end_is_preempted_however_it_ends(rig: Make, reporter: Any) -> None:
    """S003-10: by the end of its grace, or by whoever told it and did not wait for that."""
    for trial, grace_s in enumerate([0.5, 600.0]):
        sweep = rig(reporter, max_concurrent_trials=1, sweep={"preemption_grace_s": grace_s})
        sweep.launch(trial, rows=1, sleep_s=600)
        pid = sweep.pid(trial)
        sweep.until(lambda trial=trial, sweep=sweep: iterations(sweep.of(trial)))
        os.kill(pid, signal.SIGTERM)
        if trial == 1:
            sweep.until(lambda pool=sweep.executor._pool: any(record.notice for record in pool.workers.values()))
            os.kill(pid, signal.SIGKILL)
        lost = sweep.await_event(WorkerLost, trial)
        assert lost.cause is LossCause.PREEMPTED
        assert lost.exit == ("SIGKILL" if trial else "exit code 143")
        sweep.executor.close()


def test_a_node_is_avoided_if_there_is_another_one(rig: Make, reporter: Any, capfd: Any) -> None:
    """Ray takes the condition under which a worker is started; where all nodes are avoided, one of them has to do."""
    sweep = rig(reporter, max_concurrent_trials=1)
    sweep.do(LaunchTrial(trial=0, attempt=1, avoid=["0" * 56, "1" * 56]))
    sweep.await_event(TrialReturned)
    assert "was to avoid a node" not in capfd.readouterr().err
    sweep.do(LaunchTrial(trial=1, attempt=1, avoid=[sweep.executor._cluster.here]))
    sweep.await_event(TrialReturned, 1)
    sweep.launch(2, sleep_s=2.0)
    sweep.await_event(TrialReturned, 2)
    assert capfd.readouterr().err.count("was to avoid a node") == 1
