"""How many bytes the checkpoints of an experiment may take together, and which of them go first.

With ``max_experiment_bytes`` every publication may cost other checkpoints their place, of any trial. They go in this
order, until what is left fits:

1. failure checkpoints, the one published first first;
2. checkpoints without a score, the one published first first;
3. checkpoints with a score, the worst first, of equals the one published first.

These never go, whatever the limit says: the one that a trial goes on from, and so its only one; one that a live attempt
started from; one that the user pinned; and the best of the whole experiment by the score attribute. If they
alone are too many bytes, the user is told once and the sweep goes on.

An event costs O(log n). A heap holds every checkpoint that may go. One that is found on top while it must stay is
dropped, and put back when what held it ends: a newer one of its trial, the end of the attempt, a better one. What was
deleted by others leaves its entry behind, to be skipped; when half of a heap is such, it is sieved.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import NamedTuple

from tunekit.core.checkpoints import mainstay, valid
from tunekit.core.trial import CheckpointState, CheckpointStatus, TrialState
from tunekit.types import TrialId

_FEW = 64
"""A heap of so few entries is not worth sieving."""


class Ranked(NamedTuple):
    """A checkpoint in the order in which they go."""

    exact: bool
    scored: bool
    score: float
    """The higher, the better, in either order."""
    number: int
    """Which publication of the experiment it was."""
    trial: TrialId
    iteration: int
    attempt: int


@dataclass(slots=True)
class ByteLimit:
    """What a limit must know of all checkpoints. Everything here is derived from the trials.

    Args:
        max_bytes: The limit.
        order: Which score is better, ``"max"`` or ``"min"``.
    """

    max_bytes: int
    order: str
    num_bytes: int = 0
    """Of all published, undamaged checkpoints that are not told to go."""
    num_counted: int = 0
    """How many they are."""
    is_unmet: bool = False
    """Whether what must stay is more than the limit, and the user has been told so."""
    mainstays: dict[TrialId, int] = field(default_factory=dict)
    """Iteration of the checkpoint that the trial goes on from."""
    expendable: list[Ranked] = field(default_factory=list)
    """Heap of those that may go."""
    best: list[tuple[float, int, Ranked]] = field(default_factory=list)
    """Heap of those with a score, the best on top."""

    def enter(self, trials: Sequence[TrialState], trial: TrialState, entry: CheckpointState) -> None:
        """Count a checkpoint that was published."""
        self.num_bytes += entry.num_bytes
        self.num_counted += 1
        if entry.exact:
            self._supersede(trials, trial, entry)
        self.offer(trials, trial, entry)
        ranked = self.rank(trial, entry)
        if ranked.exact and ranked.scored:
            before = self.find_best(trials)
            heapq.heappush(self.best, (-ranked.score, -ranked.number, ranked))
            if before is not None and self.best[0][2] is ranked:
                self.offer(trials, *find(trials, before))

    def leave(self, trials: Sequence[TrialState], trial: TrialState, entry: CheckpointState) -> None:
        """Do not count a checkpoint any more: it is told to go, damaged, lost or replaced."""
        self.num_bytes -= entry.num_bytes
        self.num_counted -= 1
        if entry.exact and self.mainstays.get(trial.trial) == entry.iteration:
            self.reconsider(trials, trial)

    def reconsider(self, trials: Sequence[TrialState], trial: TrialState) -> None:
        """Find the checkpoint that a trial goes on from, and let the one that it was until now go if need be."""
        before = self.mainstays.pop(trial.trial, 0)
        if (found := mainstay(trial.checkpoints)) is not None:
            self.mainstays[trial.trial] = found.iteration
        if self.mainstays.get(trial.trial) != before:
            self.offer(trials, trial, trial.checkpoints.get(before))

    def offer(self, trials: Sequence[TrialState], trial: TrialState, entry: CheckpointState | None) -> None:
        """Let a checkpoint go if need be; nothing that held it may do so any longer."""
        if entry is None or entry.status is not CheckpointStatus.PUBLISHED or entry.pinned or not entry.num_bytes:
            return
        self._push(trials, self.rank(trial, entry))

    def pick(self, trials: Sequence[TrialState]) -> tuple[TrialState, CheckpointState] | None:
        """Return the next one to go; None when the rest fits, or must stay."""
        while self.num_bytes > self.max_bytes and self.expendable:
            ranked = heapq.heappop(self.expendable)
            trial, entry = find(trials, ranked)
            if entry is not None and not self._is_held(trials, trial, entry):
                return trial, entry
        return None

    def find_best(self, trials: Sequence[TrialState]) -> Ranked | None:
        """Return the best of the experiment; None while none has a score."""
        while self.best and not is_counted(*find(trials, self.best[0][2]), self.best[0][2]):
            heapq.heappop(self.best)
        return self.best[0][2] if self.best else None

    def rank(self, trial: TrialState, entry: CheckpointState) -> Ranked:
        """Return where a checkpoint stands in the order."""
        scored = entry.exact and entry.score is not None and not isnan(entry.score)
        score = entry.score if scored and entry.score is not None else 0.0
        score = score if self.order == "max" else -score
        return Ranked(entry.exact, scored, score, entry.number, trial.trial, entry.iteration, entry.attempt)

    def _supersede(self, trials: Sequence[TrialState], trial: TrialState, entry: CheckpointState) -> None:
        """Have a trial go on from a new checkpoint: nearly always just that one, and no other need be looked at."""
        before = self.mainstays.get(trial.trial, 0)
        if entry.iteration < before or entry.is_suspect or entry.began_anew:
            self.reconsider(trials, trial)
        elif entry.iteration > before:
            self.mainstays[trial.trial] = entry.iteration
            self.offer(trials, trial, trial.checkpoints.get(before))

    def _is_held(self, trials: Sequence[TrialState], trial: TrialState, entry: CheckpointState) -> bool:
        if entry.pinned:
            return True
        if not entry.exact:
            return False
        best = self.find_best(trials)
        return (
            self.mainstays.get(trial.trial) == entry.iteration
            or (trial.status.is_live and trial.resume_from == entry.iteration)
            or (best is not None and best[-3:] == (trial.trial, entry.iteration, entry.attempt))
        )

    def _push(self, trials: Sequence[TrialState], ranked: Ranked) -> None:
        heapq.heappush(self.expendable, ranked)
        if len(self.expendable) > 2 * self.num_counted + _FEW:
            kept = {ranked for ranked in self.expendable if is_counted(*find(trials, ranked), ranked)}
            self.expendable = sorted(kept)
        if len(self.best) > 2 * self.num_counted + _FEW:
            self.best = sorted(item for item in self.best if is_counted(*find(trials, item[2]), item[2]))


def of(max_bytes: int, order: str, trials: Sequence[TrialState]) -> ByteLimit:
    """Return the limit of an experiment with these trials."""
    limit = ByteLimit(max_bytes, order)
    for trial in trials:
        for entry in sorted(counted(trial), key=lambda entry: entry.number):
            limit.enter(trials, trial, entry)
    return limit


def counted(trial: TrialState) -> list[CheckpointState]:
    """Return the checkpoints of a trial whose bytes count."""
    regular = [valid(entry) for entry in trial.checkpoints.values()]
    failures = [entry for entry in trial.failures_saved.values() if entry.status is CheckpointStatus.PUBLISHED]
    return [entry for entry in regular if entry is not None] + failures


def find(trials: Sequence[TrialState], ranked: Ranked) -> tuple[TrialState, CheckpointState | None]:
    """Return a checkpoint that may be told to go; None if it is gone, on its way, or being replaced."""
    trial = trials[ranked.trial]
    entry = trial.checkpoint_of(ranked)
    if entry is None or entry.attempt != ranked.attempt or entry.status is not CheckpointStatus.PUBLISHED:
        return trial, None
    return trial, entry


def is_counted(trial: TrialState, entry: CheckpointState | None, ranked: Ranked) -> bool:
    """Return whether the checkpoint of an entry in a heap is still there, perhaps beneath one that replaces it."""
    if entry is not None:
        return True
    above = trial.checkpoints.get(ranked.iteration) if ranked.exact else None
    beneath = None if above is None else valid(above)
    return beneath is not None and beneath.attempt == ranked.attempt
