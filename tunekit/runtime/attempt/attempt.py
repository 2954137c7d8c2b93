"""One life of one trial in this process, from its checkpoint to its last event."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from tunekit.core.events import (
    ErrorInfo,
    LaunchFailed,
    Place,
    RestoreFailed,
    TrialStarted,
)
from tunekit.errors import CheckpointError
from tunekit.runtime.attempt.class_trial import ClassSession, run_class
from tunekit.runtime.attempt.function_trial import FunctionSession, run_function
from tunekit.runtime.attempt.isolation import isolated, trial_seed
from tunekit.runtime.attempt.output import TrialLog, captured
from tunekit.runtime.attempt.surroundings import log_folder, this_place
from tunekit.runtime.attempt.trial_run import Ending, TrialRun, logger
from tunekit.runtime.line.channel import Channel
from tunekit.runtime.line.failure import error_info, is_fatal, is_misuse
from tunekit.runtime.line.heartbeat import being_heard
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.runtime.saving.saving import Saving
from tunekit.session import TrialStopped, activate
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.trainable.bound import BoundTrainable, as_bound
from tunekit.trainable.resources import DEFAULT
from tunekit.types import LossCause

__all__ = ["Channel", "run_attempt"]


def run_attempt(
    sweep: SweepSpec,
    spec: AttemptSpec,
    trainable: Any,
    channel: Channel,
    io: CheckpointIO,
    *,
    place: Place | None = None,
    owns_process: bool = False,
    given_at: float | None = None,
) -> bool:
    """Run one attempt on the calling thread, which should be the main one, and send all of its events.

    Args:
        sweep: What is the same for every trial.
        spec: The attempt.
        trainable: A function, a class or a BoundTrainable.
        channel: The way to the driver.
        io: Where checkpoints are written to and read from.
        place: What the driver is told about where it runs; None: this process and machine.
        owns_process: Whether this process does nothing but run trials, so that states of random generators need not
            be put back, and a KeyboardInterrupt comes from user code and not from somebody's Ctrl-C.
        given_at: When the attempt was taken up, by ``time.monotonic``; None: now.

    Returns:
        Whether the process may run another trial: False after any exception of user code, after an interruption, and
        when a thread is left that has reported.

    Raises:
        KeyboardInterrupt: Ctrl-C reached user code, in a process that is not ours.
    """
    place = place if place is not None else this_place()
    given_at = time.monotonic() if given_at is None else given_at
    restored = _restore(sweep, spec, channel, io, place.node, given_at)
    if isinstance(restored, Exception):
        return True
    saving = Saving(sweep, spec, channel, io)
    run = TrialRun(sweep, spec, channel, saving)
    seed = trial_seed(sweep.seed, spec.trial)
    threads = max(1, int(spec.resources.get("CPU", 1)))
    kept_apart = isolated(seed, num_threads=threads, keep_generators=not owns_process)
    with log_folder(sweep, spec, io.store) as folder, closing(saving), kept_apart, captured(folder) as log:
        channel.send(
            TrialStarted(
                trial=spec.trial,
                attempt=spec.attempt,
                restored_from=spec.resume_from,
                place=place,
                took_s=seconds_since(given_at),
                resources=None if spec.resources == DEFAULT else dict(spec.resources),
            )
        )
        is_clean = _run(run, as_bound(trainable), restored, log, owns_process=owns_process)
    channel.flush()
    if restored is not None:
        io.release(restored)
    return is_clean and not run.was_interrupted and not run.has_left_threads


def _restore(
    sweep: SweepSpec, spec: AttemptSpec, channel: Channel, io: CheckpointIO, node: str, given_at: float
) -> Path | Exception | None:
    """Return the folder of the checkpoint to go on from, every byte verified; an error that has been told."""
    if spec.resume_from is None:
        return None
    try:
        with being_heard(sweep, channel, spec.trial, spec.attempt):
            return io.verify(spec.trial_name, spec.resume_from)
    except Exception as error:  # noqa: BLE001 - whatever the storage raises, the driver decides what to do
        refusal = _refusal(spec, spec.resume_from, error, node)
        channel.send(msgspec.structs.replace(refusal, took_s=seconds_since(given_at)))
        channel.flush()
        return error


def seconds_since(given_at: float) -> float:
    """Return how long ago a moment of ``time.monotonic`` was, for the journal."""
    return round(time.monotonic() - given_at, 4)


def _refusal(spec: AttemptSpec, iteration: int, error: Exception, node: str) -> LaunchFailed | RestoreFailed:
    """Return the event that tells why the checkpoint cannot be used."""
    if not isinstance(error, CheckpointError):  # The checkpoint may be whole.
        error_text, cause = error_info(error), LossCause.STORAGE
        return LaunchFailed(trial=spec.trial, attempt=spec.attempt, error=error_text, cause=cause, node=node)
    return RestoreFailed(trial=spec.trial, attempt=spec.attempt, iteration=iteration, error=error_info(error))


def _run(
    run: TrialRun, bound: BoundTrainable, checkpoint: Path | None, log: TrialLog | None, *, owns_process: bool
) -> bool:
    """Run user code, send how it ended, and return whether it raised nothing."""
    try:
        _enter(run, bound, checkpoint)
    except TrialStopped:
        # Not ours if nothing has ended: user code may raise it to end its trial.
        run.ending = run.ending or Ending.RETURNED
    except BaseException as error:  # sys.exit() ends a trial and not the worker
        if isinstance(error, KeyboardInterrupt) and not owns_process:
            raise
        if run.ending is None:
            _send_raised(run, error, log)
        else:
            logger.warning(
                "%s: ended, but raised on its way out; its results stand", run.spec.trial_name, exc_info=error
            )
            run.send_ending()
        return False
    run.send_ending()
    return True


def _enter(run: TrialRun, bound: BoundTrainable, checkpoint: Path | None) -> None:
    if isinstance(bound.target, type):
        with activate(ClassSession(run, checkpoint)):
            run_class(run, bound, checkpoint)
    else:
        session = FunctionSession(run, checkpoint)
        try:
            with activate(session):
                run_function(run, session, bound)
        finally:
            run.has_left_threads = session.has_left_reporters


def _send_raised(run: TrialRun, error: BaseException, log: TrialLog | None) -> None:
    info = error_info(error, run.spec.config)
    if log is not None:
        log.write(_text(info))
    run.send_raised(info, retryable=not is_misuse(error), fatal=is_fatal(error))


def _text(info: ErrorInfo) -> str:
    return info.traceback if info.traceback.endswith("\n") else f"{info.traceback}\n"
