"""The books of one trial: how a stretch of the driver's time is split, as ``core.accounts`` describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from tunekit.core.events import ResultReported
from tunekit.core.trial import Eviction

NO_LOSS: Final = "no loss"
PAUSED: Final = "paused"
BEGAN_ANEW: Final = "began anew"
REFUSED: Final = "refused"


@dataclass(slots=True)
class Spent:
    """Microseconds by what they went into. Each one is counted once."""

    useful: int = 0
    pruned: int = 0
    recomputed: int = 0
    checkpointing: int = 0
    restoring: int = 0
    waiting: int = 0
    queued: int = 0

    @property
    def leased(self) -> int:
        """All of them."""
        return self.held + self.queued

    @property
    def held(self) -> int:
        """Those in which a worker was there for the trial."""
        return self.useful + self.pruned + self.lost

    @property
    def lost(self) -> int:
        """Those in which a worker was there and did not train, or what it trained did not last."""
        return self.recomputed + self.checkpointing + self.restoring + self.waiting

    def by_kind(self) -> dict[str, int]:
        """Return them by what they went into."""
        return {name: getattr(self, name) for name in _KINDS}

    def add(self, other: Spent) -> None:
        """Take the microseconds of another account in."""
        for name in _KINDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def summed(spent: Mapping[Any, Mapping[str, Spent]]) -> Spent:
    """Return what trials have spent together, under all causes."""
    total = Spent()
    for by_cause in spent.values():
        for each in by_cause.values():
            total.add(each)
    return total


_KINDS: Final = tuple(one.name for one in fields(Spent))


@dataclass(slots=True)
class Lease:
    """An attempt that has begun and not ended."""

    attempt: int
    launched: int
    until: int | None
    assigned: int | None = None
    """When a worker came to it, if that was said."""
    is_started: bool = False
    paid: int = 0
    """Up to this moment everything is accounted for."""
    iteration: int = 0
    """Of its newest row; before the first, of the checkpoint that it goes on from."""
    newest: int | None = None
    """Iteration of its newest row."""
    fresh: list[ResultReported] = field(default_factory=list)
    """Rows that came at ``arrived`` and are not accounted for."""
    arrived: int = 0
    is_held: bool = False
    """Whether it stands at its horizon."""
    is_stopping: bool = False
    is_ending: bool = False
    """Whether it was told to stop for good."""
    is_hung: bool = False
    """Whether it is being killed for its silence."""


@dataclass(slots=True)
class Book:
    """One trial."""

    spent: dict[str, Spent] = field(default_factory=dict)
    """By cause. Training of rows that stand is not in it."""
    rows: list[tuple[int, int]] = field(default_factory=list)
    """Iteration and microseconds of training that stands, by iteration. What came after an attempt's last row, if the
    attempt was not lost, belongs to that row."""
    lease: Lease | None = None
    cause: str = NO_LOSS
    """How the newest attempt has ended."""
    losses: dict[str, int] = field(default_factory=dict)
    """How often attempts were lost, by cause."""
    node: str = ""
    """Where the newest attempt runs or ran; empty while nobody knows."""
    newest: int = 0
    """Iteration of the newest row, of whatever attempt."""
    evicted: Eviction | None = None
    """The newest preemptions, which may be its own doing."""

    def under(self, cause: str) -> Spent:
        """Return the account of a cause."""
        return self.spent.setdefault(cause, Spent())

    def settle(self, lease: Lease) -> None:
        """Account for the rows that have come."""
        if not lease.fresh:
            return
        left = lease.arrived - lease.paid
        lease.paid = lease.arrived
        for row in lease.fresh:
            if row.blocked_s:
                blocked = min(left, micros(row.blocked_s))
                self.under(NO_LOSS).checkpointing += blocked
                left -= blocked
            if row.loaded_s:
                loaded = min(left, micros(row.loaded_s))
                self.under(self.cause).restoring += loaded
                left -= loaded
        shares = [left] if len(lease.fresh) == 1 else _shared(left, lease.fresh)
        for row, trained in zip(lease.fresh, shares, strict=True):
            if self.rows and self.rows[-1][0] >= row.iteration:
                self.rewind(row.iteration - 1)
            self.rows.append((row.iteration, trained))
        lease.fresh.clear()

    def rewind(self, iteration: int) -> None:
        """Regard training beyond an iteration as lost."""
        while self.rows and self.rows[-1][0] > iteration:
            self.under(self.cause).recomputed += self.rows.pop()[1]

    def wait(self, lease: Lease, now: int) -> None:
        """Account for a trial that stood at its horizon, if it did."""
        self.settle(lease)
        if lease.is_held:
            self.under(NO_LOSS).waiting += now - lease.paid
            lease.paid = now
            lease.is_held = False

    def prepare(self, lease: Lease, now: int, took_s: float) -> None:
        """Account for an attempt up to where user code begins, or would have begun."""
        known = now - lease.assigned if lease.assigned is not None else 0
        restoring = min(micros(took_s) if took_s else known, now - lease.launched)
        self.under(self.cause).restoring += restoring
        self.under(self.cause).queued += now - lease.launched - restoring
        lease.is_started = True
        lease.paid = now

    def lose(self, cause: str, *, is_fatal: bool = False) -> None:
        """Enter that the attempt was lost. One that ended the whole run was not: it is as if it had never been."""
        self.cause, self.lease = cause, None
        if not is_fatal:
            self.losses[cause] = self.losses.get(cause, 0) + 1

    def close(self, lease: Lease, now: int, cause: str | None, blocked_s: float = 0.0) -> None:
        """Account for the end of an attempt.

        Args:
            lease: The attempt.
            now: When it ended.
            cause: Why it was lost; None: it was not.
            blocked_s: Seconds of its end in which it waited for saves.
        """
        self.settle(lease)
        blocked = min(now - lease.paid, micros(blocked_s))
        self.wait(lease, now - blocked)
        left = now - lease.paid - blocked
        if blocked:
            self.under(NO_LOSS).checkpointing += blocked
        if cause is not None:
            self.under(cause).recomputed += left
        elif left:
            self.rows.append((lease.iteration, left))
        lease.paid = now


def micros(seconds: float) -> int:
    """Return a moment or a length of time in whole microseconds."""
    return round(seconds * 1_000_000)


def _shared(total: int, rows: Sequence[ResultReported]) -> list[int]:
    """Return whole shares of a total, in proportion to what each row took; equal ones if nobody knows."""
    weights = [max(0, micros(row.time_this_iter_s - row.loaded_s)) for row in rows]
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(rows), len(rows)
    shares, given, sofar = [], 0, 0
    for weight in weights:
        sofar += weight
        share = total * sofar // whole - given
        given += share
        shares.append(share)
    return shares
