"""What the judge of a simulated sweep writes down about a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunekit.core.events import (
    LaunchFailed,
    RestoreFailed,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    WorkerLost,
)
from tunekit.errors import InvariantViolationError
from tunekit.testing.sim_budgets import Budgets
from tunekit.testing.sim_pauses import Pauses
from tunekit.testing.sim_restarts import Restarts
from tunekit.testing.sim_seconds import Seconds

ENDINGS = (TrialReturned, TrialRaised, TrialHalted, TrialPreempted, WorkerLost, LaunchFailed, RestoreFailed)
"""The events with which an attempt is over."""


def hold(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like a sentence
    """Raise unless something holds.

    Raises:
        InvariantViolationError: It does not.
    """
    if not holds:
        raise InvariantViolationError(otherwise)


@dataclass(slots=True)
class Books:
    """What the judge knows of one trial."""

    attempt: int = 0
    is_live: bool = False
    is_stopping: bool = False
    is_ending: bool = False
    """Whether it was told to stop for good, so that nobody asks about its rows any more."""
    newest: int = 0
    """Iteration of the newest row of this attempt."""
    saved_at: int = 0
    """Iteration of its newest checkpoint."""
    has_final: bool = False
    until: int | None = None
    is_waiting: bool = False
    """Whether it stands at its horizon without an answer."""
    resumed_from: int | None = None
    seconds: Seconds = field(default_factory=Seconds)
    doom: tuple[int, int] = (0, 0)
    """Iteration and attempt of the checkpoint that it was given, once it is seen to have made nothing of it where that
    is not wanted; until it is launched again."""
    reached: int = 0
    """Iteration of the newest row of any attempt."""
    reported: dict[int, int] = field(default_factory=dict)
    """By iteration: the newest attempt that has reported it."""
    restarts: Restarts = field(default_factory=Restarts)
    budgets: Budgets = field(default_factory=Budgets)
    pauses: Pauses = field(default_factory=Pauses)
    last_fault: tuple[Any, ...] = ()
    """Checkpoint and kind of the newest failure that is surely charged."""
    suspects: set[tuple[int, int]] = field(default_factory=set)
    """Iteration and attempt of checkpoints from which it has failed twice in the same way."""
    anew: set[tuple[int, int]] = field(default_factory=set)
    """Iteration and attempt of checkpoints that hold the training of an attempt that began anew."""
    not_before: float = 0.0
    """When it may be launched again at the earliest."""
    staged: dict[int, int] = field(default_factory=dict)
    """Attempt by iteration, of checkpoints whose publication is open."""
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    """Bytes of every checkpoint that was ever staged, by iteration and attempt."""
    scores: dict[tuple[int, int], float] = field(default_factory=dict)
    """Their scores, of those that have one."""
    pinned: set[tuple[int, int]] = field(default_factory=set)
    """Those of them that the user wants to keep."""
    interim: set[tuple[int, int]] = field(default_factory=set)
    """Those of them that are there only because the trial had to leave its place."""
    failures: dict[tuple[int, int], str] = field(default_factory=dict)
    """Failure checkpoints, by iteration and attempt: staged, published, or gone."""
    published: dict[int, int] = field(default_factory=dict)
    """Attempt by iteration, of checkpoints to rely on."""
    ever_published: set[tuple[int, int]] = field(default_factory=set)
    """Iteration and attempt of all checkpoints that were ever relied on."""
    doubted: set[tuple[int, int]] = field(default_factory=set)
    """Iteration and attempt of published checkpoints of which nobody knows whether they are still there."""
    given_up: set[tuple[int, int]] = field(default_factory=set)
    """Iteration and attempt of checkpoints that were told to be deleted."""
    unreadable: set[int] = field(default_factory=set)
    decisions: dict[int, bool] = field(default_factory=dict)
    """By rung: whether the trial was told to go on."""

    is_done: bool = False
    """Whether it has surely ended although no attempt of it has: in deterministic mode, while it was parked."""

    def lose(self, iteration: int, *, may_begin_anew: bool) -> None:
        """Follow that a checkpoint cannot be used: the one before is, or it stays, and the trial has failed."""
        left = {(at, of) for at, of in self.published.items() if at != iteration} - self.anew
        if left or may_begin_anew or (iteration, self.published.get(iteration, 0)) in self.doubted:
            self.published.pop(iteration, None)
            self.unreadable.add(iteration)
        else:
            self.budgets.must_fail |= not self.is_stopping
            self.budgets.may_fail = True

    def onward(self, published: Mapping[int, int]) -> int | None:
        """Return the iteration that an attempt would go on from, of published checkpoints: attempt by iteration."""
        own = [key for key in published.items() if key not in self.anew]
        trusted = [key for key in own if key not in self.suspects]
        return max(trusted or own, default=(None, 0))[0]

    @property
    def has_ended(self) -> bool:
        """Whether it came to its end: what another attempt has left beyond that counts no more."""
        return not self.is_live and (self.is_ending or self.has_final)

    def counts(self, attempt: int) -> bool:
        """Return whether what is said of an attempt counts."""
        return self.is_live and self.attempt == attempt
