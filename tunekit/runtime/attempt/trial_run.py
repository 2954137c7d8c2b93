"""What one attempt does with each row of results, whether a function reported it or a class returned it.

For one row, in this order: the row is recorded; a checkpoint that is due is staged; the trial's own stop ends it; an
order to stop ends it; at its horizon it waits for a decision. An end is carried to the top of user code by
``TrialStopped``, after the last checkpoint is staged. User code that swallows it gets it again at its next report.

Signals. A handler may raise ``TrialStopped`` anywhere in the main thread, but a half-sent message or a half-sealed
checkpoint must not be torn. So the main thread is *exposed* only while it is in user code; at any other moment an
interruption is noted, and raised when user code is entered again. It is also only noted while another thread is inside
a report, whose row and checkpoint it would overtake; whoever interrupts does it again until the attempt has ended.

Threads. User code may report from any thread, one at a time. When the trainable itself returns or raises, the attempt
is *closed*: a report that is under way is waited for, and no other one begins.
"""

# Long because what follows a row has one order, and an interruption may come at any point of it.

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

from tunekit.checkpoint import Checkpoint
from tunekit.core.commands import StopTrial
from tunekit.core.events import (
    ErrorInfo,
    ResultReported,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialSaving,
    TrialStartedOver,
)
from tunekit.core.restarts import SilentRestart, what_happened, what_to_do
from tunekit.core.stopping import met
from tunekit.errors import SilentRestartError
from tunekit.logs import logger_of
from tunekit.runtime.attempt import first_row
from tunekit.runtime.attempt.normalise import normalise
from tunekit.runtime.attempt.stopwatch import Stopwatch
from tunekit.runtime.line.channel import Channel, Preempted
from tunekit.runtime.line.children import Home
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.runtime.saving.reasons import SaveReason
from tunekit.runtime.saving.saving import Row, Saving
from tunekit.runtime.saving.triggers import Clock, Due, Triggers, Wishes
from tunekit.session import PreemptionInfo, TrialStopped, get_preemption_info
from tunekit.trainable import DONE, PIN_CHECKPOINT, SHOULD_CHECKPOINT
from tunekit.types import StartOver

logger: Final = logger_of("tunekit")

Write = Callable[[str], Any]
"""User code that writes a checkpoint into a folder."""


class Ending(StrEnum):
    """How an attempt ended without an exception."""

    RETURNED = "returned"
    HALTED = "halted"
    PREEMPTED = "preempted"


