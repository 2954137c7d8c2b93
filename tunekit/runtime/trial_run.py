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

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

from tunekit.config.problems import did_you_mean, shorten
from tunekit.core.commands import StopTrial
from tunekit.core.events import ErrorInfo, ResultReported, TrialHalted, TrialRaised, TrialReturned
from tunekit.core.metrics import MISSING, flatten, lookup
from tunekit.core.stopping import TIME_TOTAL_S, TRAINING_ITERATION, met
from tunekit.errors import MetricNotFoundError, ReportError
from tunekit.runtime.channel import Channel
from tunekit.runtime.normalise import normalise
from tunekit.runtime.saving import Row, SaveReason, Saving
from tunekit.runtime.spec import AttemptSpec, SweepSpec
from tunekit.session import TrialStopped
from tunekit.trainable import DONE, SHOULD_CHECKPOINT

logger: Final = logging.getLogger("tunekit")

Write = Callable[[str], Any]
"""User code that writes a checkpoint into a folder."""


COUNTED: Final = frozenset({TRAINING_ITERATION, TIME_TOTAL_S})
"""What tunekit counts itself, so that it is in every row."""


class Ending(StrEnum):
    """How an attempt ended without an exception."""

    RETURNED = "returned"
    HALTED = "halted"


class TrialRun:
    """One attempt at work.

    Args:
        sweep: What is the same for every trial.
        spec: The attempt.
        channel: The way to the driver.
        saving: Where its checkpoints go.
    """

    def __init__(self, sweep: SweepSpec, spec: AttemptSpec, channel: Channel, saving: Saving) -> None:
        """Begin at iteration 0, as if there were no checkpoint."""
        self.sweep = sweep
        self.spec = spec
        self.saving = saving
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
        self._reason = ""
        self._until = spec.until
        self._since = time.monotonic()
        self._is_exposed = False
        self._interruption = False
        self._warned: set[str] = set()

    def go_on(self) -> None:
        """Count on from the checkpoint that was restored."""
        self.iteration = self.saving.saved_at = self.spec.resume_from or 0
        self.time_total_s = self.spec.time_total_s

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

    def read(self, metrics: Any, source: str) -> tuple[dict[str, Any], bool]:
        """Return the metrics as they are recorded, and whether they ask for a checkpoint.

        Raises:
            ReportError: They cannot be recorded, or lack what the sweep needs.
        """
        plain = normalise(metrics, source)
        should_checkpoint = plain.pop(SHOULD_CHECKPOINT, None) is True
        if self.num_rows == 0:
            self._check_first(plain, source)
        return plain, should_checkpoint

    def record(self, metrics: dict[str, Any], *, saves: bool, can_save: bool, is_last: bool = False) -> bool:
        """Send a row, and return whether the trial ends by itself with it.

        Args:
            metrics: The row.
            saves: Whether a checkpoint of it follows in any case.
            can_save: Whether one follows if the trial ends here and saves at its end.
            is_last: Whether there will be no other.
        """
        now = time.monotonic()
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
                saves=saves or (ends and can_save and self._saves_at_end),
            )
        )
        return ends

    def settle(self, write: Write | None, wanted: SaveReason | None, *, ends: bool) -> None:
        """Do what follows a row, and return when user code may go on.

        Args:
            write: How to save; None: the trial cannot.
            wanted: Why a checkpoint is due at this row; None: it is not.
            ends: Whether the trial ends by itself with this row.

        Raises:
            TrialStopped: The trial ends here.
        """
        if write is not None and wanted is not None:
            self.saving.save(write, self.row, wanted)
        if ends:
            self.finish(write)
            raise TrialStopped
        stop = self._answer()
        if stop is not None:
            self._halt(write, stop)
            raise TrialStopped
        self._since = time.monotonic()

    def finish(self, write: Write | None) -> None:
        """End by itself: save what ``checkpoint_at_end`` asks for."""
        if self._saves_at_end and write is not None:
            self._save_last(write, SaveReason.AT_END)
        self.ending = Ending.RETURNED

    def is_due(self, *, should_checkpoint: bool) -> SaveReason | None:
        """Return why a checkpoint is due at the row that is recorded next; None if it is not."""
        frequency = self.sweep.checkpoint.frequency
        if should_checkpoint:
            return SaveReason.DEMAND
        return SaveReason.FREQUENCY if frequency and (self.iteration + 1) % frequency == 0 else None

    def send_ending(self) -> None:
        """Tell the driver how the attempt ended."""
        trial, attempt = self.spec.trial, self.spec.attempt
        if self.ending is Ending.HALTED:
            self._channel.send(TrialHalted(trial=trial, attempt=attempt))
        else:
            self._channel.send(TrialReturned(trial=trial, attempt=attempt, reason=self._reason))

    def send_raised(self, error: ErrorInfo, *, retryable: bool, fatal: bool) -> None:
        """Tell the driver that user code raised."""
        trial, attempt = self.spec.trial, self.spec.attempt
        self._channel.send(TrialRaised(trial=trial, attempt=attempt, error=error, retryable=retryable, fatal=fatal))

    def _check_first(self, metrics: dict[str, Any], source: str) -> None:
        """Check what the sweep needs of a row, where it is not too late: at the first of each attempt."""
        metric = self.sweep.metric
        if metric is not None:
            value = lookup(metrics, metric)
            if value is MISSING:
                raise _not_found(metric, metrics, source)
            _check_number(metric, value, "the metric of the sweep", source)
        attribute = self.sweep.checkpoint.checkpoint_score_attribute
        if attribute is not None:
            _check_number(attribute, lookup(metrics, attribute), "the checkpoint_score_attribute", source)
        if self.iteration == 0:
            self._warn_of_missing(metrics)

    def _warn_of_missing(self, metrics: dict[str, Any]) -> None:
        """Say which metrics the settings wait for in vain so far. No error: they may be reported now and then only."""
        waiting = dict.fromkeys(self.sweep.stop, "stop")
        attribute = self.sweep.checkpoint.checkpoint_score_attribute
        if attribute is not None:
            waiting[attribute] = "checkpoint_score_attribute"
        for key, setting in waiting.items():
            if key not in COUNTED and lookup(metrics, key) is MISSING:
                names, meant = _names(metrics, key)
                hint = f"; did you mean {meant!r}?" if meant else ""
                self.warn(
                    f"{setting} waits for {key!r}, which is not among the metrics of its first row: {names}{hint}"
                )

    def _own_stop(self, metrics: dict[str, Any]) -> str:
        if metrics.get(DONE) is True:
            return "the trial said that it is done"
        return met(self.sweep.stop, self.iteration, self.time_total_s, metrics)

    def _answer(self) -> StopTrial | None:
        stop = self._channel.pending_stop()
        if stop is not None or self._until is None or self.iteration < self._until:
            return stop
        answer = self._channel.wait()
        if isinstance(answer, StopTrial):
            return answer
        self._until = answer.until
        return None

    def _halt(self, write: Write | None, stop: StopTrial) -> None:
        if write is not None and (stop.pause or self._saves_at_end):
            self._save_last(write, SaveReason.PAUSE if stop.pause else SaveReason.AT_END)
        self.ending = Ending.HALTED

    @property
    def _saves_at_end(self) -> bool:
        return self.sweep.checkpoint.checkpoint_at_end is not False

    def _save_last(self, write: Write, reason: SaveReason) -> None:
        if self.num_rows > 0 and self.saving.saved_at != self.iteration:
            self.saving.save(write, self.row, reason)

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
        """Let an interruption reach user code inside the block."""
        self._is_exposed = True
        try:
            if self._interruption:
                self._raise()
            yield
        finally:
            self._is_exposed = False

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


def _not_found(metric: str, metrics: dict[str, Any], source: str) -> MetricNotFoundError:
    names, meant = _names(metrics, metric)
    return MetricNotFoundError(
        f"{source}: the metric {metric!r} of the sweep is not among the reported ones: {names}",
        hint=(f"did you mean {meant!r}? " if meant else "")
        + f"report {metric!r}, or name another metric in TuneConfig(metric=…)",
        metric=metric,
        reported=sorted(flatten(metrics)),
    )


def _names(metrics: dict[str, Any], key: str) -> tuple[str, str]:
    """Return the names of the reported metrics as a text, and the one that ``key`` most likely stands for."""
    names = sorted(flatten(metrics))
    listed = ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")  # noqa: PLR2004 - enough to read
    return listed or "nothing", did_you_mean(key, names)


def _check_number(key: str, value: Any, role: str, source: str) -> None:
    if isinstance(value, str | list | dict):
        raise ReportError(
            f"{source}: {key!r}, {role}, must be a number, got {shorten(value)} ({type(value).__qualname__})",
            hint=f"report a number as {key!r}",
            key=key,
        )
