"""How an attempt speaks with the driver, whatever lies between them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tunekit.core.cadence import Outlook
from tunekit.core.commands import ContinueTrial, StopTrial
from tunekit.core.events import Event


class Preempted(NamedTuple):
    """Nobody ordered it, but this process is to end soon: the trial is to stop at this row, saved if it can be."""

    reason: str
    saves: bool = True
    """False: there is no time for that."""


class Channel(Protocol):
    """The way to the driver, and back."""

    is_saving: bool
    """Whether the trial writes a checkpoint, and user code waits for that. If it is told to stop meanwhile, the driver
    is asked for patience at once."""

    def send(self, event: Event) -> None:
        """Pass an event on, now or soon, in order.

        ``CheckpointStaged``, ``SaveFailed`` and ``TrialSaving`` may come from another thread, at any moment.
        """
        ...

    def wait(self) -> ContinueTrial | StopTrial | Preempted:
        """Return the decision about the row that was just sent."""
        ...

    def pending_stop(self) -> StopTrial | Preempted | None:
        """Return the order to stop, if it has come, or another reason to."""
        ...

    def outlook(self) -> Outlook | None:
        """Return what the trial may expect, if it was told anything after its launch."""
        ...

    def flush(self) -> None:
        """Pass everything on now."""
        ...
