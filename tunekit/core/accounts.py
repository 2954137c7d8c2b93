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
entered under the loss: a ``LossCause``, ``PAUSED`` if the attempt was told to give its place away, ``BEGAN_ANEW`` if it
was stopped because it had made nothing of its checkpoint where that is not wanted, or ``REFUSED`` if it ended the whole
run, which is no loss. What would have been spent without any of them is entered under ``NO_LOSS``.

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
from typing import Any, Final, get_args

from tunekit.core.books import BEGAN_ANEW, NO_LOSS, PAUSED, REFUSED, Book, Lease, Spent, micros, summed
from tunekit.core.commands import Command, ContinueTrial, KillTrial, LaunchTrial, StopTrial
from tunekit.core.events import (
    DriverStarted,
    Event,
    LaunchFailed,
    RestoreFailed,
    ResultReported,
    Settings,
    TrialAssigned,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialStarted,
    WorkerLost,
)
from tunekit.core.failures import evicted_from, is_futile
from tunekit.core.trial import TrialState
from tunekit.types import LossCause, TrialId

_Ending = TrialReturned | TrialRaised | TrialHalted | TrialPreempted | WorkerLost | LaunchFailed | RestoreFailed
_COMMANDS: Final = frozenset(get_args(Command))
_IN_PEACE: Final[dict[type, str]] = {TrialReturned: NO_LOSS, TrialHalted: PAUSED}
"""How an attempt has ended that was not lost, which is of interest if the trial is launched again."""


