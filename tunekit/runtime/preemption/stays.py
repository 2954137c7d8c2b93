"""Trials that train on, on machines that are to go: how long that is safe. Pure.

Where nothing else is free, the minutes that a machine has left are worth having. So a trial is saved once at its next
row, whatever happens then, and goes on. It leaves, saved again, when a place is free elsewhere, or when the time that
is left is just what it takes to come to a row and save it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tunekit.types import TrialId

_WORTH_S: Final = 60.0
"""A machine with less time than this is left at once: half a minute is what some clouds give, and not all of it."""
_SLACK_S: Final = 15.0
"""Of the time that is left, what is not planned for: clocks differ, and clouds take a machine a bit early."""
_ROWS: Final = 1.5
"""A row may take so much longer than the longest so far."""
_SAVES: Final = 1.25
"""And a save so much longer than the newest."""


class Stay:
    """One trial that trains on.

    Args:
        trial: Which one.
        now: Unix seconds.
    """

    def __init__(self, trial: TrialId, now: float) -> None:
        """Begin without knowing how long its rows take."""
        self.trial = trial
        self._since = now
        self._row_s = 0.0

    def note_row(self, took_s: float, now: float) -> None:
        """Take note of a row."""
        self._since, self._row_s = now, max(self._row_s, took_s)

    def row_s(self, now: float) -> float:
        """Return how long a row takes: as long as the longest, or as the one that is not done yet."""
        return max(self._row_s, now - self._since)


def pays(window_s: float | None) -> bool:
    """Return whether a machine that has so many seconds left is worth staying on. None: nobody knows how many."""
    return window_s is not None and window_s >= _WORTH_S


def must_leave(stays: Collection[Stay], saves_s: float, deadline: float, now: float) -> bool:
    """Return whether the trials of one machine must come to their last rows now.

    All write to one storage, so their saves count as if one came after the other.

    Args:
        stays: The trials.
        saves_s: How long their newest saves took together.
        deadline: When the machine is gone, in Unix seconds.
        now: Unix seconds.
    """
    row_s = max((stay.row_s(now) for stay in stays), default=0.0)
    return now + _SLACK_S + _ROWS * row_s + _SAVES * saves_s >= deadline
