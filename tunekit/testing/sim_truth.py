"""Holds the accounts of a simulated sweep against what its attempts really did, kind by kind and cause by cause.

The accounts know only what the journal says; the diaries of the attempts say what was done in which second. Of the
journal, no more is used here than when attempts were launched and ended, how, and which rows came in between.

Between the two lies the way of a message: a row is entered when it arrives. What a worker measures itself (saves,
loading, its preparation) is the same to the microsecond all the same; the rest may differ by the *slack*, which grows
with each moment that the driver's clock has to tell. Where messages are delayed or batches split, nobody can say by how
much: then the accounts may have left out what did not fit between two arrivals, and must not have more than was done.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from tunekit.core.accounts import Accounts
from tunekit.core.books import NO_LOSS
from tunekit.core.codec import Record
from tunekit.core.policies import Scheduler
from tunekit.core.state import State
from tunekit.schedulers import ASHA
from tunekit.testing.sim_diary import Diary, Doing
from tunekit.testing.sim_lives import Life, lives_of
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.types import LossCause, TrialId, TrialStatus

_LAG_S = 0.04
"""What a message takes, at most, if nothing delays it: from the worker to the turn of the driver that takes it in."""
_ROUNDING_S = 2e-6
Key: TypeAlias = tuple[str, str]
"""Cause and kind."""


def check_truth(around: Surroundings, records: Sequence[Record], state: State) -> Iterator[str]:
    """Say where the accounts of a journal differ from what was done.

    Args:
        around: Has the diaries of all attempts.
        records: The journal.
        state: Of the core, at its end.
    """
    faults = around.options.faults
    is_blurred = faults.delay > 0 or faults.split > 0
    truths: dict[TrialId, Truth] = {}
    for life in lives_of(records):
        diary = around.diaries.get((life.trial, life.attempt)) or Diary(0.0)  # Its driver died before it was launched.
        truths.setdefault(life.trial, Truth(math.inf if is_blurred else _LAG_S)).enter(diary, life)
    spent = Accounts(records, state.trials).spent(state.trials)
    for trial, truth in truths.items():
        is_stopped = state.trials[trial].status is TrialStatus.STOPPED
        known, slack = truth.result(is_pruned=is_stopped and not _is_full(around.options.scheduler, truth.newest))
        said = {(cause, kind): us / 1e6 for cause, each in spent[trial].items() for kind, us in each.by_kind().items()}
        if around.options.max_futile_preemptions is not None:
            said, known, slack = _merged(said), _merged(known), _merged(slack)
        for key, seconds in said.items():
            did, may_differ = known.get(key, 0.0), slack.get(key, 0.0) + _ROUNDING_S
            if seconds > did + may_differ or (seconds < did - may_differ and not is_blurred):
                yield f"trial {trial} has {seconds:.6f} s of {key} in its accounts, but did so for {did:.6f} s"
        missing = [key for key, did in known.items() if did > slack[key] + _ROUNDING_S and key not in said]
        if missing and not is_blurred:
            yield f"trial {trial} has nothing of {missing} in its accounts, but did so"


def _is_full(scheduler: Scheduler, iteration: int) -> bool:
    """Return whether a trial that a scheduler has stopped had gone as far as any is to go."""
    return isinstance(scheduler, ASHA) and iteration >= scheduler.max_t


def _merged(seconds: Mapping[Key, float]) -> dict[Key, float]:
    """Return seconds without the difference between a preemption and one that a trial has brought about itself.

    Which of them it was, the core decides; that the accounts follow it is checked elsewhere.
    """
    found: defaultdict[Key, float] = defaultdict(float)
    for (cause, kind), each in seconds.items():
        found[LossCause.CRASHED if cause == LossCause.PREEMPTED else cause, kind] += each
    return dict(found)


@dataclass(slots=True)
class Truth:
    """What one trial has spent.

    Args:
        lag: What a message takes at most.
    """

    lag_s: float
    seconds: dict[Key, float] = field(default_factory=dict)
    slack: dict[Key, float] = field(default_factory=dict)
    """By how much the accounts may differ."""
    cause: str = NO_LOSS
    """How the newest attempt ended."""
    newest: int = 0
    """Iteration of the newest row."""
    _stands: list[tuple[int, float]] = field(default_factory=list)
    """Iteration and seconds of training that has not been lost."""
    _since: defaultdict[Doing, float] = field(default_factory=lambda: defaultdict(float))
    """What was done since the newest row."""

    def enter(self, diary: Diary, life: Life) -> None:
        """Enter the next attempt."""
        start = life.resume_from
        self._fall_back(-1 if start is None else start)
        self._since.clear()
        newest, is_prepared, is_heard = start or 0, False, True
        for what, seconds in _stretches(diary, life):
            if isinstance(what, int):
                is_heard = is_heard and what in life.rows
                if is_heard:
                    self._row(what)
                    newest = what
                continue
            if life.is_started and not is_prepared and what not in {Doing.QUEUED, Doing.PREPARING}:
                self._prepared()
                is_prepared = True
            if what in {Doing.WAITING, Doing.MISSED}:  # Nobody waits for an answer to what was never heard.
                what = Doing.WAITING if is_heard else Doing.GONE  # noqa: PLW2901
            self._since[what] += seconds
        cause = str(LossCause.HUNG) if diary.is_killed_for_silence and life.is_killed else life.cause
        if is_prepared:
            self._end(life, newest, cause)
        else:
            self._end_unprepared(life)
        self.cause = cause

    def result(self, *, is_pruned: bool) -> tuple[dict[Key, float], dict[Key, float]]:
        """Return the seconds by cause and kind, and their slack."""
        for _, seconds in self._stands:
            self._add(NO_LOSS, "pruned" if is_pruned else "useful", seconds, self.lag_s)
        self._stands.clear()
        return self.seconds, self.slack

    def _add(self, cause: str, kind: str, seconds: float, slack: float = _ROUNDING_S) -> None:
        key = (cause, kind)
        self.seconds[key] = self.seconds.get(key, 0.0) + seconds
        self.slack[key] = self.slack.get(key, 0.0) + slack

    def _fall_back(self, iteration: int) -> None:
        while self._stands and self._stands[-1][0] > iteration:
            self._add(self.cause, "recomputed", self._stands.pop()[1], self.lag_s)

    def _prepared(self) -> None:
        """Enter what came before user code."""
        self._add(self.cause, "queued", self._since.pop(Doing.QUEUED, 0.0), self.lag_s)
        self._add(self.cause, "restoring", self._since.pop(Doing.PREPARING, 0.0))

    def _row(self, iteration: int) -> None:
        since = self._since
        self.newest = iteration
        self._add(NO_LOSS, "waiting", since[Doing.WAITING], self.lag_s)
        self._add(NO_LOSS, "checkpointing", since[Doing.SAVING])
        self._add(self.cause, "restoring", since[Doing.LOADING])
        self._fall_back(iteration - 1)
        self._stands.append((iteration, since[Doing.TRAINING]))
        since.clear()

    def _end(self, life: Life, newest: int, cause: str) -> None:
        """Enter the end of an attempt that had begun."""
        since = self._since
        if Doing.LEAVING in since:  # The driver takes it for one that waits, or is not told when it ceased to.
            unknown_s = since[Doing.SAVING] + since[Doing.GONE]
            for key in ((NO_LOSS, "waiting"), (NO_LOSS, "checkpointing"), (cause, "recomputed")):
                self._add(*key, 0.0, unknown_s)
        self._add(NO_LOSS, "waiting", since.pop(Doing.WAITING, 0.0), self.lag_s)
        if life.tells_saves:
            self._add(NO_LOSS, "checkpointing", since.pop(Doing.SAVING, 0.0), self.lag_s)
        left = sum(since.values())
        if life.is_in_peace:
            self._stands.append((newest, left))
        else:
            self._add(cause, "recomputed", left, self.lag_s)

    def _end_unprepared(self, life: Life) -> None:
        """Enter an attempt of which nobody heard that it had begun: by what is known of its worker."""
        since = self._since
        queued = since.pop(Doing.QUEUED, 0.0)
        gone = since.pop(Doing.GONE, 0.0)
        there = sum(since.values())
        if life.tells_preparation:
            self._add(self.cause, "restoring", there)
            self._add(self.cause, "queued", queued + gone, self.lag_s)
        elif life.is_assigned:
            self._add(self.cause, "restoring", there + gone, self.lag_s)
            self._add(self.cause, "queued", queued, self.lag_s)
        else:
            self._add(self.cause, "queued", queued + gone + there, self.lag_s)


def _stretches(diary: Diary, life: Life) -> Iterator[tuple[Doing | int, float]]:
    """Yield what was done while the attempt counted, and for how long; and its rows."""
    until = diary.launched_at + life.ended_at - life.began_at
    for (began, what), (ended, _) in pairwise([*diary.entries, (until, Doing.GONE)]):
        if began > until:
            return
        yield what, min(ended, until) - began
