"""What a trial may know about where it runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tunekit.core.events import Place
from tunekit.runtime.spec import AttemptSpec, SweepSpec
from tunekit.runtime.trial_run import TrialRun
from tunekit.session import Context


def trial_dir(sweep: SweepSpec, spec: AttemptSpec) -> Path | None:
    """Return the trial's folder; None if the experiment is not in a local folder."""
    return None if "://" in sweep.path else Path(sweep.path) / spec.trial_name


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
