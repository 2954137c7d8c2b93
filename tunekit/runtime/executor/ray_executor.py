"""Runs attempts on Ray: the driver's side of workers and losses.

Three kinds of threads meet here, under one lock. The driver's own thread calls ``execute`` and ``acknowledge``. The
*drain* thread holds one long poll for all workers; what comes goes to the driver's inbox in the order in which it
came. The *keeper* thread learns of workers whose long call has ended, by whatever way, and starts their replacement.

A lost worker's last words come first: the loss is noted, all that it has left in the mailbox is taken, and only then
the attempts of that worker are declared lost. That its call failed does not prove that it is dead, so from there on
nothing of it is listened to, and the mailbox tells it to end itself.
"""

# Long because three threads share one lock and one state, which would be harder to follow in pieces.

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from tunekit.core.commands import ContinueTrial, InterruptTrial, KillTrial, LaunchTrial, StopTrial, TellOutlook
from tunekit.core.events import (
    CapacityChanged,
    ErrorInfo,
    Event,
    LaunchFailed,
    TrialHalted,
    TrialRaised,
    TrialStarted,
)
from tunekit.runtime.executor.cluster import Cluster
from tunekit.runtime.executor.crew import Crew
from tunekit.runtime.executor.first_worker import FirstWorker
from tunekit.runtime.executor.losses import Departure, FalseStarts, Losses, is_own_fault, left_open, lost
from tunekit.runtime.executor.machines import Machines
from tunekit.runtime.executor.patience import Patience, say
from tunekit.runtime.executor.pool import Pool
from tunekit.runtime.executor.ray_errors import Loss
from tunekit.runtime.executor.records import WorkerRecord
from tunekit.runtime.line.failure import error_info
from tunekit.runtime.line.launching import SpecOf, prepare
from tunekit.runtime.line.mailbox import Letter, Mailbox
from tunekit.runtime.line.shapes import Offers, Shape, shape_of
from tunekit.runtime.line.spec import Delivery, ExecutorCommand, SweepSpec
from tunekit.runtime.line.wire import (
    LAST_WORDS,
    Hello,
    Leave,
    MachineNotice,
    Recall,
    Returned,
    Terminating,
    decode_said,
)
from tunekit.trainable import check_picklable, describe, parameters_of
from tunekit.types import LossCause

_DRAIN_S = 1.0
"""Longest wait of the long poll: how long a recall waits when nothing happens."""
_JOIN_S = 30.0
_RELAY_S = 5.0
"""A worker that has not said hello by then may not find the door."""
LEAVE_S = 1.5
_LEFT = Loss(LossCause.NOT_STARTED, "its worker left before it began")


