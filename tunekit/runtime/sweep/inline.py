"""Runs a sweep in this process, without Ray: for a debugger, for first steps, for tests.

The same core, the same journal, the same user code; only the executor is another one. Trials run one after another on
the calling thread, and the driver takes its turns inside their ``report`` calls.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from typing import Any

from tunekit.core.cadence import Outlook
from tunekit.core.commands import ContinueTrial, InterruptTrial, KillTrial, LaunchTrial, StopTrial, TellOutlook
from tunekit.core.events import CapacityChanged, Event, ResultReported, TrialHalted
from tunekit.errors import CoreBugError
from tunekit.runtime.attempt.attempt import run_attempt
from tunekit.runtime.attempt.class_trial import release
from tunekit.runtime.driver.driver import Driver
from tunekit.runtime.line.launching import SpecOf, refused
from tunekit.runtime.line.spec import Delivery, ExecutorCommand, SweepSpec
from tunekit.runtime.saving.staging_slots import SLOTS
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.trainable import OwnCopies

_BATCH = 100
"""Results that share one turn of the driver when nobody waits for a decision …"""
_GATHER_S = 0.1
"""… and seconds after which they are not kept waiting for more."""


class InlineExecutor:
    """Keeps what is to run next, and what the running trial has been told.

    Args:
        inbox: The driver's.
    """

    def __init__(self, inbox: queue.SimpleQueue[Delivery]) -> None:
        """Offer room for one trial."""
        self._inbox = inbox
        self._launches: deque[LaunchTrial] = deque()
        self.current: LaunchTrial | None = None
        self.answer: ContinueTrial | None = None
        self.outlook: Outlook | None = None
        self.stop: StopTrial | None = None
        inbox.put(Delivery([CapacityChanged(max_live=1)]))

    def next(self) -> LaunchTrial | None:
        """Take the next attempt to run, if there is one."""
        self.current = self._launches.popleft() if self._launches else None
        self.answer = self.outlook = self.stop = None
        return self.current

    def execute(self, commands: list[ExecutorCommand]) -> None:
        """Note what is to be done."""
        for command in commands:
            match command:
                case LaunchTrial():
                    self._launches.append(command)
                case ContinueTrial() if self._is_current(command):
                    self.answer = command
                case TellOutlook() if self._is_current(command):
                    self.outlook = command.outlook
                case StopTrial() if self._is_current(command):
                    self.stop = command
                case StopTrial():
                    self._cancel(command)
                case ContinueTrial() | TellOutlook() | InterruptTrial() | KillTrial():
                    pass  # User code has the only thread: it is stopped at its next report, and nowhere else.

    def acknowledge(self, tokens: list[object]) -> None:
        """Nobody waits for it."""

    def close(self) -> None:
        """Nothing was started."""

    def _is_current(self, command: ContinueTrial | TellOutlook | StopTrial) -> bool:
        current = self.current
        return current is not None and (current.trial, current.attempt) == (command.trial, command.attempt)

    def _cancel(self, command: StopTrial) -> None:
        key = (command.trial, command.attempt)
        self._launches = deque(launch for launch in self._launches if (launch.trial, launch.attempt) != key)
        self._inbox.put(Delivery([TrialHalted(trial=command.trial, attempt=command.attempt)]))


class InlineChannel:
    """Connects the running trial with the driver, in one thread.

    A failure of the driver itself (the journal's disk is full) must not look like a failure of user code: it is kept,
    the trial is stopped, and ``run_inline`` raises it.

    Checkpoints are finished behind the trial, so word of them comes from another thread, and the driver takes its turn
    there: until it has heard of a checkpoint there is none, and the trial's next report may be an hour away.
    """

    def __init__(self, driver: Driver, executor: InlineExecutor, inbox: queue.SimpleQueue[Delivery]) -> None:
        """Begin with nothing to say."""
        self._driver = driver
        self._executor = executor
        self._inbox = inbox
        self._turn = threading.RLock()
        """Held by the thread on which the driver takes a turn."""
        self._state = threading.Lock()
        """Guards what waits to be passed on."""
        self._outbox: list[Event] = []
        self._flushed_at = time.monotonic()
        self.failure: Exception | None = None
        self.is_saving = False

    def send(self, event: Event) -> None:
        """Pass an event on, now or soon."""
        with self._state:
            self._outbox.append(event)
        is_due = len(self._outbox) >= _BATCH or time.monotonic() - self._flushed_at > _GATHER_S
        if is_due or not isinstance(event, ResultReported) or not self._inbox.empty():
            self.flush()

    def flush(self) -> None:
        """Have the driver take a turn with all that was sent."""
        with self._turn:
            with self._state:
                events, self._outbox = self._outbox, []
            self._flushed_at = time.monotonic()
            if self.failure is not None or not events:
                return
            try:
                self._driver.take([Delivery(events)])
                self._driver.take_pending()
            except Exception as error:  # noqa: BLE001 - raised by run_inline, outside of user code
                self.failure = error

    def wait(self) -> ContinueTrial | StopTrial:
        """Return the decision about the row that was just sent."""
        self.flush()
        while self._is_kept_waiting():  # For a trial that rests before it is tried again.
            try:
                with self._turn:
                    self._driver.wait()
            except Exception as error:  # noqa: BLE001 - as in flush()
                self.failure = error
        answer, self._executor.answer = self._executor.answer, None
        stop = self.pending_stop()
        if stop is None and answer is None:
            self.failure = CoreBugError("a trial was left waiting at its horizon")
            return self._give_up()
        return stop or answer or self._give_up()

    def _is_kept_waiting(self) -> bool:
        """Return whether nothing is said yet of the row that was just sent, though something is to happen by itself."""
        said = self._executor.answer or self._executor.stop or self.failure
        return said is None and self._driver.experiment.next_deadline() is not None

    def pending_stop(self) -> StopTrial | None:
        """Return the order to stop, if it has come."""
        return self._give_up() if self.failure is not None else self._executor.stop

    def outlook(self) -> Outlook | None:
        """Return what the trial was told after its launch that it may expect."""
        return self._executor.outlook

    def close(self) -> None:
        """Pass everything on, and raise what stopped the driver, if anything did."""
        self.flush()
        if self.failure is not None:
            raise self.failure

    def _give_up(self) -> StopTrial:
        current = self._executor.current
        trial, attempt = (current.trial, current.attempt) if current else (0, 0)
        return StopTrial(trial=trial, attempt=attempt, reason=str(self.failure))


def run_inline(
    driver: Driver,
    inbox: queue.SimpleQueue[Delivery],
    *,
    sweep: SweepSpec,
    spec_of: SpecOf,
    trainable: Any,
    io: CheckpointIO,
) -> None:
    """Run trials one after another until the experiment ends.

    Raises:
        Exception: Whatever stopped the driver itself.
    """
    executor = InlineExecutor(inbox)
    copies = OwnCopies(trainable)
    driver.attach(executor)
    try:
        while not driver.state.ended:
            driver.take_pending()
            launch = executor.next()
            if launch is None:
                if not driver.state.ended:
                    driver.wait()
                continue
            try:
                spec, own = spec_of(launch), copies()
            except Exception as error:  # noqa: BLE001 - user code, which would raise again
                inbox.put(Delivery([refused(launch, error)]))
                continue
            channel = InlineChannel(driver, executor, inbox)
            run_attempt(sweep, spec, own, channel, io)
            del own  # What is large in it goes before the next attempt gets its own.
            channel.close()
    finally:
        release()
        SLOTS.release()
