"""When a row's checkpoint is saved, and why.

Any mix of triggers saves a row at most once, so one reason is given to it, the strongest: what the row asks for, then
what the iteration says, then that the machine is to go, then what the clock says. Saves by the clock come last because
only they may be dropped for a newer one; a save that is due for another reason as well must not be. What a notice alone
asks for is an *interim* checkpoint (``tunekit.core.checkpoints``), which a save that is due in any case is not.

The interval of ``checkpoint_every_s`` runs from the newest save, or from where the attempt began or was restored: it is
the work that a failure would cost. A save that failed counts too, or a full disk would be tried again at every row.
An interval that sets itself (``pace.py``) is kept as well as rows allow: of the two rows around it the
better one is saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tunekit.config import CheckpointConfig
from tunekit.core.cadence import is_better_now
from tunekit.runtime.saving.pace import Pace
from tunekit.runtime.saving.reasons import SaveReason

Clock = Callable[[], float]
"""Seconds since any moment, which never run backwards."""


class Wishes(NamedTuple):
    """What a row asks for besides being recorded."""

    save: bool
    """``should_checkpoint``"""
    pin: bool
    """``pin_checkpoint``, which asks for a save too"""


class Due(NamedTuple):
    """A save that is due at a row."""

    reason: SaveReason
    pin: bool


class Triggers:
    """All that decides whether a row of one attempt is saved, besides its end.

    Args:
        config: What the user asked for.
        clock: For ``checkpoint_every_s``.
        pace: The interval that sets itself; None: the user has set one, or none.
    """

    def __init__(self, config: CheckpointConfig, clock: Clock, pace: Pace | None = None) -> None:
        """Begin to count the seconds."""
        self._frequency = config.frequency
        self._every_s = config.every_s
        self._clock = clock
        self._pace = pace
        self._since = self._row_at = clock()
        self._requested: SaveReason | None = None

    def restart(self) -> None:
        """Count the seconds from now on: what there is to lose has just been saved or restored."""
        self._since = self._row_at = self._clock()

    def request(self, reason: SaveReason) -> None:
        """Have the next row saved that can be. Any thread or signal handler may ask."""
        self._requested = reason

    def due(self, iteration: int, wishes: Wishes) -> Due | None:
        """Return the save that is due at a row which can be saved, if one is.

        Args:
            iteration: The row's.
            wishes: The row's own.
        """
        reason = self._reason(iteration, wishes)
        return None if reason is None else Due(reason, wishes.pin)

    def take_request(self) -> SaveReason | None:
        """Return why a save was requested, and regard it as done."""
        reason = self._requested
        if reason is not None:  # Only then, so that a request that comes in between is not lost.
            self._requested = None
        return reason

    def _reason(self, iteration: int, wishes: Wishes) -> SaveReason | None:
        requested = self.take_request()
        if wishes.save or wishes.pin:
            return SaveReason.DEMAND
        if self._frequency and iteration % self._frequency == 0:
            return SaveReason.FREQUENCY
        if requested is not None:
            return requested
        if self._pace is not None:
            return SaveReason.TIME if self._is_best(self._pace) else None
        is_time = self._every_s is not None and self._clock() - self._since >= self._every_s
        return SaveReason.TIME if is_time else None

    def _is_best(self, pace: Pace) -> bool:
        """Return whether to save now rather than at the next row, which is expected after as long as this one took."""
        now = self._clock()
        step_s, self._row_at = now - self._row_at, now
        if not is_better_now(now - self._since, step_s, pace.interval_s) or not pace.may_save():
            return False
        pace.note_try()
        return True
