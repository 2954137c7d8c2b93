"""Experiment time: seconds since the experiment began, without the time in which no driver ran."""

from __future__ import annotations

import time


class Clock:
    """Goes on where the journal ended, and never runs backwards.

    Args:
        start_s: Time of the newest journalled event.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        """Start to run at once."""
        self._start_s = start_s
        self._began = time.monotonic()

    def now(self) -> float:
        """Return the experiment's time in seconds."""
        # Summed in this order, so that rounding never gives less than the start.
        return self._start_s + (time.monotonic() - self._began)
