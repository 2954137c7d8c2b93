"""The worker's end of the line to the driver, through the mailbox.

Two threads share it. The *main* thread runs user code; it exchanges by itself where it waits anyway: when idle, at a
trial's start, at a horizon. While user code runs, a *pump* thread exchanges instead: soon after something was sent,
and at least four times a second, which brings stops in time and renews the lease (``lease.py``). One is
under way at any time, so that messages keep their order; what it failed to deliver is sent again by the next one.

That a trial has started is in the mailbox before its user code runs, so that a crash is charged to the right one. How
it ended goes along with whatever the process says next.
"""

from __future__ import annotations

# Long because two threads share one state: what either does must be read beside what the other does meanwhile.
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from tunekit.core.cadence import Outlook
from tunekit.core.commands import ContinueTrial, InterruptTrial, StopTrial, TellOutlook
from tunekit.core.events import (
    Event,
    LaunchFailed,
    RestoreFailed,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialSaving,
    TrialStarted,
)
from tunekit.runtime.line.channel import Preempted
from tunekit.runtime.line.children import Home
from tunekit.runtime.line.lease import Lease
from tunekit.runtime.line.sequence import Inbox, Outbox
from tunekit.runtime.line.wire import (
    LAST_WORDS,
    Assign,
    AttemptKey,
    Download,
    Hello,
    Leave,
    Note,
    Order,
    Recall,
    Returned,
    Upload,
    Warn,
    decode_order,
    encode_said,
)
from tunekit.session import PreemptionInfo, TrialStopped, announce

MAX_UNACKNOWLEDGED = 50_000
"""Events that the driver has not journalled; beyond, ``send`` waits."""
IDLE_POLL_S = 10.0
"""How long the mailbox may hold back the answer to a worker that waits."""
CALL_TIMEOUT_S = 10.0
"""How much longer than that a call may take before its answer is given up."""
PUMP_S = 0.25
"""While user code runs, the driver's word is never older than this."""
GATHER_S = 0.01
"""How long the pump gathers what is sent before it exchanges."""
_RETRY_S = 0.05

_encode = msgspec.msgpack.Encoder().encode
_download = msgspec.msgpack.Decoder(Download).decode


class _WokenError(BaseException):
    """Raised by a signal handler to get the main thread out of a wait."""