class Accounts:
    """The accounts of all trials, built from the journal's records in their order.

    Args:
        records: The journal; more can be added later.
        trials: What the core makes of it. Without them it is found out here which preemptions were a trial's own doing;
            only who had failed, and so is counted anew if the user has failed trials tried again, is guessed: whoever
            was not under way.
    """

    def __init__(self, records: Iterable[Event | Command] = (), trials: Iterable[TrialState] | None = None) -> None:
        """Take in records."""
        self._books: dict[TrialId, Book] = {}
        self._own_doings = None if trials is None else {trial.trial: trial.own_doings for trial in trials}
        self._max_futile: int | None = None
        self._may_begin_anew = True
        self._at = 0.0
        """When the newest event happened."""
        for record in records:
            self.apply(record)

    def apply(self, record: Event | Command) -> None:
        """Take in the next record of the journal. Commands are given when the event before them happened."""
        kind = type(record)
        if kind is DriverStarted:
            self._begin_anew(record.settings)  # type: ignore[union-attr]
        if kind not in _COMMANDS:
            self._at = record.at  # type: ignore[union-attr]
        if (take := _TAKERS.get(kind)) is not None:
            take(self, record)

    def spent(self, trials: Sequence[TrialState] = ()) -> dict[TrialId, dict[str, Spent]]:
        """Return what each trial that was ever launched has spent up to now, by cause.

        Args:
            trials: Says which ones were stopped early; nothing is pruned of one that is not among them.
        """
        pruned = {trial.trial for trial in trials if trial.is_pruned}
        return {index: self._so_far(book, index in pruned) for index, book in sorted(self._books.items())}

    def total(self, trials: Sequence[TrialState] = ()) -> Spent:
        """Return what all trials have spent together."""
        return summed(self.spent(trials))

    def losses(self, trial: TrialId) -> dict[str, int]:
        """Return how often attempts of a trial were lost, by cause."""
        book = self._books.get(trial)
        return {} if book is None else dict(book.losses)

    def standing(self, trial: TrialId) -> set[int]:
        """Return the iterations of a trial whose training stands, those of an attempt under way left out."""
        book = self._books.get(trial)
        return set() if book is None else {iteration for iteration, _ in book.rows}

    def _so_far(self, book: Book, is_pruned: bool) -> dict[str, Spent]:  # noqa: FBT001 - internal, and read once
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

    def _lease(self, trial: TrialId, attempt: int) -> tuple[Book, Lease] | None:
        """Return a trial whose attempt is under way. What is said of any other one is void."""
        book = self._books.get(trial)
        if book is None or book.lease is None or book.lease.attempt != attempt:
            return None
        return book, book.lease

    def _begin_anew(self, settings: Settings) -> None:
        """End what was under way when the driver died: when the newest event happened, as far as anybody knows."""
        self._max_futile = settings.max_futile_preemptions
        self._may_begin_anew = settings.silent_restart != "fail"
        for book in self._books.values():
            if book.lease is None:
                book.evicted = None if settings.resume_errored or settings.restart_errored else book.evicted
            else:
                self._end(book, book.lease, str(LossCause.DRIVER_LOST))
                book.lose(str(LossCause.DRIVER_LOST))

    def _end(self, book: Book, lease: Lease, cause: str | None, blocked_s: float = 0.0, took_s: float = 0.0) -> None:
        now = micros(self._at)
        if not lease.is_started:
            book.prepare(lease, now, took_s)
        book.close(lease, now, cause, blocked_s)

    def _on_launch(self, command: LaunchTrial) -> None:
        book = self._books.setdefault(command.trial, Book())
        start = command.resume_from
        book.rewind(-1 if start is None else start)
        book.node = ""
        book.lease = Lease(command.attempt, micros(self._at), command.until, iteration=start or 0)

    def _on_assigned(self, event: TrialAssigned) -> None:
        if (found := self._lease(event.trial, event.attempt)) is None:
            return
        book, lease = found
        lease.assigned = micros(event.at)
        if not (lease.is_started or lease.is_stopping):
            book.node = event.node

    def _on_started(self, event: TrialStarted) -> None:
        found = self._lease(event.trial, event.attempt)
        if found is None:
            return
        found[0].node = event.place.node
        if not found[1].is_started:
            found[0].prepare(found[1], micros(event.at), event.took_s)

    def _on_row(self, event: ResultReported) -> None:
        book = self._books.get(event.trial)
        lease = book.lease if book is not None else None
        if book is None or lease is None or lease.attempt != event.attempt:
            return
        iteration = event.iteration
        if lease.newest is not None and iteration <= lease.newest:
            return
        now = micros(event.at)
        if not lease.is_started:
            book.prepare(lease, now, 0.0)
        if now != lease.arrived:
            book.settle(lease)
            lease.arrived = now
        lease.fresh.append(event)
        lease.iteration = lease.newest = book.newest = iteration
        at_horizon = lease.until is not None and iteration >= lease.until
        lease.is_held = at_horizon and not (event.final or lease.is_stopping)  # Who is told to stop waits for nobody.

    def _on_answer(self, command: ContinueTrial | StopTrial) -> None:
        found = self._lease(command.trial, command.attempt)
        if found is None:
            return
        book, lease = found
        book.wait(lease, micros(self._at))
        if isinstance(command, ContinueTrial):
            lease.until = command.until
        else:
            lease.is_stopping = True
            lease.is_ending = lease.is_ending or not command.pause

    def _on_kill(self, command: KillTrial) -> None:
        """Note that a trial which nobody has told to stop is killed: it is silent."""
        if (found := self._lease(command.trial, command.attempt)) is not None:
            found[1].is_hung = found[1].is_hung or not found[1].is_stopping

    def _on_ending(self, event: Any) -> None:
        found = self._lease(event.trial, event.attempt)
        if found is None:
            return
        book, lease = found
        peace = self._peace_of(event, lease)
        is_fatal = getattr(event, "fatal", False)
        cause = None if peace else REFUSED if is_fatal else str(self._cause_of(event, book, lease))
        self._end(book, lease, cause, getattr(event, "blocked_s", 0.0), getattr(event, "took_s", 0.0))
        if cause is None:
            book.cause, book.lease = peace or NO_LOSS, None
        else:
            book.lose(cause, is_fatal=is_fatal)

    def _peace_of(self, event: _Ending, lease: Lease) -> str | None:
        """Return how an attempt has ended that was not lost; None: it was.

        A trial that was told to stop for good has come to its end. If it is launched again after all, it had failed:
        it was stopped because it had begun anew.
        """
        peace = _IN_PEACE.get(type(event))
        return BEGAN_ANEW if peace and lease.is_ending and not self._may_begin_anew else peace

    def _cause_of(self, event: _Ending, book: Book, lease: Lease) -> LossCause:
        """Return why an attempt was lost, as the core calls it."""
        if isinstance(event, LaunchFailed):
            return event.cause
        if isinstance(event, RestoreFailed):
            return LossCause.RESTORE_FAILED
        if isinstance(event, TrialRaised):
            return LossCause.RAISED
        cause = event.cause if isinstance(event, WorkerLost) else LossCause.PREEMPTED
        if cause is LossCause.PREEMPTED and self._is_own_doing(event, book):
            return LossCause.CRASHED
        return LossCause.HUNG if lease.is_hung and cause is LossCause.KILLED else cause

    def _is_own_doing(self, event: _Ending, book: Book) -> bool:
        """Return whether a trial was preempted by what it did itself: as the core says, or as it would say."""
        if self._own_doings is not None:
            return event.attempt in self._own_doings.get(event.trial, ())
        node = event.node if isinstance(event, WorkerLost) else ""
        book.evicted = evicted_from(node or book.node, book.newest, book.evicted)
        return is_futile(self._max_futile, book.evicted)


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
