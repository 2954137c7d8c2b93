"""A sweep in one process that is arranged as on Ray: the driver takes its turns while others publish and compute.

Everything is what production has, its publisher above all, but for Ray itself: the trials run one after another on the
calling thread, as in a worker process, and the driver has a thread of its own.
"""

from __future__ import annotations

import queue
import threading
from typing import Any
from unittest import mock

import tunekit as tk
from tunekit.core.commands import ContinueTrial, LaunchTrial, StopTrial
from tunekit.core.events import CapacityChanged, Event, LaunchFailed
from tunekit.runtime.attempt.attempt import run_attempt
from tunekit.runtime.attempt.class_trial import release
from tunekit.runtime.driver.driver import Driver
from tunekit.runtime.line.launching import spec_or_failure
from tunekit.runtime.line.spec import Delivery, ExecutorCommand
from tunekit.runtime.saving.staging_slots import SLOTS
from tunekit.runtime.sweep import sweep as sweep_module
from tunekit.runtime.sweep.opening import OpenSweep

DRIVER = "driver"
"""The name of its thread."""
MAX_REPEATED = 3
"""Rows of one sweep that a death may cost if each row is saved: two saves can be under way behind the newest row."""


def fit(tuner: tk.Tuner) -> tk.ResultGrid:
    """Run the sweep to its end, or go on with it."""
    with mock.patch.object(sweep_module, "_run_on_ray", _run):
        return sweep_module.fit(tuner._plan, b"not needed")


class _OneWorker:
    """An executor with room for one attempt that runs and one that waits."""

    def __init__(self, inbox: queue.SimpleQueue[Delivery]) -> None:
        self.launches: queue.SimpleQueue[LaunchTrial | None] = queue.SimpleQueue()
        self.stop: StopTrial | None = None
        """What the running attempt has been told, or any one when the driver has gone."""
        inbox.put(Delivery([CapacityChanged(max_live=2)]))

    def execute(self, commands: list[ExecutorCommand]) -> None:
        for command in commands:
            assert isinstance(command, LaunchTrial), f"{command}: this sweep needs an executor that can do more"
            self.launches.put(command)

    def acknowledge(self, tokens: list[object]) -> None:
        pass

    def close(self) -> None:
        self.stop = StopTrial(trial=0, attempt=0, reason="the driver has gone")
        self.launches.put(None)


class _Channel:
    """Passes each event on at once."""

    def __init__(self, worker: _OneWorker, inbox: queue.SimpleQueue[Delivery]) -> None:
        self._worker = worker
        self._inbox = inbox
        self.is_saving = False

    def send(self, event: Event) -> None:
        self._inbox.put(Delivery([event]))

    def wait(self) -> ContinueTrial | StopTrial:
        raise AssertionError("a trial waits at its horizon: this sweep needs an executor that can do more")

    def pending_stop(self) -> StopTrial | None:
        return self._worker.stop

    def outlook(self) -> None:
        return None

    def flush(self) -> None:
        pass


def _run(sweep: OpenSweep, driver: Driver, inbox: queue.SimpleQueue[Delivery], *_: object) -> None:
    worker = _OneWorker(inbox)
    failures: list[BaseException] = []

    def drive() -> None:
        try:
            driver.attach(worker)
            driver.run()
        except BaseException as error:  # noqa: BLE001 - raised below, where Ray's driver would raise it
            failures.append(error)
        finally:
            worker.close()

    thread = threading.Thread(target=drive, name=DRIVER, daemon=True)
    thread.start()
    try:
        _work(sweep, worker, inbox)
    finally:
        thread.join()
        release()
        SLOTS.release()
    if failures:
        raise failures[0]


def _work(sweep: OpenSweep, worker: _OneWorker, inbox: queue.SimpleQueue[Delivery]) -> None:
    told: Any = sweep.plan.sweep_spec(sweep.seed, nonce=sweep.nonce)
    while (launch := worker.launches.get()) is not None:
        spec = spec_or_failure(sweep.spec_of, launch)
        if isinstance(spec, LaunchFailed):
            inbox.put(Delivery([spec]))
        else:
            run_attempt(told, spec, sweep.plan.trainable, _Channel(worker, inbox), sweep.io)
