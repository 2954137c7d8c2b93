"""What a simulated attempt did, and when: its own truth, which no message and no driver has a part in.

A worker tells the driver what its diary says of the time since its newest row, as a stopwatch would. The whole of it is
kept, and compared in the end with what the accounts have made of the journal (``tunekit.testing.sim_truth``).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

HOLD_S: Final = 0.1
"""For how long a trial stands still when it saves and goes on."""
LOAD_S: Final = 0.15
"""For how long it loads a checkpoint."""


class Doing(StrEnum):
    """What an attempt does at a time."""

    QUEUED = "queued"
    """It waits for a worker."""
    PREPARING = "preparing"
    """A worker loads its code, and reads its checkpoint."""
    LOADING = "loading"
    TRAINING = "training"
    SAVING = "saving"
    """User code waits for a save."""
    WAITING = "waiting"
    """For a decision."""
    LEAVING = "leaving"
    """It does not wait for the answer to its newest row, since its machine is to go. It takes no time by itself."""
    GONE = "gone"
    """Nothing: its process has died, or has said its last word."""
    MISSED = "missed"
    """Nothing either, but the driver takes it for one that waits."""


Entry: TypeAlias = tuple[float, Doing | int]
"""When it began to do something; or when it had a row, of this iteration."""


class Diary:
    """Of one attempt.

    Args:
        now: When it was launched.
    """

    __slots__ = ("_mark", "entries", "is_killed_for_silence", "launched_at")

    def __init__(self, now: float) -> None:
        """Begin to wait for a worker."""
        self.launched_at = now
        self.entries: list[Entry] = [(now, Doing.QUEUED)]
        """In their order."""
        self.is_killed_for_silence = False
        self._mark = 0
        """How many entries there were at the newest row."""

    def begin(self, now: float, doing: Doing) -> None:
        """Do something else from now on, whatever was planned."""
        entries = self.entries
        while entries[-1][0] > now:
            entries.pop()
        entries.append((now, doing))

    def die(self, now: float) -> None:
        """Do nothing any more; the driver may not notice."""
        while self.entries[-1][0] > now:
            self.entries.pop()
        self.entries.append((now, Doing.MISSED if self.entries[-1][1] is Doing.WAITING else Doing.GONE))

    def plan(self, moment: float, doing: Doing) -> None:
        """Do something else from a moment on that is still to come."""
        self.entries.append((moment, doing))

    def go_on(self, now: float, *, saves: bool, loads: bool) -> None:
        """Train from now on, once what is being saved lets go of the trial and its checkpoint is loaded."""
        if saves:
            self.begin(now, Doing.SAVING)
            now += HOLD_S
        if loads:
            self.entries.append((now, Doing.LOADING))
            now += LOAD_S
        self.entries.append((now, Doing.TRAINING))

    def row(self, now: float, iteration: int) -> None:
        """Have a row."""
        self.entries.append((now, iteration))
        self._mark = len(self.entries)

    def since_row(self, now: float, doing: Doing) -> float:
        """Return how many seconds since the newest row it did this."""
        seconds, until = 0.0, now
        for moment, what in reversed(self.entries[self._mark :]):
            if moment < until:
                if what is doing:
                    seconds += until - moment
                until = moment
        return seconds

    def since_given(self, now: float) -> float:
        """Return for how long a worker has been there for it."""
        given_at = next((moment for moment, what in self.entries if what is Doing.PREPARING), now)
        return max(0.0, now - given_at)
