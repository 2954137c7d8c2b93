"""What user code calls while it runs as a trial: ``report``, ``get_checkpoint``, ``get_context``, ``restore``.

At most one trial runs in a process at a time, and its session is found through this module, so these functions work
from any thread that the trial starts. Whoever runs the trial provides the ``Session`` and activates it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from tunekit.checkpoint import Checkpoint
from tunekit.errors import SessionError


class TrialStopped(BaseException):
    """Raised inside ``report()`` when the trial is to end here. Let it pass; clean up in ``finally``."""


@runtime_checkable
class Saver(Protocol):
    """An object that can save and restore the state of a trial, such as ``tunekit.torch.TrainState``."""

    def save_checkpoint(self, path: str) -> Any:
        """Write the state into the empty folder ``path`` and return None or ``path``; or return it as a dict."""
        ...

    def load_checkpoint(self, checkpoint: Any) -> Any:
        """Restore the state from the folder, or from the dict if that is what was saved."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where user code finds itself. The getters are Ray Tune's names for the same."""

    experiment_name: str
    trial_name: str
    """Such as ``train_00007``; also the name of the trial's folder."""
    trial_index: int
    """Counts from 0."""
    attempt: int
    """Which life of the trial this is; counts from 1."""
    iteration: int
    """How many iterations are done, those before the restored checkpoint included."""
    resources: Mapping[str, float]
    """What the trial may use, such as ``{"CPU": 1.0}``."""
    trial_dir: str | None
    """The trial's folder; it may not exist yet. None if the experiment is not in a local folder."""
    _make_dir: Callable[[], Path] | None = field(default=None, repr=False, compare=False)

    @property
    def trial_id(self) -> str:
        """The same as ``trial_name``."""
        return self.trial_name

    def checkpoint_dir(self) -> Path:
        """Return a new, empty folder for the checkpoint of the next report.

        It lies where checkpoints are kept, so that reporting it moves nothing and copies nothing::

            folder = tk.get_context().checkpoint_dir()
            torch.save(model.state_dict(), folder / "model.pt")
            tk.report({"loss": loss}, checkpoint=tk.Checkpoint.from_directory(folder))

        Raises:
            StorageError: It cannot be made.
        """
        if self._make_dir is None:
            raise SessionError("this context belongs to no running trial", hint="call get_context() inside a trial")
        return self._make_dir()

    def get_experiment_name(self) -> str:
        """Return the experiment's name."""
        return self.experiment_name

    def get_trial_name(self) -> str:
        """Return the trial's name."""
        return self.trial_name

    def get_trial_id(self) -> str:
        """Return the trial's name."""
        return self.trial_name

    def get_trial_resources(self) -> Mapping[str, float]:
        """Return what the trial may use."""
        return self.resources

    def get_trial_dir(self) -> str | None:
        """Return the trial's folder."""
        return self.trial_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class PreemptionInfo:
    """What is known of the end that was announced to this process, or to its machine."""

    deadline: float | None
    """When the process is expected to be gone, in Unix seconds; None: nobody said."""
    source: str
    """Who said so, such as ``SIGTERM``."""
    node: str
    """Name of the machine."""
    ends: bool = True
    """Whether the trial is to come to a report and leave. False: it is saved at its next report, and goes on; there may
    be time for much more, or the machine may stay."""

    @property
    def remaining_s(self) -> float | None:
        """Seconds that are left, 0 at least; None: nobody said."""
        return None if self.deadline is None else max(0.0, self.deadline - time.time())


