"""What the journal says of each attempt, read without a core and without accounts: when it began, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tunekit.core.books import BEGAN_ANEW, NO_LOSS, PAUSED
from tunekit.core.codec import Record
from tunekit.core.commands import LaunchTrial, StopTrial
from tunekit.core.events import (
    DriverStarted,
    Event,
    LaunchFailed,
    RestoreFailed,
    ResultReported,
    TrialAssigned,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialStarted,
    WorkerLost,
)
from tunekit.testing.sim_books import ENDINGS
from tunekit.types import LossCause, TrialId

_CAUSES: dict[type, str] = {
    TrialReturned: NO_LOSS,
    TrialHalted: PAUSED,
    TrialRaised: LossCause.RAISED,
    TrialPreempted: LossCause.PREEMPTED,
    RestoreFailed: LossCause.RESTORE_FAILED,
    DriverStarted: LossCause.DRIVER_LOST,
}
_NEWS = frozenset((ResultReported, TrialStarted, TrialAssigned, *ENDINGS))


@dataclass(slots=True)
class Life:
    """One attempt, as far as the driver heard of it while it counted."""

    trial: TrialId
    attempt: int
    resume_from: int | None
    began_at: float
    """In experiment seconds, as everything here."""
    ended_at: float
    """Of one that was under way when its driver died: the last moment that is known."""
    rows: set[int] = field(default_factory=set)
    is_started: bool = False
    is_assigned: bool = False
    may_begin_anew: bool = True
    """Whether nobody stops it if it makes nothing of its checkpoint."""
    is_ending: bool = False
    """Whether it was told to stop, and not only to give its place away."""
    end: Event | None = None

    @property
    def cause(self) -> str:
        """How it ended."""
        if isinstance(self.end, WorkerLost | LaunchFailed):
            return str(self.end.cause)
        if self.is_in_peace and self.is_ending and not self.may_begin_anew:
            return BEGAN_ANEW
        return str(_CAUSES[type(self.end)])

    @property
    def is_killed(self) -> bool:
        """Whether the driver had it killed."""
        return isinstance(self.end, WorkerLost) and self.end.cause is LossCause.KILLED

    @property
    def is_in_peace(self) -> bool:
        """Whether nothing was lost with it but its place."""
        return isinstance(self.end, TrialReturned | TrialHalted)

    @property
    def tells_saves(self) -> bool:
        """Whether its last word says for how long it waited for saves since its newest row."""
        return isinstance(self.end, TrialReturned | TrialHalted | TrialRaised | TrialPreempted)

    @property
    def tells_preparation(self) -> bool:
        """Whether its last word says for how long it was prepared, since it did not start."""
        return isinstance(self.end, WorkerLost | LaunchFailed | RestoreFailed) and self.end.took_s > 0


def lives_of(records: Sequence[Record]) -> list[Life]:
    """Return all attempts in the order in which they were launched."""
    lives: list[Life] = []
    live: dict[TrialId, Life] = {}
    now = 0.0
    may_begin_anew = True
    for record in records:
        if isinstance(record, LaunchTrial):
            life = Life(record.trial, record.attempt, record.resume_from, now, now, may_begin_anew=may_begin_anew)
            live[record.trial] = life
            lives.append(life)
            continue
        if isinstance(record, StopTrial) and not record.pause and record.trial in live:
            live[record.trial].is_ending = True
        at = getattr(record, "at", None)
        if at is None:  # A command.
            continue
        if isinstance(record, DriverStarted):
            for life in live.values():
                life.end, life.ended_at = record, now
            live.clear()
            may_begin_anew = record.settings.silent_restart != "fail"
        now = at
        if type(record) in _NEWS:
            _hear(live, record, now)
    return lives


def _hear(live: dict[TrialId, Life], event: Any, now: float) -> None:
    life = live.get(event.trial)
    if life is None or life.attempt != event.attempt:
        return
    match event:
        case ResultReported():
            life.rows.add(event.iteration)
            life.is_started = True
        case TrialStarted():
            life.is_started = True
        case TrialAssigned():
            life.is_assigned = True
        case _:
            life.end, life.ended_at = event, now
            del live[life.trial]
