"""A worker's permission to live.

It is renewed by every exchange that reaches a mailbox which has heard of the driver. When it has run out, the next
report stops the trial; after a further grace the process ends, wherever it is: by the threads that exchange, or, when C
code holds the interpreter lock, by the timer that ``rearm`` sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_REARM_S: Final = 1.0


class Lease:
    """Permission to live for so many seconds without word from the driver.

    Args:
        length_s: Seconds that user code may work on.
        grace_s: Seconds from there to the end of the process.
        rearm: Called after an exchange, at most once a second.
        die: Ends the process, giving a reason.
    """

    def __init__(self, length_s: float, grace_s: float, rearm: Callable[[], None], die: Callable[[str], None]) -> None:
        """Begin as if the driver had just been heard of."""
        self.length_s = length_s
        self._grace_s = grace_s
        self._rearm, self._die = rearm, die
        self._renewed_at = self._rearmed_at = time.monotonic()
        self._failing_since: float | None = None
        """When the first exchange failed since one succeeded."""

    @property
    def silence_s(self) -> float:
        """How long the driver has not been heard of."""
        return time.monotonic() - self._renewed_at

    @property
    def is_over(self) -> bool:
        """Whether it has run out."""
        return self.silence_s > self.length_s

    @property
    def complaint(self) -> str:
        """What is to be said about it."""
        return f"no word from the driver for {self.silence_s:.0f} s"

    def note_failure(self) -> None:
        """Take note that an exchange has failed."""
        self._failing_since = self._failing_since or time.monotonic()
        if time.monotonic() - self._failing_since > self._grace_s:  # Time in which nobody asked does not count.
            self._expire()

    def renew(self, silence_s: float) -> None:
        """Take note of an exchange, with a mailbox that has not heard of the driver for so long."""
        now = time.monotonic()
        self._failing_since = None
        self._renewed_at = max(self._renewed_at, now - silence_s)
        if silence_s > self.length_s:
            self._expire()
        elif now - self._rearmed_at >= _REARM_S:
            self._rearmed_at = now
            self._rearm()

    def _expire(self) -> None:
        if self.silence_s > self.length_s + self._grace_s:
            self._die(self.complaint)
