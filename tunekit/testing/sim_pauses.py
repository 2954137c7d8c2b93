"""What the judge of a simulated sweep knows of who pays for an attempt that is lost while its scheduler pauses it.

Nobody does the first time: the pause may have to do with it. But the next attempt comes to the same pause, and if it
has not saved anything in between, it pays as at any other row. While a run is being wound up nobody pays at all; of
that the journal says nothing, but nothing is launched any more in such a run.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunekit.core.commands import InterruptTrial, KillTrial, LaunchTrial, StopTrial
from tunekit.core.events import Event, TrialPreempted, TrialRaised, WorkerLost
from tunekit.types import LossCause

PAUSES = "were better"
"""How the reason of a pause ends that is the scheduler's."""
FREE = {LossCause.DRIVER_LOST, LossCause.NOT_STARTED, LossCause.RESTORE_FAILED}
"""For which no budget pays anyway."""


@dataclass(slots=True)
class Pauses:
    """Those of one trial."""

    is_pausing: bool = False
    """Whether its scheduler, and nobody else, has told the attempt to pause."""
    is_pressed: bool = False
    """Whether the attempt did not stop as told, so that a signal of ours may have ended it."""
    spared_from: int = -1
    """Where the newest attempt had started for which nobody paid; -1: none."""
    is_known: bool = True
    """Whether that is known; not if a run ended after a loss at a pause."""
    is_open: bool = False
    """Whether the next launch in this run says how the newest loss at a pause was taken."""
    is_owed: bool = False
    """Whether that launch says that somebody has paid."""
    start: int = 0
    """Iteration of the checkpoint that the attempt started from."""

    def see(self, command: StopTrial | InterruptTrial | KillTrial | LaunchTrial) -> bool:
        """Enter what the attempt is told, and return whether its newest loss is now sure to have been paid for."""
        if isinstance(command, StopTrial):
            self.is_pausing = command.pause and command.reason.endswith(PAUSES)
        elif not isinstance(command, LaunchTrial):
            self.is_pressed = True
        else:
            is_owed, self.is_owed = self.is_owed, False
            if self.is_open and not is_owed:
                self.spared_from = self.start
            self.is_open = self.is_pausing = self.is_pressed = False
            self.start = command.resume_from or 0
            return is_owed
        return False

    def begin_run(self) -> None:
        """Follow that another driver takes over."""
        self.is_known = self.is_known and not self.is_open
        self.is_open = self.is_pausing = self.is_pressed = self.is_owed = False

    def lose(self, event: Event) -> bool | None:
        """Return whether somebody pays for an attempt that has ended, but for a run that winds up; None: unknown."""
        if not (self.is_known and self.is_pausing) or not isinstance(event, TrialRaised | TrialPreempted | WorkerLost):
            return None
        if isinstance(event, WorkerLost) and event.cause in FREE:
            return None
        if isinstance(event, TrialRaised) and not event.retryable:
            return None
        self.is_open = True
        may_be_ours = self.is_pressed or not isinstance(event, TrialRaised)
        self.is_owed = not may_be_ours or self.start <= self.spared_from
        return self.is_owed
