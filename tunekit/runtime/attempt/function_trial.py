"""Runs a function trainable: the session that its ``report()`` calls reach, and what it may return."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from tunekit.checkpoint import Checkpoint
from tunekit.config import CheckpointConfig
from tunekit.config.problems import shorten
from tunekit.errors import ConfigError, ReportError, SessionError, TrainableError
from tunekit.runtime.attempt.given import GivenCheckpoint
from tunekit.runtime.attempt.normalise import normalise
from tunekit.runtime.attempt.surroundings import context_of
from tunekit.runtime.attempt.trial_run import TrialRun
from tunekit.runtime.saving.user_saves import content_of, tell_change
from tunekit.session import Context, Saver, TrialStopped
from tunekit.trainable import BoundTrainable
from tunekit.types import StartOver

RETURNED_METRIC: Final = "_metric"
"""Name of a number that a function returns or yields."""


def run_function(run: TrialRun, session: FunctionSession, bound: BoundTrainable) -> None:
    """Run the function to its end, in the main thread.

    Raises:
        TrialStopped: The trial ended inside a report.
        BaseException: Whatever user code raised.
    """
    try:
        with run.exposed():
            value: Any = bound.target(run.spec.config, **bound.parameters)
            if inspect.isgenerator(value):
                value = _drain(value, session)
    except BaseException as error:
        run.close()
        run.save_failed(error)
        raise
    run.close()
    if run.ending is not None:
        return  # It swallowed TrialStopped.
    if value is not None:
        session.report_last(value)
    elif run.num_rows == 0 and run.spec.resume_from is None:  # Else earlier attempts have reported all there was.
        run.warn("it returned without a result: report metrics with tunekit.report(), or return them")
    if run.ending is None:
        run.finish()


def _drain(generator: Generator[Any, Any, Any], session: FunctionSession) -> Any:
    """Report what a generator function yields, and return what it returns."""
    try:
        while True:
            try:
                value = next(generator)
            except StopIteration as end:
                return end.value
            session.report(_as_metrics(value, "a yielded value"), None)
    finally:
        generator.close()


class FunctionSession:
    """What a running function finds behind ``report()`` and its like."""

    def __init__(self, run: TrialRun, checkpoint: Path | None) -> None:
        """Remember the checkpoint to go on from, if there is one; nothing is opened yet."""
        self._run = run
        self._checkpoint = checkpoint
        self._is_opened = False
        self._is_loaded = False
        self._is_reporting = False
        """Whether a thread, which has the lock, is inside of a report."""
        self._given: GivenCheckpoint | None = None
        run.lack = "there is nothing to save: pass report(…, checkpoint=…)"
        self._thread = threading.current_thread()
        self._reporters: set[threading.Thread] = set()
        # A thread that an earlier trial left behind would report under this trial's name.
        self._strangers = {thread for thread in threading.enumerate() if thread is not threading.main_thread()}
        self._strangers.discard(threading.current_thread())

    @property
    def has_left_reporters(self) -> bool:
        """Whether a thread is alive that has reported, beside the one that runs the function."""
        return any(thread.is_alive() for thread in self._reporters)

    def report(self, metrics: Any, checkpoint: Any) -> None:
        """Record a row, and a checkpoint if one is given or due."""
        self._check_thread("report()")
        if (thread := threading.current_thread()) is not self._thread:
            self._reporters.add(thread)
        with self._run.shielded(), self._one_at_a_time():
            if self._run.is_closed:
                raise TrialStopped
            self._report(metrics, checkpoint, "report()", is_last=False)

    def report_last(self, value: Any) -> None:
        """Record what the function returned as its last row."""
        with self._one_at_a_time():
            self._report(_as_metrics(value, "the returned value"), None, "the returned value", is_last=True)

    def get_checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint to go on from. From now on iterations count on from it."""
        self._check_thread("get_checkpoint()")
        if self._checkpoint is None:
            return None
        self._open()
        if self._given is None:
            self._given = GivenCheckpoint(self._checkpoint)
        return self._given

    def restore(self, saver: Any) -> bool:
        """Load the checkpoint to go on from into ``saver``."""
        self._check_thread("restore()")
        if not isinstance(saver, Saver):
            raise TrainableError(
                f"restore() needs an object with save_checkpoint(path) and load_checkpoint(path), got {shorten(saver)}",
                hint="to read the files yourself, use get_checkpoint()",
            )
        if self._checkpoint is None:
            return False
        self._open()
        self._is_loaded = True
        content = content_of(self._checkpoint)
        with self._run.watch.loading():
            saver.load_checkpoint(content)
        tell_change(self._checkpoint, content, self._run.sweep.path, self._run.spec.trial_name)
        self._run.triggers.restart()
        return True

    def context(self) -> Context:
        """Return where the function runs."""
        self._check_thread("get_context()")
        return context_of(self._run, self._hand_out)

    def interrupt(self, trial: int, attempt: int) -> None:
        """Raise TrialStopped if user code of this attempt runs."""
        self._run.interrupt(trial, attempt)

    # -- parts ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Have the reports of other threads wait, and refuse one of this thread inside of its own.

        A signal handler or a saver could make that. It would count a row before what follows the row under way is done,
        which then is done for the wrong one.
        """
        with self._run.lock:
            if self._is_reporting:
                raise SessionError(
                    "report() was called inside of another report() of the same thread, by a signal handler or by "
                    "save_checkpoint()",
                    hint="let the handler set a flag, look at it in the loop, and report there",
                )
            try:
                self._is_reporting = True
                yield
            finally:
                self._is_reporting = False

    def _report(self, metrics: Any, checkpoint: Any, source: str, *, is_last: bool) -> None:
        run = self._run
        if run.ending is not None:
            raise TrialStopped
        kind = _kind(checkpoint)
        plain, wishes = run.read(metrics, source)
        if run.num_rows == 0:
            self._begin(kind, source)
        if kind == "saver":
            run.write = checkpoint.save_checkpoint
        due = None if kind == "folder" else run.due(wishes)
        ends = run.record(plain, saves=kind == "folder" or due is not None, is_last=is_last)
        if kind == "folder":
            run.keep(checkpoint, pin=wishes.pin, ends=ends)
        run.follow_up(due, ends=ends)

    def _begin(self, kind: str, source: str) -> None:
        """Check at the first row what only running the function shows."""
        run = self._run
        config = run.sweep.checkpoint
        if kind != "saver" and (options := _need_saver(config)):
            raise ConfigError(
                f"{source}: CheckpointConfig({', '.join(options)}) needs an object that can save, but checkpoint= was "
                f"given {'a folder' if kind == 'folder' else 'nothing'}",
                hint=f"{_SAVER_HINT}, or leave {' and '.join(options)} out",
                fatal=True,
            )
        if kind != "saver" and run.sweep.deterministic:
            raise ConfigError(
                f"{source}: deterministic=True needs an object that can save at any row, but checkpoint= was given "
                f"{'a folder' if kind == 'folder' else 'nothing'}",
                hint=f"{_SAVER_HINT}, or leave deterministic=True out",
                fatal=True,
            )
        if kind != "saver" and config.checkpoint_on_failure:
            run.warn(
                "checkpoint_on_failure saves nothing until report(…, checkpoint=…) is given an object that has "
                "save_checkpoint(path) and load_checkpoint(path)"
            )
        if (sign := self._sign()) is not None:
            run.begin_anew(sign)

    def _sign(self) -> StartOver | None:
        """Return how it shows that the function made nothing of its checkpoint; None: it did, or there is none."""
        if self._checkpoint is None:
            return None
        if not self._is_opened:
            return StartOver.UNOPENED
        is_read = self._is_loaded or (self._given is not None and self._given.is_read)
        return None if is_read else StartOver.UNREAD

    def _open(self) -> None:
        if not self._is_opened and self._run.num_rows == 0:
            self._run.go_on()
        self._is_opened = True

    def _hand_out(self) -> Path:
        with self._run.shielded(), self._run.lock:
            if self._run.is_closed:
                raise TrialStopped
            return self._run.saving.hand_out(self._run.iteration + 1)

    def _check_thread(self, caller: str) -> None:
        if threading.current_thread() in self._strangers:
            raise SessionError(
                f"{caller} was called from a thread that an earlier trial started",
                hint="end your threads before the trainable returns",
            )


_SAVER_HINT: Final = (
    "call report(metrics, checkpoint=state) with an object that has save_checkpoint(path) and load_checkpoint(path), "
    "such as tunekit.torch.TrainState"
)


def _need_saver(config: CheckpointConfig) -> list[str]:
    """Return the options in force that only work if there is an object to be asked for a checkpoint."""
    return [
        text
        for text, is_set in (
            (f"checkpoint_frequency={config.checkpoint_frequency}", config.frequency),
            (f"checkpoint_every_s={config.checkpoint_every_s!r}", config.checkpoint_every_s),
            ("checkpoint_at_end=True", config.checkpoint_at_end),
        )
        if is_set
    ]


def _kind(checkpoint: Any) -> Literal["none", "folder", "saver"]:
    if checkpoint is None:
        return "none"
    if isinstance(checkpoint, Checkpoint):
        with checkpoint.as_directory():  # Raises if there is no such folder, before the row is recorded.
            return "folder"
    if isinstance(checkpoint, Saver) and not isinstance(checkpoint, type):
        return "saver"
    raise ReportError(
        f"report(): checkpoint must be a Checkpoint or an object with save_checkpoint(path) and "
        f"load_checkpoint(path), got {shorten(checkpoint)} ({type(checkpoint).__qualname__})",
        hint="for a folder, pass Checkpoint.from_directory(folder)",
    )


def _as_metrics(value: Any, source: str) -> Any:
    """Return a dict as it is, and a number under a name."""
    if isinstance(value, Mapping):
        return value
    try:
        named = normalise({RETURNED_METRIC: value}, source)
    except ReportError:
        named = {}
    if not isinstance(named.get(RETURNED_METRIC), int | float):
        raise ReportError(
            f"{source} of the trainable must be a dict of metrics, a number or None, got {shorten(value)} "
            f"({type(value).__qualname__})",
            hint="report metrics with tunekit.report(), and return nothing",
        )
    return named
