"""What a trial may know about where it runs."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tunekit.core.events import Place
from tunekit.errors import StorageError
from tunekit.logs import logger_of
from tunekit.runtime.attempt.output import LOG_NAME
from tunekit.runtime.attempt.trial_run import TrialRun
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.session import Context
from tunekit.store.base import PutOutcome, Store

logger = logger_of(__name__)


def trial_dir(sweep: SweepSpec, spec: AttemptSpec) -> Path | None:
    """Return the trial's folder; None if the experiment is not in a local folder."""
    return None if "://" in sweep.path else Path(sweep.path) / spec.trial_name


@contextmanager
def log_folder(sweep: SweepSpec, spec: AttemptSpec, store: Store) -> Iterator[Path | None]:
    """Give the folder for what an attempt prints; None if that is not to be kept.

    On an object store nothing can be appended to, so each attempt has a file of its own, ``trial-<attempt>.log``, which
    is written when the attempt ends. What an attempt printed whose process was killed is lost there.
    """
    folder = trial_dir(sweep, spec)
    if not sweep.capture_output or folder is not None:
        yield folder if sweep.capture_output else None
        return
    with tempfile.TemporaryDirectory(prefix="tunekit-", ignore_cleanup_errors=True) as name:
        try:
            yield Path(name)
        finally:
            _upload(Path(name, LOG_NAME), store, f"{spec.trial_name}/trial-{spec.attempt}.log")


def _upload(path: Path, store: Store, key: str) -> None:
    """Put a log into the store, if there is one. That it does not work harms nothing else."""
    try:
        if path.exists() and store.put_if_absent(key, path.read_bytes()) is PutOutcome.UNKNOWN:
            logger.warning("the log %s could not be stored in %s", key, store.uri)
    except (OSError, StorageError) as error:
        logger.warning("the log %s could not be stored in %s: %s", key, store.uri, error)


def context_of(run: TrialRun, make_dir: Callable[[], Path] | None) -> Context:
    """Return the context of a running attempt.

    Args:
        run: The attempt.
        make_dir: What ``Context.checkpoint_dir`` calls.
    """
    folder = trial_dir(run.sweep, run.spec)
    return Context(
        experiment_name=run.sweep.experiment,
        trial_name=run.spec.trial_name,
        trial_index=run.spec.trial,
        attempt=run.spec.attempt,
        iteration=run.iteration,
        resources=dict(run.spec.resources),
        trial_dir=None if folder is None else str(folder),
        _make_dir=make_dir,
    )


def this_place() -> Place:
    """Return this process, as far as it knows itself."""
    return Place(pid=os.getpid(), hostname=_hostname())


@cache
def _hostname() -> str:
    return socket.gethostname()
