"""How often one attempt saves under ``checkpoint_every_s="auto"``: by what its own saves cost, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tunekit.core.cadence import Measured, Outlook, bounded_s

_GUESS_S: Final = 1.0
"""What a save is taken to cost whose cost could not be found out, because it failed."""


class Pace:
    """The interval of one attempt.

    Args:
        outlook: What it was told at its launch.
        is_busy: Says whether a save is on its way behind the trial.
    """

    def __init__(self, outlook: Outlook, is_busy: Callable[[], bool] = lambda: False) -> None:
        """Go by what others have measured."""
        self.outlook = outlook
        """What it was told last. Another thread may have put it there."""
        self._is_busy = is_busy
        self._blocked = Measured()
        self._durable = Measured()
        self._has_tried = False

    def note_blocked(self, seconds: float) -> None:
        """Take note for how long a save has held the trial up. On the thread that reports."""
        self._blocked.add(seconds)

    def note_durable(self, seconds: float) -> None:
        """Take note of how long a save took until it was durable. On the thread that finished it."""
        self._durable.add(seconds)

    def may_save(self) -> bool:
        """Return whether no save is on its way: another one would wait for it, and grow old."""
        return not self._is_busy()

    @property
    def interval_s(self) -> float:
        """Seconds to work between two saves. 0: the next row is to be saved, to find out what that costs."""
        blocked = self._blocked.value if self._blocked.count else self.outlook.blocked_s
        if not blocked and not self._has_tried:
            return 0.0
        durable = self._durable.value if self._durable.count else self.outlook.durable_s
        return bounded_s(blocked or _GUESS_S, durable, self.outlook.mean_s)

    def note_try(self) -> None:
        """Take note that a save is made. Should it fail, the next one waits: a full disk is not tried at every row."""
        self._has_tried = True
