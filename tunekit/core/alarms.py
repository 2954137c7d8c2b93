"""When the core wants to be woken for a trial: one heap, put right only where somebody looks.

What a trial waits for (a grace, a hang, its time limit, a second chance) is a pure function of its state. A row puts
the deadline of a hang off, and rows are many; so a row touches nothing here. An entry that is met before its time is
over is put back where it belongs. Between two such corrections of a trial lies a row of it, so a row costs O(log n),
and no event looks at all trials.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from tunekit.core.events import Settings
from tunekit.core.trial import TrialState
from tunekit.types import TrialId, TrialStatus

LISTEN_S = 2.0
"""Seconds that a silent trial gets once its time is over: a driver that was asleep itself first hears what was said."""


class Alarms:
    """The next moments at which trials want to be looked at. Derived from their states, and no part of them.

    Args:
        due: Says when a trial wants to be looked at; None: never, as it is. It may become later by itself. Where it
            becomes earlier, ``watch`` must be called.
    """

    def __init__(self, due: Callable[[TrialId], float | None]) -> None:
        """Wait for nothing."""
        self._due = due
        self._heap: list[tuple[float, TrialId]] = []
        self._entries: dict[TrialId, float] = {}
        """The one entry of each trial that counts; an entry that differs is outdated."""

    def watch(self, trial: TrialId) -> None:
        """Take note that a trial may want to be looked at earlier than before."""
        due = self._due(trial)
        if due is not None:
            self.watch_until(due, trial)

    def watch_until(self, due: float, trial: TrialId) -> None:
        """Take note of when a trial wants to be looked at, by somebody who knows."""
        entry = self._entries.get(trial)
        if entry is None or due < entry:
            self._enter(due, trial)

    def next(self) -> float | None:
        """Return the first moment at which a trial wants to be looked at; None: there is none."""
        while self._heap:
            when, trial = self._heap[0]
            if self._entries.get(trial) != when:
                heapq.heappop(self._heap)
                continue
            due = self._due(trial)
            if due is not None and due <= when:
                return when
            heapq.heappop(self._heap)
            del self._entries[trial]
            if due is not None:
                self._enter(due, trial)
        return None

    def pop(self, now: float) -> TrialId | None:
        """Return a trial whose moment has come, the one that has waited longest first; None: there is none.

        It is not looked at again before ``watch`` is called.
        """
        when = self.next()
        if when is None or when > now:
            return None
        _, trial = heapq.heappop(self._heap)
        del self._entries[trial]
        return trial

    def is_watched(self, trial: TrialId) -> bool:
        """Return whether a trial is looked at in time, or need not be."""
        due, entry = self._due(trial), self._entries.get(trial)
        return due is None or (entry is not None and entry <= due)

    def clear(self) -> None:
        """Wait for nothing."""
        self._heap.clear()
        self._entries.clear()

    def _enter(self, due: float, trial: TrialId) -> None:
        self._entries[trial] = due
        heapq.heappush(self._heap, (due, trial))


def due(settings: Settings, trial: TrialState) -> float | None:
    """Return when something is to be done about a trial if it says nothing until then; None: nothing ever is."""
    if trial.status is TrialStatus.STOPPING:
        return trial.deadline
    if trial.status is TrialStatus.PENDING:
        return trial.retry_at
    if trial.status is TrialStatus.LAUNCHING:
        return hang_due(settings, trial) if trial.is_assigned and not trial.is_hung else None
    if trial.status is not TrialStatus.RUNNING or trial.is_hung:
        return None
    limit, hang = limit_due(settings, trial), hang_due(settings, trial)
    if limit is None or hang is None:
        return hang if limit is None else limit
    return min(limit, hang)


def limit_due(settings: Settings, trial: TrialState) -> float | None:
    """Return when a running trial has run for as long as it may, in all of its attempts."""
    if settings.time_limit_s is None or trial.started_at is None:
        return None
    return trial.started_at + max(0.0, settings.time_limit_s - trial.run_s)


def hang_due(settings: Settings, trial: TrialState) -> float | None:
    """Return when a trial that says nothing more is to be suspected; if it is, when it is to be killed."""
    timeout = settings.hang_timeout_s
    if timeout is None or trial.is_waiting:
        return None
    if trial.suspected_at is not None:
        return trial.suspected_at + min(LISTEN_S, timeout)
    return trial.heard_at + timeout