class RayExecutor:
    """An ``Executor`` on a Ray cluster, which is started when there is none.

    Args:
        sweep: What every worker is told.
        trainable: The user's function or class.
        spec_of: Makes what a worker is told of an attempt; called by the thread that calls ``execute``.
        inbox: Where deliveries go.
        max_concurrent_trials: Most workers at a time; None: as many as the cluster holds.
        prefetch: Most attempts that wait ready at a busy worker, where trials are brief.
        pickled: The trainable without its parameters, if it has been pickled already.
        leave_s: Seconds that idle workers get to clean up and leave by themselves when the sweep ends.
        first: A worker that has been asked for, on the cluster that this executor is to use, and is to leave.
        is_rerun: Whether trials have run before this driver.

    Raises:
        TrainableError: The trainable cannot be sent to a worker.
        ResourcesError: No node could ever hold one trial.
        ExperimentError: Ray could not be started.
    """

    def __init__(  # noqa: PLR0913 - the parts of a whole, each by its name
        self,
        *,
        sweep: SweepSpec,
        trainable: Any,
        spec_of: SpecOf,
        inbox: queue.SimpleQueue[Delivery],
        max_concurrent_trials: int | None = None,
        prefetch: int = 0,
        pickled: bytes | None = None,
        leave_s: float = LEAVE_S,
        first: FirstWorker | None = None,
        is_rerun: bool = False,
    ) -> None:
        """Check what can be known, connect to Ray, and offer what it holds. Workers come with the first attempts."""
        pickled = check_picklable(trainable) if pickled is None else pickled
        self._sweep = sweep
        self._leave_s = leave_s
        self._spec_of = spec_of
        self._driver = inbox
        self._cluster = first.cluster if first else Cluster()
        try:
            usual = describe(trainable).resources
            growth = self._cluster.growth()
            self._offers = Offers(growth)
            self._pool = Pool(
                max_workers=max_concurrent_trials,
                prefetch=0 if sweep.fresh_process else prefetch,
                shows_demand=bool(growth) and not sweep.deterministic,  # A place is counted on there.
                usual=shape_of({"CPU": 1.0} if callable(usual) else usual),
                announces=sweep.hang_timeout_s is not None,
            )
            self._mailbox = Mailbox()
            self._machines = Machines(self._cluster, self._offers, self._pool, self._mailbox, is_rerun=is_rerun)
            if not callable(usual):
                self._offers.check(shape_of(usual))
            self._finished: queue.SimpleQueue[tuple[int, Future[Any]] | None] = queue.SimpleQueue()
            self._crew = Crew(
                self._cluster,
                lambda worker, future: self._finished.put((worker, future)),
                pickled,
                parameters_of(trainable),
                self._mailbox,
                first,
            )
        except BaseException:
            if first is not None:
                first.end()
            self._cluster.leave()
            raise
        self._lock = threading.RLock()
        self._departures: list[Departure] = []
        self._losses = Losses()
        self._false_starts = FalseStarts()
        self._patience = Patience(self._pool.avoidance)
        self._capacity = 0
        self._broken: ErrorInfo | None = None
        """Why this executor can run nothing any more."""
        self._is_closing = False
        self._report_capacity()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._drain, self._keep)]
        for thread in self._threads:
            thread.start()

    # -- the driver's thread -------------------------------------------------------------------------------------------

    def execute(self, commands: list[ExecutorCommand]) -> None:
        """Carry commands out; what they lead to comes as events."""
        with self._lock:
            for command in commands:
                match command:
                    case LaunchTrial():
                        self._launch(command)
                    case StopTrial():
                        self._stop(command)
                    case KillTrial():
                        self._kill(command)
                    case ContinueTrial() | TellOutlook() | InterruptTrial():
                        self._pass_on(command)
            if self._broken is not None:
                self._fail_waiting(self._broken, fatal=True)
            else:
                self._dispatch()

    def acknowledge(self, tokens: list[object]) -> None:
        """Let workers forget what is in the journal. They learn of it with whatever they exchange next."""
        for token in tokens:
            for worker, number in token:  # type: ignore[attr-defined] # ours, as made in _deliver
                self._mailbox.acknowledge(worker, number)

    def close(self) -> None:
        """End all workers, gently those that are idle, and leave Ray as it was found."""
        with self._lock:
            if self._is_closing:
                return
            self._is_closing = True
            free = [record for record in self._pool.workers.values() if record.is_up and not record.held]
            for record in free:
                if record.is_idle:
                    self._mailbox.order(record.id, Leave())
            self._mailbox.deliver()
            self._mailbox.wake()
        self._finished.put(None)
        for thread in self._threads:
            thread.join(timeout=_JOIN_S)
        self._crew.await_leave([record.id for record in free], self._leave_s)
        self._crew.close(self._pool.workers.values())
        self._machines.close()
        self._cluster.leave()

    def _launch(self, command: LaunchTrial) -> None:
        prepared = prepare(self._spec_of, self._offers, command)
        if isinstance(prepared, LaunchFailed):
            self._tell(prepared)
        else:
            self._pool.submit(*prepared)

    def _stop(self, command: StopTrial) -> None:
        key = (command.trial, command.attempt)
        if self._pool.withdraw(key):
            self._tell(TrialHalted(trial=command.trial, attempt=command.attempt))
            return
        if (record := self._pool.holder(key)) is not None:
            record.held[key].is_told_to_stop = True
        self._pass_on(command)

    def _pass_on(self, command: ContinueTrial | TellOutlook | StopTrial | InterruptTrial) -> None:
        record = self._pool.holder((command.trial, command.attempt))
        if record is not None:
            self._mailbox.order(record.id, command)

    def _kill(self, command: KillTrial) -> None:
        key = (command.trial, command.attempt)
        if self._pool.withdraw(key):
            self._tell(lost(key, Loss(LossCause.KILLED, "before it started")))
        record = self._pool.holder(key)
        if record is None:
            return
        if key == next(iter(record.held)):
            self._crew.end(record)
            why = "it did not stop in time" if record.held[key].is_told_to_stop else "nothing was heard of it"
            self._depart(Departure(record.id, Loss(LossCause.KILLED, why), killed=key))
        else:  # It waits behind another one, which must not die for it.
            self._mailbox.order(record.id, Recall(trial=command.trial, attempt=command.attempt))
            self._pool.ended(key)
            self._tell(lost(key, Loss(LossCause.KILLED, "before it started")))

    # -- the keeper's thread: workers whose call has ended -------------------------------------------------------------

    def _keep(self) -> None:
        while (finished := self._finished.get()) is not None:
            try:
                departure = self._departure(*finished)
                with self._lock:
                    if not self._is_closing and self._crew.forget(departure.worker):
                        self._depart(departure)
            except Exception as error:  # noqa: BLE001 - without this thread losses would go unseen
                self._give_up(error)
                return

    def _departure(self, worker: int, call: Future[Any]) -> Departure:
        try:
            first, last_words = call.result()
        except BaseException as error:  # noqa: BLE001 - whatever Ray raises is looked up in a table
            record = self._pool.workers.get(worker)
            return self._crew.diagnose(worker, error, is_new=record is not None and not record.is_up)
        return Departure(worker, None, first, last_words)

    def _depart(self, departure: Departure) -> None:
        """Note that a worker is gone, start its replacement if it was at work, and hurry the drain."""
        self._departures.append(departure)
        record = self._pool.workers.get(departure.worker)
        if record is not None:
            self._pool.leave(record)
            if record.held and self._broken is None and (replacement := self._pool.replace(record.shape)):
                self._start(replacement)
        self._mailbox.wake()

    # -- the drain's thread --------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        while not self._is_closing:
            with self._lock:
                departures, self._departures = self._departures, []
            try:
                letters = self._mailbox.drain(0.0 if departures else _DRAIN_S)
                with self._lock:
                    self._take(letters, departures)
            except Exception as error:  # noqa: BLE001 - without this thread nothing would be heard of any trial
                if not self._is_closing:
                    self._give_up(error)
                return

    def _take(self, letters: Sequence[Letter], departures: Sequence[Departure]) -> None:
        self._deliver(letters)
        for departure in departures:
            self._finish(departure)
        self._refresh()
        self._dispatch()

    def _deliver(self, letters: Sequence[Letter]) -> None:
        """Pass on what workers said, and learn from it where every attempt is."""
        events: list[Event] = []
        token: dict[int, int] = {}
        for letter in letters:
            token[letter.worker] = letter.number
            for said in decode_said(letter.message):
                match said:
                    case Hello():
                        self._false_starts.note_hello()
                        self._pool.came_up(letter.worker, pid=said.pid, node=said.node)
                        self._machines.came_up(self._pool.workers[letter.worker])
                        self._crew.watch(letter.worker, pid=said.pid, node=said.node)
                    case Returned():
                        if self._pool.returned((said.trial, said.attempt)):
                            events.append(TrialHalted(trial=said.trial, attempt=said.attempt))
                    case MachineNotice():
                        self._machines.told(self._pool.workers.get(letter.worker), said)
                    case Terminating():
                        self._pool.give_notice(letter.worker, said.reason)
                    case LaunchFailed():
                        events.append(self._judged(said, letter.worker))
                    case _:
                        self._follow(said, letter.worker)
                        events.append(said)
        if token:
            self._driver.put(Delivery(events, tuple(token.items())))

    def _judged(self, failed: LaunchFailed, worker: int) -> Event:
        """Return what became of an attempt that could not begin: lost, if it only found itself on a bad machine.

        A storage that cannot be read is charged to the trial in any case: it may be its one checkpoint.
        """
        record = self._pool.workers.get(worker)
        is_new = record is not None and not record.has_run
        is_suspect = failed.fatal or (is_new and failed.cause is LossCause.STORAGE)
        is_turned_down = is_suspect and self._machines.blame(failed.node, _what(failed.error), is_sure=failed.fatal)
        self._follow(failed, worker)
        if is_turned_down and record is not None:
            self._machines.send_off(record)
        if not (is_turned_down and failed.fatal):
            return failed
        loss = Loss(LossCause.NOT_STARTED, f"its node is passed over: {failed.error.message}")
        return lost((failed.trial, failed.attempt), loss, failed.node, failed.took_s)

    def _follow(self, event: Event, worker: int) -> None:
        self._machines.follow(event)
        if isinstance(event, TrialStarted):
            self._losses.note_start(event.trial)
            self._pool.started((event.trial, event.attempt))
        elif isinstance(event, LAST_WORDS):
            record = self._pool.workers.get(worker)
            if record is not None and (self._sweep.fresh_process or isinstance(event, TrialRaised)):
                self._pool.leave(record)  # Its process will not be used again.
            self._pool.ended((event.trial, event.attempt))

    def _finish(self, departure: Departure) -> None:
        """Say what became of the attempts of a worker that is gone, after its last words."""
        self._deliver(self._mailbox.give_up(departure.worker, departure.first, departure.last_words))
        record = self._pool.workers.get(departure.worker)
        if record is None:
            return
        held = self._pool.lost(departure.worker)
        if departure.loss is None:
            notice = "" if record.machine_notice else record.process_notice
            turned_away = self._losses.of_farewell(held, notice, record.node)
            unbegun = self._pool.put_back(record.shape, held[len(turned_away) :])
            self._tell(*left_open(held), *turned_away, *(lost(key, _LEFT, record.node) for key in unbegun))
            return
        if not record.is_up and is_own_fault(departure.loss):
            self._note_false_start(record, departure.node, departure.loss)
        about: dict[str, Any] = {"node": record.node, "notice": record.notice}
        about["is_machine"] = bool(record.machine_notice)
        self._tell(*self._losses.of(held, departure.loss, departure.killed, **about))

    def _note_false_start(self, record: WorkerRecord, node: str, loss: Loss) -> None:
        """Give up if workers die before their first word, wherever they are."""
        if node and self._machines.blame(node, loss.detail, is_sure=False):
            return
        if self._false_starts.note():
            message = f"workers die before their first word: {loss.detail}"
            hint = "" if "hint: " in message else "the logs of Ray say more"
            error = ErrorInfo(type="WorkerStartError", message=message, hint=hint)
            self._fail_waiting(error, record.shape, fatal=True)

    def _fail_waiting(self, error: ErrorInfo, shape: Shape | None = None, *, fatal: bool) -> None:
        """Fail what waits for a worker for good; with it the run, if the reason is none of the trials'."""
        for assign in self._pool.take_waiting(shape):
            key: dict[str, Any] = {"trial": assign.trial, "attempt": assign.attempt}
            self._tell(LaunchFailed(**key, error=error, retryable=False, fatal=fatal))

    def _give_up(self, error: Exception) -> None:
        """Report everything as lost: nothing can be learned of any worker any more."""
        say("".join(traceback.format_exception(error)))
        with self._lock:
            self._broken = error_info(error)
            loss = Loss(LossCause.NOT_STARTED, f"the executor failed: {self._broken.message}")  # No trial pays for it.
            for worker in list(self._pool.workers):
                self._tell(*(lost(held.key, loss) for held in self._pool.lost(worker)))
            self._fail_waiting(self._broken, fatal=True)

    def _refresh(self) -> None:
        now = time.monotonic()
        self._crew.reap()
        if self._pool.longest_coming_s() > _RELAY_S:
            self._crew.open_relay(self._pool.capacity())
        self._machines.look()
        for record in self._pool.outdated(self._machines.shunned):
            self._crew.end(record)
            self._pool.lost(record.id)
            self._mailbox.give_up(record.id)
        say(self._patience.complain(self._pool.starving(), now, self._cluster.free, self._machines.passed_over))

    # -- acting, with the lock held ------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        plan = self._pool.plan()
        for record in plan.start:
            self._start(record)
        for worker, assign in plan.assign:
            self._mailbox.order(worker, assign)
        for worker, (trial, attempt) in plan.recall:
            self._mailbox.order(worker, Recall(trial=trial, attempt=attempt))
        for worker in plan.retire:
            self._mailbox.order(worker, Leave())
        self._tell(*self._pool.take_assigned())
        self._mailbox.deliver()
        self._report_capacity()

    def _start(self, record: WorkerRecord) -> None:
        self._mailbox.open(record.id)
        try:
            record.shuns = self._machines.shunned
            self._crew.hire(record, self._sweep)
            if self._machines.has_others:
                self._crew.open_relay(self._pool.capacity())
        except Exception as error:  # noqa: BLE001 - a shape that Ray refuses, or Ray itself is gone
            self._pool.lost(record.id)
            self._mailbox.give_up(record.id)
            is_refusal = isinstance(error, ValueError | TypeError)
            self._fail_waiting(error_info(error), record.shape, fatal=not is_refusal)

    def _tell(self, *events: Event) -> None:
        if events:
            self._driver.put(Delivery(list(events)))

    def _report_capacity(self) -> None:
        capacity = self._pool.capacity()
        if capacity != self._capacity:
            self._capacity = capacity
            self._tell(CapacityChanged(max_live=capacity))


def _what(error: ErrorInfo) -> str:
    return f"{error.message} hint: {error.hint}" if error.hint else error.message