class Link:
    """Connects one worker process with the driver; a ``Channel`` for the attempt that runs.

    Args:
        worker: Id of the worker.
        hello: The first thing that it says.
        call: Has the mailbox exchange a frame, within so many seconds.
        lease_s: Seconds that user code may work on without word from the driver.
        grace_s: Seconds from there to the end of the process.
        rearm: Called after an exchange, at most once a second.
        interrupt: Interrupts this attempt on the main thread, by signal; called by any thread, and again and again
            until the attempt has ended, for at some moments an attempt cannot be interrupted.
        die: Ends the process, giving a reason.
    """

    def __init__(
        self,
        *,
        worker: int,
        hello: Hello,
        call: Callable[[bytes, float], bytes],
        lease_s: float,
        grace_s: float = 10.0,
        rearm: Callable[[], None] = lambda: None,
        interrupt: Callable[[int, int], None] = lambda trial, attempt: None,  # noqa: ARG005 - a default that does nothing
        die: Callable[[str], None] = print,
    ) -> None:
        """Say hello with the first exchange."""
        self._home = Home()
        self._worker = worker
        self._call = call
        self._lease = Lease(lease_s, grace_s, rearm, die)
        self._interrupt, self._die = interrupt, die
        self._state = threading.Lock()
        """Guards what was said, what waits and what was told."""
        self.is_saving = False
        self._wire = threading.Lock()
        """Held by the thread that exchanges."""
        self._said: list[Event | Note] = [hello]
        self._has_said = threading.Event()
        self._outbox = Outbox()
        self._inbox = Inbox()
        self._exchanged_at = time.monotonic()
        self._queue: deque[Assign] = deque()
        self._current: AttemptKey | None = None
        self._answer: ContinueTrial | None = None
        self._outlook: Outlook | None = None
        self._stop: StopTrial | None = None
        self._interrupted: AttemptKey | None = None
        """The attempt that is to be interrupted."""
        self._is_over = False
        """Whether the attempt has said its last word."""
        self.has_raised = False
        """Whether user code has raised in this process, which is then not to be used again."""
        self.termination: Preempted | None = None
        """What told the process to end, if anything has; what user code raises then is no fault of its own."""
        self.idle_poll_s = IDLE_POLL_S
        self._leaves = False
        self._poller = 0
        """The thread that waits for orders, if one does."""
        self._is_closed = False
        self._is_urgent = False
        """Whether the pump is not to gather first."""

    # -- the attempt that runs: Channel --------------------------------------------------------------------------------

    def send(self, event: Event) -> None:
        """Pass an event on soon; wait while the driver is far behind.

        What a process that was told to end could not begin is nobody's fault: its disks may be gone already, and what
        it has started may have got the signal, too. Nothing is said of it, and the driver gives it to another process.
        """
        self._home.check()
        if self.termination and isinstance(event, LaunchFailed | RestoreFailed):
            self._is_over = True
            return
        if self.termination and isinstance(event, TrialRaised):
            reason = f"{self.termination.reason}, and it raised {event.error.type}: {event.error.message}"
            event = TrialPreempted(trial=event.trial, attempt=event.attempt, reason=reason, blocked_s=event.blocked_s)
        with self._state:
            self._said.append(event)
            backlog = self._outbox.weight + len(self._said)
        if isinstance(event, TrialStarted):
            self._announce(event)
        elif isinstance(event, LAST_WORDS):
            self._is_over = True
            self.has_raised = self.has_raised or isinstance(event, TrialRaised)
        elif not self._has_said.is_set():
            self._has_said.set()
        if backlog >= MAX_UNACKNOWLEDGED:
            self._wait_for_room()

    def _announce(self, event: TrialStarted) -> None:
        """Have the mailbox know of a start before user code can end the process.

        Whom a crash is charged to depends on it: unknown to the mailbox, an attempt has not started, and the one before
        it has not ended. So it is waited for, unless nothing else is unsaid and it is the trial's first attempt: then
        the pump sends it meanwhile, and a crash within that millisecond costs a second attempt, which waits.
        """
        with self._state:
            is_alone = len(self._said) == 1 and not self._outbox.has_unsent
        if is_alone and event.attempt == 1:
            self._is_urgent = True
            self._has_said.set()
        else:
            self.flush()

    def flush(self) -> None:
        """Return when the mailbox has everything that was sent. An ending need not be waited for."""
        while not self._is_over and not self._exchange(0.0):
            time.sleep(_RETRY_S)

    def wait(self) -> ContinueTrial | StopTrial | Preempted:
        """Return the decision that the attempt waits for at its horizon.

        Raises:
            TrialStopped: The attempt has ended meanwhile: this is a thread that it has left behind, and an answer that
                comes now belongs to another trial.
        """
        key = self._current
        while key is not None and key == self._current:
            if stop := self.pending_stop():
                return stop
            answer, self._answer = self._answer, None
            if answer is not None:
                return answer
            self._poll()
        raise TrialStopped

    def pending_stop(self) -> StopTrial | Preempted | None:
        """Return the order to stop, if it has come, or a reason of our own: the process is to end, or the lease has."""
        key = self._current
        if self._stop is None and key is not None and self._lease.is_over:
            self._exchange(0.0)  # Perhaps nobody asked: C code may have held the interpreter lock for all of that time.
        if self._stop is None and key is not None and self._lease.is_over:
            self._stop = StopTrial(trial=key[0], attempt=key[1], reason=self._lease.complaint)
        return self._stop or self.termination

    def outlook(self) -> Outlook | None:
        """Return what the trial was told after its launch that it may expect."""
        return self._outlook

    # -- the process ---------------------------------------------------------------------------------------------------

    def next_assignment(self) -> Assign | None:
        """Wait for the next attempt to run, which becomes the current one. None: the process is to end."""
        self._finish()
        while not self.termination:
            if assign := self._begin():
                return assign
            if self._leaves:
                return None
            self._poll()
        return None

    def terminate(self, reason: str, *, wakes: bool = False, saves: bool = True) -> None:
        """Have this process end: after its trial's next row, else at once. It ``wakes`` the thread that it runs on."""
        self.termination = self.termination or Preempted(reason, saves=saves)
        if wakes and self._poller == threading.get_ident():
            raise _WokenError

    def tell(self, note: Note) -> None:
        """Let the executor know of something at once."""
        with self._state:
            self._said.append(note)
        self._is_urgent = True
        self._has_said.set()

    def deliver(self, timeout_s: float) -> None:
        """Return when all that was said is journalled, or after so long."""
        ends_at = time.monotonic() + timeout_s
        while (self._said or len(self._outbox)) and time.monotonic() < ends_at:
            self._exchange(0.0)
            time.sleep(_RETRY_S)

    def remaining(self) -> tuple[int, list[bytes]]:
        """Return all messages that the driver has not acknowledged: the last words of a process that ends in peace."""
        with self._wire, self._state:
            self._finish()
            self._pack()
            self._outbox.rewind()
            return self._outbox.take_unsent()

    def start_pump(self) -> None:
        """Exchange in the background whenever user code runs."""
        threading.Thread(target=self._pump, name="tunekit-link", daemon=True).start()

    def close(self) -> None:
        """Let the pump end."""
        self._is_closed = True
        self._has_said.set()

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _poll_s(self) -> float:
        return min(self.idle_poll_s, self._lease.length_s / 4)

    def _finish(self) -> None:
        self._current = self._answer = self._outlook = self._stop = self._interrupted = None
        self._is_over = False

    def _begin(self) -> Assign | None:
        with self._state:
            if not self._queue:
                return None
            assign = self._queue.popleft()
            self._current = (assign.trial, assign.attempt)
            return assign

    def _wait_for_room(self) -> None:
        while self._outbox.weight + len(self._said) > MAX_UNACKNOWLEDGED // 2 and self.pending_stop() is None:
            self._exchange(0.0)
            time.sleep(GATHER_S)

    def _pump(self) -> None:
        while not self._is_closed:
            if self._has_said.wait(PUMP_S) and not self._is_urgent:
                time.sleep(GATHER_S)
            self._is_urgent = False
            if not self._is_due():
                continue
            if self._wire.acquire(blocking=False):
                try:
                    succeeded = self._exchange_locked(0.0)
                finally:
                    self._wire.release()
                if not succeeded:
                    time.sleep(_RETRY_S)
            interrupted = self._interrupted
            if interrupted is not None and not self._is_over:
                self._interrupt(*interrupted)

    def _is_due(self) -> bool:
        """Return whether the pump has something to exchange for."""
        with self._state:
            is_fresh = time.monotonic() - self._exchanged_at < PUMP_S
            if self._current is None or (is_fresh and not self._said):
                self._has_said.clear()
                return False
            return True

    def _poll(self) -> None:
        """Exchange, and wait for orders, unless the process is told to end before or meanwhile."""
        with contextlib.suppress(_WokenError):
            self._poller = threading.get_ident()
            if not self.termination:
                self._wait_for_orders()
            self._poller = 0
        self._poller = 0

    def _wait_for_orders(self) -> None:
        """Wait at the mailbox, or here if it has failed or has no room for one that waits."""
        began_at = time.monotonic()
        with self._wire:
            if self._is_told():  # The pump was in the middle of an exchange, and has brought it.
                return
            self._exchange_locked(self._poll_s)
        if not self._is_told() and time.monotonic() - began_at < _RETRY_S:
            time.sleep(_RETRY_S)

    def _is_told(self) -> bool:
        """Return whether there is something for the main thread to do."""
        if self.termination is not None:
            return True
        if self._current is not None:
            return self._answer is not None or self._stop is not None
        return self._leaves or bool(self._queue)

    def _exchange(self, wait_s: float) -> bool:
        """Exchange once. Return whether it succeeded."""
        with self._wire:
            return self._exchange_locked(wait_s)

    def _exchange_locked(self, wait_s: float) -> bool:
        try:
            with self._state:
                self._pack()
                first, messages = self._outbox.take_unsent()
            frame = _encode(Upload(self._worker, first, messages, self._inbox.received, wait_s))
            try:
                download = _download(self._call(frame, wait_s + CALL_TIMEOUT_S))
            except Exception:  # noqa: BLE001 - whatever Ray raises, the mailbox is out of reach for now
                self._outbox.rewind()
                self._lease.note_failure()
                return False
        except BaseException:
            self._outbox.rewind()
            raise
        self._exchanged_at = time.monotonic()
        self._receive(download)
        return not self._outbox.has_unsent

    def _pack(self) -> None:
        """Make one message of what was said. SIGTERM may raise anywhere in here, which loses and repeats nothing."""
        self._has_said.clear()
        if not self._said:
            return
        said, last = self._said, self._outbox.last
        try:
            message = encode_said(said)
        except Exception:
            self._said = []  # It would fail for ever.
            raise
        self._said = []
        try:
            self._outbox.put(message, weight=len(said))
        except BaseException:
            if self._outbox.last == last:
                self._said = said
            raise

    def _receive(self, download: Download) -> None:
        if download.is_gone:
            self._die("the driver has given this worker up")
        with self._state:
            self._outbox.acknowledge(download.acknowledged)
            for order in self._inbox.accept(download.first, download.orders):
                self._obey(decode_order(order))
        self._lease.renew(download.silence_s)

    def _obey(self, order: Order) -> None:
        match order:
            case Assign():
                self._queue.append(order)
            case Leave():
                self._leaves = True
            case Warn(is_withdrawn=True):
                if not self.termination:  # Else it leaves all the same.
                    announce(None)
            case Warn():
                if order.ends or not self.termination:  # Who is to leave hears nothing that sounds as if he were not.
                    here = socket.gethostname()
                    announce(PreemptionInfo(deadline=order.deadline, source=order.source, node=here, ends=order.ends))
                if order.ends:
                    self.terminate(f"{order.source}: its machine is taken away", saves=order.saves)
            case Recall():
                if self._withdraw((order.trial, order.attempt)):
                    self._said.append(Returned(trial=order.trial, attempt=order.attempt))
            case _:
                self._obey_about_trial(order)

    def _obey_about_trial(self, order: StopTrial | ContinueTrial | TellOutlook | InterruptTrial) -> None:
        match order:
            case StopTrial() if self._withdraw((order.trial, order.attempt)):
                self._said.append(TrialHalted(trial=order.trial, attempt=order.attempt))
            case _ if (order.trial, order.attempt) != self._current:
                pass  # It has ended in the meantime.
            case StopTrial():
                self._stop = order
                if self.is_saving:  # Only after that will it hear of this.
                    self._said.append(TrialSaving(trial=order.trial, attempt=order.attempt, final=True))
            case ContinueTrial():
                self._answer = order
            case TellOutlook():
                self._outlook = order.outlook
            case InterruptTrial():
                self._interrupted = self._current
                self._interrupt(order.trial, order.attempt)

    def _withdraw(self, key: AttemptKey) -> bool:
        """Take an attempt that has not begun off the queue. Return whether it was there."""
        for assign in self._queue:
            if (assign.trial, assign.attempt) == key:
                self._queue.remove(assign)
                return True
        return False
