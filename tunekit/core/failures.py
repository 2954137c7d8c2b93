"""Who pays for a lost attempt: budgets as a pure verdict."""

from __future__ import annotations

from tunekit.types import LossCause

_SPARED = frozenset({LossCause.PREEMPTED, LossCause.NODE_LOST, LossCause.DRIVER_LOST, LossCause.NOT_STARTED})


def is_charged(cause: LossCause) -> bool:
    """Return whether a loss of this cause consumes ``max_failures``: what the trial may have brought about itself."""
    return cause not in _SPARED


def is_exhausted(num_failures: int, max_failures: int) -> bool:
    """Return whether a trial with so many charged failures is to be given up. ``max_failures=-1`` never is."""
    return 0 <= max_failures < num_failures