class TrialRun:
    """One attempt at work.

    Args:
        sweep: What is the same for every trial.
        spec: The attempt.
        channel: The way to the driver.
        saving: Where its checkpoints go.
        clock: Seconds for ``time_total_s`` and ``checkpoint_every_s``.
    """

    def __init__(
        self, sweep: SweepSpec, spec: AttemptSpec, channel: Channel, saving: Saving, clock: Clock = time.monotonic
    ) -> None:
        """Begin at iteration 0, as if there were no checkpoint."""
        self.sweep = sweep
        self.spec = spec
        self.saving = saving
        self.triggers = Triggers(sweep.checkpoint, clock, saving.pace)
        self.write: Write | None = None
        """How user code saves a checkpoint; None: it cannot, or not yet."""
        self.lack = ""
        """Why it cannot."""
        self.iteration = 0
        self.time_total_s = 0.0
        self.num_rows = 0
        """Rows of this attempt."""
        self.row = Row(0, {}, 0.0)
        self.ending: Ending | None = None
        self.was_interrupted = False
        self.lock = threading.RLock()
        """Held by the thread that is inside a report."""
        self.is_closed = False
        """Whether user code can report no more."""
        self.has_left_threads = False
        """Whether a thread that has reported is still alive after the end."""
        self._channel = channel
        self._heeded: PreemptionInfo | None = None
        """The notice for which a save was requested."""
        self._reason = ""
        self._until = spec.until
        self.watch = Stopwatch(clock)
        self._clock = clock
        self._since = clock()
        self._home = Home()
        self._is_exposed = False
        self._interruption = False
        self._warned: set[str] = set()

    def go_on(self) -> None:
        """Count on from the checkpoint that is restored."""
        self.iteration = self.spec.resume_from or 0
        self.saving.go_on_from(self.iteration)
        self.time_total_s = self.spec.time_total_s
        self.row = Row(self.iteration, {}, self.time_total_s)

    def begin_anew(self, sign: StartOver) -> None:
        """Tell the driver, ahead of the first row, that user code has made nothing of its checkpoint.

        Raises:
            SilentRestartError: That is not wanted.
        """
        spec, start = self.spec, self.spec.resume_from or 0
        self._channel.send(TrialStartedOver(trial=spec.trial, attempt=spec.attempt, iteration=start, sign=sign))
        if self.sweep.silent_restart == "fail":
            raise SilentRestartError(what_happened(SilentRestart(spec.attempt, start, sign)), hint=what_to_do(sign))

    def warn(self, text: str) -> None:
        """Log ``text``, once in this attempt."""
        if text not in self._warned:
            self._warned.add(text)
            logger.warning("%s: %s", self.spec.trial_name, text)

    def close(self) -> None:
        """Wait for a report that is under way in another thread, and let none begin any more."""
        # First, because a thread that reports all the time would leave us no moment to take the lock in.
        self.is_closed = True
        with self.lock:
            pass

    # -- rows ----------------------------------------------------------------------------------------------------------

    def read(self, metrics: Any, source: str) -> tuple[dict[str, Any], Wishes]:
        """Return the metrics as they are recorded, and what else they ask for.

        Raises:
            ReportError: They cannot be recorded, or lack what the sweep needs.
        """
        plain = normalise(metrics, source)
        wishes = Wishes(plain.pop(SHOULD_CHECKPOINT, None) is True, plain.pop(PIN_CHECKPOINT, None) is True)
        if self.num_rows == 0:
            first_row.check(self.sweep, plain, source)
            if self.iteration == 0:
                for text in first_row.missing(self.sweep, plain):
                    self.warn(text)
        return plain, wishes

    def due(self, wishes: Wishes) -> Due | None:
        """Return the save that is due at the row that is recorded next; None if none is, or it cannot be saved."""
        self._heed_notice()
        self._heed_outlook()
        if self.write is not None:
            return self.triggers.due(self.iteration + 1, wishes)
        if wishes.save or wishes.pin:
            self.warn(f"{SHOULD_CHECKPOINT} or {PIN_CHECKPOINT} asks for a checkpoint, but {self.lack}")
        return None

    def record(self, metrics: dict[str, Any], *, saves: bool, is_last: bool = False) -> bool:
        """Send a row, and return whether the trial ends by itself with it.

        Args:
            metrics: The row.
            saves: Whether a checkpoint of it follows in any case.
            is_last: Whether there will be no other.

        Raises:
            SaveError: What user code saved at an earlier row has turned out to be no checkpoint.
        """
        self.saving.check()
        now = self._clock()
        took, self._since = now - self._since, now
        self.iteration += 1
        self.num_rows += 1
        self.time_total_s += took
        self.row = Row(self.iteration, metrics, self.time_total_s)
        self._reason = "" if is_last else self._own_stop(metrics)
        ends = is_last or bool(self._reason)
        self._channel.send(
            ResultReported(
                trial=self.spec.trial,
                attempt=self.spec.attempt,
                iteration=self.iteration,
                metrics=metrics,
                timestamp=time.time(),
                time_this_iter_s=took,
                time_total_s=self.time_total_s,
                final=ends,
                saves=saves or (ends and self.write is not None and self._saves_at_end),
                **self.watch.take_blocked(),
                **self.watch.take_loaded(),
            )
        )
        return ends

    def keep(self, checkpoint: Checkpoint, *, pin: bool, ends: bool) -> None:
        """Keep the folder that user code reported with the row. It is what any trigger would have saved.

        Args:
            checkpoint: The folder.
            pin: Whether the user wants it kept for good.
            ends: Whether the trial ends by itself with this row.
        """
        self.triggers.take_request()
        with self._patiently(ends=ends), self.watch.blocking():
            self.saving.adopt(checkpoint, self.row, pin=pin)
        self.triggers.restart()

    def follow_up(self, due: Due | None, *, ends: bool) -> None:
        """Do what follows a row, and return when user code may go on.

        Args:
            due: The save that is due at it.
            ends: Whether the trial ends by itself with it.

        Raises:
            TrialStopped: The trial ends here.
        """
        is_left_out = due is not None and not ends and self._has_no_time_for(due)
        if due is not None and not is_left_out:
            # The last save waits for its place, whatever made it due, and would have been there in any case.
            is_last = ends and self._saves_at_end and due.reason in (SaveReason.TIME, SaveReason.PREEMPTION)
            with self._patiently(ends=ends):
                self._save(SaveReason.AT_END if is_last else due.reason, pin=due.pin)
        if ends:
            self.finish()
            raise TrialStopped
        stop = self._answer()
        if stop is not None:
            if due is not None and is_left_out and isinstance(stop, StopTrial):
                with self._patiently(ends=True):
                    self._save(due.reason)  # It came at the last moment: nobody computes this row again.
            self._halt(stop)
            raise TrialStopped
        self._since = self._clock()

    def _has_no_time_for(self, due: Due) -> bool:
        """Return whether the trial leaves its machine without a save that is due, for which there is no time.

        What somebody asks for is saved in any case. The save stays announced: a trial that leaves is launched again and
        comes to this row; one that was to end at it owes its checkpoint.
        """
        stop = self._channel.pending_stop()
        return isinstance(stop, Preempted) and not stop.saves and not due.pin and due.reason is not SaveReason.DEMAND

    def finish(self) -> None:
        """End by itself: save what ``checkpoint_at_end`` asks for.

        Raises:
            SaveError: What user code saved is no checkpoint.
        """
        reason = SaveReason.AT_END if self._saves_at_end else None
        self._ask_for_patience(saves=self._is_to_save(reason) or not self.saving.is_idle)
        self._save_last(reason)
        self.ending = Ending.RETURNED

    def request_save(self, reason: SaveReason) -> None:
        """Have the next row saved, for a reason that the row does not know of. Any thread or signal handler may ask."""
        self.triggers.request(reason)

    def save_failed(self, error: BaseException) -> None:
        """Save what user code holds after it raised, if ``checkpoint_on_failure`` says so. Never hides ``error``."""
        if (
            not self.sweep.checkpoint.checkpoint_on_failure
            or self.write is None
            or self.ending is not None
            or isinstance(error, TrialStopped | KeyboardInterrupt)
        ):
            return
        try:
            self._ask_for_patience(saves=True)
            with self.watch.blocking():
                self.saving.save_failed(self.write, self.row)
        except (Exception, SystemExit):  # Whatever it is, the user's own exception matters more.
            logger.exception("%s: could not save what it held when it failed", self.spec.trial_name)

    def send_ending(self) -> None:
        """Tell the driver how the attempt ended, after all that it saved."""
        self._settle()
        about: dict[str, Any] = {**self._about, **self.watch.take_blocked()}
        if self.ending is Ending.HALTED:
            self._channel.send(TrialHalted(**about))
        elif self.ending is Ending.PREEMPTED:
            self._channel.send(TrialPreempted(**about, reason=self._reason))
        else:
            self._channel.send(TrialReturned(**about, reason=self._reason))

    def send_raised(self, error: ErrorInfo, *, retryable: bool, fatal: bool) -> None:
        """Tell the driver that user code raised, after all that it had saved."""
        self._settle()
        blocked = self.watch.take_blocked()
        raised = TrialRaised(**self._about, error=error, retryable=retryable, fatal=fatal, **blocked)
        self._channel.send(raised)

    @property
    def _about(self) -> dict[str, int]:
        return {"trial": self.spec.trial, "attempt": self.spec.attempt}

    def _settle(self) -> None:
        """Wait for the saves that are under way; what user code did wrong in them changes no ending any more."""
        self._ask_for_patience(saves=not self.saving.is_idle)
        with self.watch.blocking():
            self.saving.settle()
        try:
            self.saving.check()
        except Exception:  # Whatever it is, it comes too late.
            logger.warning("%s: a checkpoint was lost as the trial ended", self.spec.trial_name, exc_info=True)

    def _heed_notice(self) -> None:
        """Have the next row saved after each new notice of the machine's end, if it is not the trial's end anyway."""
        notice = get_preemption_info()
        if notice is not self._heeded:
            self._heeded = notice
            if notice is not None and self._channel.pending_stop() is None:
                self.request_save(SaveReason.PREEMPTION)

    def _heed_outlook(self) -> None:
        """Choose how often to save by what the driver said last."""
        pace = self.saving.pace
        if pace is not None and (outlook := self._channel.outlook()) is not None:
            pace.outlook = outlook

    def _own_stop(self, metrics: dict[str, Any]) -> str:
        if metrics.get(DONE) is True:
            return "the trial said that it is done"
        return met(self.sweep.stop, self.iteration, self.time_total_s, metrics)

    def _answer(self) -> StopTrial | Preempted | None:
        stop = self._channel.pending_stop()
        if stop is not None or self._until is None or self.iteration < self._until:
            return stop
        answer = self._channel.wait()
        if isinstance(answer, StopTrial | Preempted):
            return answer
        self._until = answer.until
        return None

    def _halt(self, stop: StopTrial | Preempted) -> None:
        at_end = SaveReason.AT_END if self._saves_at_end else None
        self._ask_for_patience(saves=self.write is not None or not self.saving.is_idle)
        if isinstance(stop, Preempted):
            self._save_last(SaveReason.PREEMPTION if stop.saves else None)
            self._reason, self.ending = stop.reason, Ending.PREEMPTED
        else:
            self._save_last(SaveReason.PAUSE if stop.pause else at_end)
            self.ending = Ending.HALTED

    @property
    def _saves_at_end(self) -> bool:
        return self.sweep.checkpoint.checkpoint_at_end is not False

    def _save_last(self, reason: SaveReason | None) -> None:
        """Save the newest row if that is asked for and not done, and wait for all saves.

        Only then is the trial at its end: user code may still have saved what is no checkpoint.
        """
        self._end_saves()
        if reason is not None and self._is_to_save(reason):
            self._save(reason)
            self._end_saves()

    def _is_to_save(self, reason: SaveReason | None) -> bool:
        """Return whether the newest row is to be saved for this reason, and is not."""
        is_saved = self.num_rows == 0 or self.saving.saved_at == self.iteration
        return reason is not None and self.write is not None and not is_saved

    def _ask_for_patience(self, *, saves: bool) -> None:
        """Tell the driver that the trial saves and then ends: a stop, perhaps a later one, gives it less time."""
        if saves:
            self._channel.send(TrialSaving(**self._about, final=True))

    @contextmanager
    def _patiently(self, *, ends: bool) -> Iterator[None]:
        """Ask the driver for patience while a row is saved if the trial ends after that: now, or as it is told to."""
        self._channel.is_saving = True  # First: the channel answers for an order that comes after the question.
        try:
            self._ask_for_patience(saves=ends or self._channel.pending_stop() is not None)
            yield
        finally:
            self._channel.is_saving = False

    def _end_saves(self) -> None:
        with self.watch.blocking():
            self.saving.settle()
        self.saving.check()

    def _save(self, reason: SaveReason, *, pin: bool = False) -> None:
        if self.write is not None:
            with self.watch.blocking():
                self.saving.save(self.write, self.row, reason, pin=pin)
            self.triggers.restart()

    # -- interruption --------------------------------------------------------------------------------------------------

    def interrupt(self, trial: int, attempt: int) -> None:
        """Raise TrialStopped if user code runs; else remember to. Called by a signal handler."""
        if (trial, attempt) != (self.spec.trial, self.spec.attempt) or self.was_interrupted:
            return
        if not self._is_exposed:
            self._interruption = True
            return
        self._raise()

    @contextmanager
    def exposed(self) -> Iterator[None]:
        """Let an interruption reach user code inside the block, and no child of it leave the block."""
        self._is_exposed = True
        try:
            if self._interruption:
                self._raise()
            yield
        except BaseException as error:
            self._home.check(error)
            raise
        finally:
            self._is_exposed = False
        self._home.check()

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Keep an interruption out of the block, which user code on any thread has called."""
        before = self._is_exposed
        if threading.current_thread() is not threading.main_thread():
            yield  # Signal handlers run on the main thread, which stays in user code.
            return
        self._is_exposed = False
        try:
            yield
        finally:
            self._is_exposed = before
        if before and self._interruption:
            self._raise()

    def _raise(self) -> None:
        """Raise TrialStopped; but not while another thread is inside a report, which then is left to a later signal."""
        self._interruption = True
        if not self.lock.acquire(blocking=False):
            return  # Not waited for: its save may need a lock that the main thread holds.
        try:
            self._is_exposed = self._interruption = False
            self.was_interrupted = True
            if self.ending is None:
                self.ending = Ending.HALTED
        finally:
            self.lock.release()
        raise TrialStopped