class Session(Protocol):
    """The running trial, as these functions need it."""

    def report(self, metrics: Any, checkpoint: Any) -> None:
        """Record a row, and a checkpoint if there is one. Raises TrialStopped when the trial is to end."""
        ...

    def get_checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint to go on from."""
        ...

    def restore(self, saver: Any) -> bool:
        """Load the checkpoint to go on from into ``saver``; return whether there is one."""
        ...

    def context(self) -> Context:
        """Return where user code finds itself."""
        ...

    def interrupt(self, trial: int, attempt: int) -> None:
        """Raise TrialStopped, if it is this attempt and its user code that runs now."""
        ...


class _Active(NamedTuple):
    """The running trial and its process. Replaced as a whole, since other threads look at it at any moment."""

    session: Session | None = None
    pid: int = 0


_active = _Active()
_announced: PreemptionInfo | None = None
"""About this process, whichever trial it runs."""


@contextmanager
def activate(session: Session) -> Iterator[None]:
    """Make ``session`` the one that user code finds, until the block ends."""
    global _active  # noqa: PLW0603 - user code calls plain functions, which find the trial through their module
    before, _active = _active, _Active(session, os.getpid())
    try:
        yield
    finally:
        _active = before


def report(metrics: Mapping[str, Any], *, checkpoint: Checkpoint | Saver | None = None) -> None:
    """Record one iteration of the trial.

    Args:
        metrics: Numbers, strings, bools and None, nested in dicts and lists if you like. ``should_checkpoint: True``
            asks for a checkpoint now, ``pin_checkpoint: True`` for one that is kept for good, ``done: True`` ends the
            trial.
        checkpoint: A ``Checkpoint``, which is kept; or an object with ``save_checkpoint(path)`` and
            ``load_checkpoint(path)``, which is asked to save when the ``CheckpointConfig`` says so.

    Raises:
        ReportError: Something in ``metrics`` cannot be recorded; says which key.
        MetricNotFoundError: The metric of the sweep is not among them, at the first report.
        SessionError: There is no trial here; or this thread is inside of a report already, from which a signal handler
            or ``save_checkpoint`` called this one.
    """
    _session("report()").report(metrics, checkpoint)


def get_checkpoint() -> Checkpoint | None:
    """Return the checkpoint that this attempt is to go on from; None: start from the beginning.

    Raises:
        SessionError: There is no trial here.
    """
    return _session("get_checkpoint()").get_checkpoint()


def restore(saver: Saver) -> bool:
    """Load the checkpoint that this attempt is to go on from into ``saver``.

    Returns:
        Whether there is one.

    Raises:
        SessionError: There is no trial here.
    """
    return _session("restore()").restore(saver)


def get_context() -> Context:
    """Return where this code runs: names of trial and experiment, attempt, resources.

    Raises:
        SessionError: There is no trial here.
    """
    return _session("get_context()").context()


def interrupt(trial: int, attempt: int) -> None:
    """Raise TrialStopped in the calling thread, which must be the main one: for a signal handler.

    Nothing happens unless this attempt runs and is inside user code; a save is never interrupted.
    """
    session, pid = _active
    if session is not None and pid == os.getpid():
        session.interrupt(trial, attempt)


def preempted() -> bool:
    """Return whether this process is to end soon, or its machine, so that the trial leaves; False outside of a trial.

    A trial that reports with an object that can save needs not ask: it is saved at its next report, and ends there. Ask
    where a step takes minutes, to come to a report in time; or to decide whether to write a folder for one.
    """
    info = get_preemption_info()
    return info is not None and info.ends


def get_preemption_info() -> PreemptionInfo | None:
    """Return what was announced about the end of this process or its machine; None: nothing, or there is no trial."""
    return _announced if in_trial() else None


def announce(preemption: PreemptionInfo | None) -> None:
    """Have user code in this process find an announcement. Safe in a signal handler."""
    global _announced  # noqa: PLW0603 - as above, and nothing but an assignment is safe there
    _announced = preemption


def in_trial() -> bool:
    """Return whether a trial runs in this process."""
    session, pid = _active
    return session is not None and pid == os.getpid()


def _session(caller: str) -> Session:
    session, pid = _active
    if session is None:
        raise SessionError(
            f"{caller} was called outside of a trial",
            hint="it works only while a trainable is run by Tuner(...).fit(); to try a function without a sweep, "
            "give it a small one: Tuner(train, param_space=config).fit()",
        )
    if pid != os.getpid():
        raise SessionError(
            f"{caller} was called in a child process of the trial",
            hint="send the numbers to the trial's own process, and call it there",
        )
    return session
