"""How long a simulated attempt runs and is silent, counted by the judge from the journal alone."""

from __future__ import annotations

from dataclasses import dataclass

from tunekit.core.commands import KillTrial, StopTrial
from tunekit.core.events import Settings
from tunekit.errors import InvariantViolationError


@dataclass(slots=True)
class Seconds:
    """The time of one trial."""

    started_at: float | None = None
    """When its attempt began to run; None: it has not, or is over."""
    run_s: float = 0.0
    """Seconds that earlier attempts ran."""
    heard_at: float = 0.0
    """When its attempt was last heard of."""
    is_assigned: bool = False
    """Whether a worker was given its attempt."""
    is_killed: bool = False
    """Whether it was killed without having been told to stop."""

    def take_up(self, now: float) -> None:
        """A worker was given the attempt."""
        self.heard_at, self.is_assigned = now, True

    def hear(self, now: float, *, is_stopping: bool) -> None:
        """There is news of the attempt."""
        self.heard_at = now
        if self.started_at is None and not is_stopping:
            self.started_at = now

    def end(self, now: float) -> None:
        """The attempt is over."""
        self.run_s = self.total(now)
        self.started_at = None
        self.is_killed = self.is_assigned = False

    def total(self, now: float) -> float:
        """Return how long the trial has run."""
        return self.run_s + (now - self.started_at if self.started_at is not None else 0.0)

    def check_limit(self, settings: Settings, now: float) -> None:
        """Raise if a trial should have been told to stop; the bell may ring a moment later."""
        limit = settings.time_limit_s
        if limit is not None and self.started_at is not None and self.total(now) > max(limit, self.run_s) + 0.1:
            raise InvariantViolationError(f"a trial runs for {self.total(now)} s of {limit}")

    def check_stop(self, settings: Settings, now: float, command: StopTrial) -> None:
        """Raise if a trial is told to stop before its time is used up."""
        limit = settings.time_limit_s or 0.0
        if command.reason.startswith("time_limit_s") and self.total(now) < limit - 1e-6:
            raise InvariantViolationError(f"{command!r} comes after {self.total(now)} s")

    def check_kill(self, settings: Settings, now: float, command: KillTrial) -> None:
        """Raise if a trial that was not told to stop is killed although it is not silent for too long."""
        timeout, silence = settings.hang_timeout_s, now - self.heard_at
        is_there = self.started_at is not None or self.is_assigned
        if timeout is None or not is_there or silence < timeout:
            raise InvariantViolationError(f"{command!r} kills a trial after a silence of {silence} s")
        if self.is_killed:
            raise InvariantViolationError(f"{command!r} kills a trial twice")
        self.is_killed = True
