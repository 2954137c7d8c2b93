"""In which order things happen in deterministic mode: one that no timing can change.

Trials sit on S *logical slots*, whatever the number of workers, and an iteration takes one unit of *logical time*. A
trial that is seated at time t has its iteration i at t + i; what happens at the same time is ordered by the trial's
index. So a sweep has one order, which depends on the results and on nothing else.

Results come in another order, and are facts at once: journalled, shown, and with their checkpoints published. What
waits for its turn is what follows from them *for others*: a decision of the scheduler, the end of a trial, which the
searcher is told and which gives the slot to the next one. It may happen as soon as no seated trial can still produce
something earlier (conservative parallel simulation): each seat knows a bound, the logical time of its next happening
if that is known, else the time of its next row. The earliest seat is looked at; if its happening is known, it happens,
and if not, all wait for it.

- At ``until``, the horizon, a decision happens. Rows between two horizons decide nothing, so only the newest counts.
- A trial ends at the time of its last row, if that row was final or the scheduler stopped the trial there. One that
  just ends (the function returned, or raised for good) was on its way to another row, and ends at the time of that.
- A row that a retry computes again is none: ``seen`` has counted it, and the first value stands.

Losses, retries, stores, drivers and workers appear nowhere in here. That is the whole point.

Source: Chandy and Misra 1979, "Distributed Simulation: A Case Study in Design and Verification of Distributed
Programs": processes are trials, the lookahead is one iteration. Differs: all channels end at one place, so that a
minimum over the seats replaces their null messages.
"""

from __future__ import annotations

import msgspec

from tunekit.core.decisions import Pause, Stop
from tunekit.types import TrialId


class Seat(msgspec.Struct):
    """A trial on its logical slot."""

    start: int
    """Logical time of its iteration 0."""
    seen: int
    """Highest iteration that any attempt has reported."""
    until: int | None
    """The iteration at which the scheduler is asked next; None: never."""
    value: float | None = None
    """What was first reported of the metric at ``until``, once ``seen`` is there."""
    is_final: bool = False
    """Whether the row at ``seen`` ends the trial."""
    verdict: Stop | Pause | None = None
    """What the scheduler said at ``until``, unless it was to go on."""
    has_ended: bool = False
    """Whether the trial gave its slot up: it ended, or is paused."""

    @property
    def is_undecided(self) -> bool:
        """Whether all is known that the scheduler is to decide about."""
        return self.until is not None and self.seen >= self.until and not self.is_final and self.verdict is None

    @property
    def is_known(self) -> bool:
        """Whether it is known what happens next."""
        return self.has_ended or self.is_undecided

    @property
    def due(self) -> int:
        """Logical time of what happens next, or the earliest that it can have while that is not known."""
        is_last = self.is_final or self.verdict is not None or self.is_undecided
        return self.start + self.seen + (0 if is_last else 1)


class Sequencer(msgspec.Struct):
    """Who sits where, and what happens next."""

    num_slots: int
    """S: most trials that are seated at a time."""
    now: int = 0
    """Logical time of what happened last."""
    seats: dict[TrialId, Seat] = {}
    next_new: TrialId = 0
    """The first trial that was never seated."""
    returning: list[tuple[TrialId, int | None]] = []
    """Trials that want a slot again, the longest-waiting first, and where they were paused; None: they failed."""
    stops: dict[TrialId, tuple[int, Stop]] = {}
    """Where the scheduler stopped trials that have failed, and its word. It stands if they are tried again."""
    depends_on: str = ""
    """What this order of things owes to chance or to the clock; empty: nothing."""
    awaited: tuple[TrialId, int] | None = None
    """The earliest seat, as long as it is not known what happens there, and its bound. Other bounds only grow."""

    @property
    def num_free(self) -> int:
        """How many slots are free."""
        return self.num_slots - len(self.seats)

    @property
    def num_open(self) -> int:
        """How many trials have begun, and have not come to their end: who waits for a slot has not."""
        return len(self.seats) + len(self.returning)

    def sit(self, trial: TrialId, *, seen: int, until: int | None) -> None:
        """Give a trial a slot, now: its next row has the next logical time."""
        self.seats[trial] = Seat(start=self.now - seen, seen=seen, until=until)
        self.awaited = None

    def report(self, trial: TrialId, iteration: int, *, is_final: bool, value: float | None) -> None:
        """Take in a row, if it is the first one of its iteration; of another one, whether it still ends the trial.

        That may be otherwise if the user has changed where trials stop, and the attempt that had come to its end died
        before all was saved.
        """
        seat = self.seats[trial]
        if iteration == seat.seen and is_final is not seat.is_final:
            seat.is_final = is_final
            self.awaited = None
        if iteration <= seat.seen:
            return
        seat.seen, seat.is_final = iteration, is_final
        if seat.until is not None and iteration >= seat.until:
            seat.value = value

    def next(self) -> TrialId | None:
        """Return the trial to which something happens now; None while that is not known."""
        if self.awaited is not None:
            trial, bound = self.awaited
            seat = self.seats[trial]
            if seat.due == bound and not seat.is_known:
                return None
        if not self.seats:
            return None
        bound, trial = min((seat.due, trial) for trial, seat in self.seats.items())
        if not self.seats[trial].is_known:
            self.awaited = (trial, bound)
            return None
        self.awaited = None
        self.now = bound
        return trial

    def leave(self, trial: TrialId, *, has_failed: bool = False) -> Seat:
        """Free the slot of a trial."""
        self.awaited = None
        seat = self.seats.pop(trial)
        if has_failed and isinstance(seat.verdict, Stop):
            self.stops[trial] = seat.seen, seat.verdict
        return seat

    def stopped_by(self, trial: TrialId, iteration: int) -> Stop | None:
        """Return with which word a trial that had failed was stopped at an iteration or before; None: it was not."""
        at, stop = self.stops.get(trial, (iteration, None))
        return stop if at <= iteration else None

    def call_back(self, trial: TrialId) -> None:
        """Have a trial that had ended go on: in its slot if it has not left it yet, else in the next one."""
        if trial in self.seats:
            self.seats[trial].has_ended = False
            self.awaited = None
        else:
            self.returning.append((trial, None))

    def needs_worker(self, trial: TrialId) -> bool:
        """Return whether a trial has something to compute: not if it has no slot, or all waits for a decision on it."""
        seat = self.seats.get(trial)
        return seat is not None and not seat.is_known

    def place(self, trial: TrialId) -> tuple[int, TrialId]:
        """Return a key that sorts seated trials by who is needed first."""
        return self.seats[trial].due, trial
