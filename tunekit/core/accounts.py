"""What the seconds of a sweep went into, by trial and by the loss that made them necessary: a fold over the journal.

An attempt is *leased* from its launch to its end: to the event that closes it or, if the driver died first, to the last
moment that the journal knows. All moments are the driver's, so time in which no driver ran belongs to nobody. Each of
these seconds is exactly one of

- *queued*: no worker has come to the attempt yet. It holds nothing of the cluster, or a process that starts;
- *restoring*: a worker loads the code, reads and verifies the checkpoint, and the trial loads it;
- *checkpointing*: user code waits for a save;
- *waiting*: the trial stands at its horizon, for a decision;
- *useful*: training, up to rows that stand;
- *pruned*: the same, of a trial that a scheduler then stopped early;
- *recomputed*: training that has to be done again. Its rows lie beyond the checkpoint from which a later attempt goes
  on, or it came to no row before the attempt was lost.

**Causes.** Training that is recomputed, and the seconds queued and restoring of the attempt that does it again, are
entered under the loss: a ``LossCause``, or ``PAUSED`` if the attempt was told to give its place away. What would have
been spent without any loss is entered under ``NO_LOSS``.

**Two clocks.** How much time has passed, the driver's clock says; what it went into, the worker's. Let D be the
driver's seconds between two arrivals of rows, and let the rows that came with the later one say that they took tᵢ, that
they loaded for lᵢ, and that bᵢ were spent in saves before them. Then bᵢ and lᵢ are taken as they are, as far as D goes,
and the rest of D is shared among the rows as tᵢ. So nothing is measured twice, delays of messages are training, and the
sums are exact: everything is a whole number of microseconds. Journals of earlier versions do not say tᵢ, lᵢ or bᵢ
everywhere; they count as 0, and training is the rest.

A trial that failed keeps its rows, which stay useful unless it is tried again from before them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from tunekit.core.commands import Command, ContinueTrial, KillTrial, LaunchTrial, StopTrial
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
from tunekit.core.trial import TrialState
from tunekit.types import LossCause, TrialId, TrialStatus

NO_LOSS: Final = "no loss"
PAUSED: Final = "paused"

_Ending = TrialReturned | TrialRaised | TrialHalted | TrialPreempted | WorkerLost | LaunchFailed | RestoreFailed
_IN_PEACE: Final[dict[type, str]] = {TrialReturned: NO_LOSS, TrialHalted: PAUSED}


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


_KINDS: Final = tuple(one.name for one in fields(Spent))


@dataclass(slots=True)
class _Lease:
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
    is_hung: bool = False
    """Whether it is being killed for its silence."""


@dataclass(slots=True)
class _Book:
    """One trial."""

    spent: dict[str, Spent] = field(default_factory=dict)
    """By cause. Training of rows that stand is not in it."""
    rows: list[tuple[int, int]] = field(default_factory=list)
    """Iteration and microseconds of training of each row that stands, by iteration."""
    lease: _Lease | None = None
    cause: str = NO_LOSS
    """How the newest attempt has ended."""

    def under(self, cause: str) -> Spent:
        """Return the account of a cause."""
        return self.spent.setdefault(cause, Spent())

    def settle(self, lease: _Lease) -> None:
        """Account for the rows that have come."""
        if not lease.fresh:
            return
        left = lease.arrived - lease.paid
        for row in lease.fresh:
            blocked = min(left, _us(row.blocked_s))
            loaded = min(left - blocked, _us(row.loaded_s))
            left -= blocked + loaded
            if blocked:
                self.under(NO_LOSS).checkpointing += blocked
            if loaded:
                self.under(self.cause).restoring += loaded
        for row, trained in zip(lease.fresh, _shared(left, lease.fresh), strict=True):
            self.rewind(row.iteration - 1)
            self.rows.append((row.iteration, trained))
        lease.paid = lease.arrived
        lease.fresh.clear()

    def rewind(self, iteration: int) -> None:
        """Regard training beyond an iteration as lost."""
        while self.rows and self.rows[-1][0] > iteration:
            self.under(self.cause).recomputed += self.rows.pop()[1]

    def wait(self, lease: _Lease, now: int) -> None:
        """Account for a trial that stood at its horizon, if it did."""
        self.settle(lease)
        if lease.is_held:
            self.under(NO_LOSS).waiting += now - lease.paid
            lease.paid = now
            lease.is_held = False

    def prepare(self, lease: _Lease, now: int, took_s: float) -> None:
        """Account for an attempt up to where user code begins, or would have begun."""
        known = now - lease.assigned if lease.assigned is not None else 0
        restoring = min(_us(took_s) or known, now - lease.launched)
        self.under(self.cause).restoring += restoring
        self.under(self.cause).queued += now - lease.launched - restoring
        lease.is_started = True
        lease.paid = now

    def close(self, lease: _Lease, now: int, cause: str | None, blocked_s: float = 0.0) -> None:
        """Account for the end of an attempt.

        Args:
            lease: The attempt.
            now: When it ended.
            cause: Why it was lost; None: it was not.
            blocked_s: Seconds of its end in which it waited for saves.
        """
        self.wait(lease, now)
        blocked = min(now - lease.paid, _us(blocked_s))
        left = now - lease.paid - blocked
        if blocked:
            self.under(NO_LOSS).checkpointing += blocked
        if cause is not None:
            self.under(cause).recomputed += left
        elif left:
            before = self.rows.pop()[1] if self.rows and self.rows[-1][0] == lease.iteration else 0
            self.rows.append((lease.iteration, before + left))
        lease.paid = now


class Accounts:
    """The accounts of all trials, built from the journal's records in their order.

    Args:
        records: The journal; more can be added later.
    """

    def __init__(self, records: Iterable[Event | Command] = ()) -> None:
        """Take in records."""
        self._books: dict[TrialId, _Book] = {}
        self._at = 0.0
        """When the newest event happened."""
        for record in records:
            self.apply(record)

    def apply(self, record: Event | Command) -> None:
        """Take in the next record of the journal. Commands are given when the event before them happened."""
        if isinstance(record, DriverStarted):
            self._lose_all()
        if (at := getattr(record, "at", None)) is not None:
            self._at = at
        if (take := _TAKERS.get(type(record))) is not None:
            take(self, record)

    def spent(self, trials: Sequence[TrialState] = ()) -> dict[TrialId, dict[str, Spent]]:
        """Return what each trial that was ever launched has spent up to now, by cause.

        Args:
            trials: Says which ones were stopped early; nothing is pruned of one that is not among them.
        """
        pruned = {trial.trial for trial in trials if trial.status is TrialStatus.STOPPED}
        return {index: self._so_far(book, index in pruned) for index, book in sorted(self._books.items())}

    def total(self, trials: Sequence[TrialState] = ()) -> Spent:
        """Return what all trials have spent together."""
        total = Spent()
        for by_cause in self.spent(trials).values():
            for spent in by_cause.values():
                total.add(spent)
        return total

    def standing(self, trial: TrialId) -> set[int]:
        """Return the iterations of a trial whose training stands, those of an attempt under way left out."""
        book = self._books.get(trial)
        return set() if book is None else {iteration for iteration, _ in book.rows}

    def _so_far(self, book: _Book, is_pruned: bool) -> dict[str, Spent]:  # noqa: FBT001 - internal, and read once
        if book.lease is not None:
            book = copy.deepcopy(book)
            assert book.lease is not None  # noqa: S101 - for the type checker
            self._end(book, book.lease, None)
        spent = {cause: copy.copy(each) for cause, each in book.spent.items()}
        stands = sum(trained for _, trained in book.rows)
        expected = spent.setdefault(NO_LOSS, Spent())
        if is_pruned:
            expected.pruned += stands
        else:
            expected.useful += stands
        return spent

    def _lease(self, trial: TrialId, attempt: int) -> tuple[_Book, _Lease] | None:
        """Return a trial whose attempt is under way. What is said of any other one is void."""
        book = self._books.get(trial)
        if book is None or book.lease is None or book.lease.attempt != attempt:
            return None
        return book, book.lease

    def _lose_all(self) -> None:
        """End what was under way when the driver died: when the newest event happened, as far as anybody knows."""
        for book in self._books.values():
            if book.lease is not None:
                self._end(book, book.lease, str(LossCause.DRIVER_LOST))
                book.cause, book.lease = str(LossCause.DRIVER_LOST), None

    def _end(self, book: _Book, lease: _Lease, cause: str | None, blocked_s: float = 0.0, took_s: float = 0.0) -> None:
        now = _us(self._at)
        if not lease.is_started:
            book.prepare(lease, now, took_s)
        book.close(lease, now, cause, blocked_s)

    def _on_launch(self, command: LaunchTrial) -> None:
        book = self._books.setdefault(command.trial, _Book())
        start = command.resume_from
        book.rewind(-1 if start is None else start)
        book.lease = _Lease(command.attempt, _us(self._at), command.until, iteration=start or 0)

    def _on_assigned(self, event: TrialAssigned) -> None:
        if (found := self._lease(event.trial, event.attempt)) is not None:
            found[1].assigned = _us(event.at)

    def _on_started(self, event: TrialStarted) -> None:
        found = self._lease(event.trial, event.attempt)
        if found is not None and not found[1].is_started:
            found[0].prepare(found[1], _us(event.at), event.took_s)

    def _on_row(self, event: ResultReported) -> None:
        found = self._lease(event.trial, event.attempt)
        if found is None:
            return
        book, lease = found
        if lease.newest is not None and event.iteration <= lease.newest:
            return
        now = _us(event.at)
        if not lease.is_started:
            book.prepare(lease, now, 0.0)
        if now != lease.arrived:
            book.settle(lease)
            lease.arrived = now
        lease.fresh.append(event)
        lease.iteration = lease.newest = event.iteration
        lease.is_held = lease.until is not None and event.iteration >= lease.until and not event.final

    def _on_answer(self, command: ContinueTrial | StopTrial) -> None:
        found = self._lease(command.trial, command.attempt)
        if found is None:
            return
        book, lease = found
        book.wait(lease, _us(self._at))
        if isinstance(command, ContinueTrial):
            lease.until = command.until
        else:
            lease.is_stopping = True

    def _on_kill(self, command: KillTrial) -> None:
        """Note that a trial which nobody has told to stop is killed: it is silent."""
        if (found := self._lease(command.trial, command.attempt)) is not None:
            found[1].is_hung = not found[1].is_stopping

    def _on_ending(self, event: Any) -> None:
        found = self._lease(event.trial, event.attempt)
        if found is None:
            return
        book, lease = found
        peace = _IN_PEACE.get(type(event))
        cause = None if peace else str(_cause_of(event, is_hung=lease.is_hung))
        self._end(book, lease, cause, getattr(event, "blocked_s", 0.0), getattr(event, "took_s", 0.0))
        book.cause, book.lease = cause or peace or NO_LOSS, None


def _cause_of(event: _Ending, *, is_hung: bool) -> LossCause:
    """Return why an attempt was lost, as the core calls it."""
    if isinstance(event, WorkerLost):
        return LossCause.HUNG if is_hung and event.cause is LossCause.KILLED else event.cause
    if isinstance(event, LaunchFailed):
        return event.cause
    if isinstance(event, RestoreFailed):
        return LossCause.RESTORE_FAILED
    return LossCause.PREEMPTED if isinstance(event, TrialPreempted) else LossCause.RAISED


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _shared(total: int, rows: Sequence[ResultReported]) -> list[int]:
    """Return whole shares of a total, in proportion to what each row took; equal ones if nobody knows."""
    weights = [max(0, _us(row.time_this_iter_s - row.loaded_s)) for row in rows]
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


_TAKERS: Final[Mapping[type, Callable[[Accounts, Any], None]]] = {
    LaunchTrial: Accounts._on_launch,  # noqa: SLF001 - this module's own
    TrialAssigned: Accounts._on_assigned,  # noqa: SLF001
    TrialStarted: Accounts._on_started,  # noqa: SLF001
    ResultReported: Accounts._on_row,  # noqa: SLF001
    ContinueTrial: Accounts._on_answer,  # noqa: SLF001
    StopTrial: Accounts._on_answer,  # noqa: SLF001
    KillTrial: Accounts._on_kill,  # noqa: SLF001
    **dict.fromkeys(
        (TrialReturned, TrialRaised, TrialHalted, TrialPreempted, WorkerLost, LaunchFailed, RestoreFailed),
        Accounts._on_ending,  # noqa: SLF001
    ),
}
