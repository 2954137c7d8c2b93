"""What the core needs of a scheduler. Implementations live above, in ``tunekit.schedulers``."""

from __future__ import annotations

from typing import Protocol

from tunekit.core.decisions import Decision
from tunekit.types import Mode, TrialId


class SchedulerState(Protocol):
    """A scheduler at work on one experiment. It changes only in ``decide``, so replay rebuilds it."""

    def horizon(self, trial: TrialId, iteration: int) -> int | None:
        """Return the first iteration after ``iteration`` at which the trial is to wait for a decision.

        None: the trial need never ask. Must not change anything.
        """
        ...

    def decide(self, trial: TrialId, iteration: int, value: float | None) -> Decision:
        """Decide about a trial that reported ``value`` of the metric at ``iteration``, its horizon.

        Asked again for the same trial and horizon (after a retry), it must give the first answer again. ``value`` is
        None when the metric is missing or is not a number; NaN is passed on. Both rank last.
        """
        ...


class Scheduler(Protocol):
    """The user's choice of scheduler: a frozen description that can begin any number of times."""

    @property
    def needs_metric(self) -> bool:
        """Whether it compares trials by the metric."""
        ...

    def begin(self, mode: Mode) -> SchedulerState:
        """Return fresh state for one experiment."""
        ...

    def identity(self) -> dict[str, object]:
        """Return class name and arguments as JSON values: part of the experiment's identity."""
        ...
