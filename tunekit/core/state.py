"""What an experiment knows, with the indexes that make each event O(1).

The facts are ``trials`` and a few scalars. Everything else (``live``, ``queue``, ``num_open`` …) is derived from them,
changes only together with them (in ``move`` and its neighbours), and is compared with them by ``core.invariants``.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

from tunekit.core.alarms import Alarms, due
from tunekit.core.cadence import Exposure
from tunekit.core.commands import Command, DeleteCheckpoint, PublishCheckpoint, TellSearcher
from tunekit.core.events import Settings
from tunekit.core.limit import ByteLimit
from tunekit.core.meter import Meter
from tunekit.core.policies import SchedulerState
from tunekit.core.sequencer import Sequencer
from tunekit.core.trial import CheckpointState, CheckpointStatus, Likeness, TrialState
from tunekit.types import Intent, Outcome, TrialId, TrialStatus

StoreCall: TypeAlias = tuple[str, TrialId, int, int]
"""``publish`` or ``delete``, trial, iteration, attempt: what makes a command to the store unique.

For a failure checkpoint the first is ``publish failure`` or ``delete failure``.
"""


_PENDING, _RUNNING = TrialStatus.PENDING, TrialStatus.RUNNING
_RUN = Intent.RUN
"""The members of an enum are slow to look up."""


@dataclass(slots=True)
class State:
    """The state of one experiment."""

    scheduler: SchedulerState
    settings: Settings = field(default_factory=Settings)
    now: float = 0.0
    """Time of the newest event, in experiment seconds."""
    before: float = 0.0
    """Time of the event before that one."""
    generation: int = 0
    """Of the driver; 0 before the first."""
    max_live: int = 0
    """Room for live trials; 0 until the executor says."""
    trials: list[TrialState] = field(default_factory=list)
    asking: bool = False
    """Whether the searcher owes an answer."""
    exhausted: bool = False
    """Whether the searcher has nothing more to suggest."""
    holding: bool = False
    """Whether the searcher wants to hear how another trial ended before it suggests more."""
    outcome: Outcome | None = None
    """Why the run is being wound up; None while it is to go on."""
    error: str = ""
    culprit: TrialId | None = None
    """The trial whose failure ended the run, under ``fail_fast``."""
    ended: bool = False
    """Whether ``EndExperiment`` was issued."""
    has_rows: bool = False
    """Whether any trial has ever reported a row."""
    failed_alike: dict[Likeness, set[TrialId]] = field(default_factory=dict)
    """Which trials have failed in which way, in this run of the driver and before any row."""
    num_stale: int = 0
    """Events of earlier attempts and duplicates, ignored."""
    num_published: int = 0
    """Checkpoints that were ever published."""
    exposure: Exposure = field(default_factory=Exposure)
    """How long trials have run, and how often they have lost work."""
    meter: Meter = field(default_factory=Meter)
    """What trials have occupied."""
    expires_at: float = math.inf
    """When the run is to be wound up if all goes on as it does, in experiment seconds (derived)."""
    notices: list[str] = field(default_factory=list)
    """What the user must be told, in this run of the driver."""

    just_ended: list[TrialId] = field(default_factory=list)
    """Trials that have ended with the newest event."""
    started_over: list[TrialId] = field(default_factory=list)
    """Trials whose user is to be warned, in this run of the driver, that they began anew without a word."""

    live: dict[TrialId, None] = field(default_factory=dict)
    """Trials that a worker may be holding, in the order of their launch (derived)."""
    queue: list[TrialId] = field(default_factory=list)
    """Heap of PENDING trials that may be launched (derived)."""
    paused: deque[TrialId] = field(default_factory=deque)
    """PAUSED trials that may be launched, the longest-waiting first (derived)."""
    num_open: int = 0
    """Trials that have not ended (derived)."""
    num_unwanted: int = 0
    """Those of them that never began and that the script no longer asks for (derived)."""
    io: set[StoreCall] = field(default_factory=set)
    """Commands to the store without an answer."""
    deadlines: Alarms = field(init=False, repr=False)
    """When trials want to be looked at (derived)."""
    limit: ByteLimit | None = None
    """What is to be known of all checkpoints under ``max_experiment_bytes`` (derived)."""
    order: Sequencer | None = None
    """In deterministic mode, who has a logical slot, and what happens next. None: things happen as they arrive."""

    def __post_init__(self) -> None:
        """Know when to look at trials."""
        self.deadlines = Alarms(lambda index: due(self.settings, self.trials[index]))

    def add(self, trial: TrialState) -> None:
        """Take a new PENDING trial in."""
        self.trials.append(trial)
        self.num_open += 1
        self.num_unwanted += not self.is_wanted(trial)
        self.enqueue(trial)

    def move(self, trial: TrialState, status: TrialStatus) -> None:
        """Change a trial's status: the only place that does."""
        was, trial.status = trial.status, status
        if was.is_ended is not status.is_ended:
            self.num_open += was.is_ended - status.is_ended
        if status.is_live:
            self.live[trial.trial] = None
            if status is _RUNNING:
                trial.started_at = self.now
                self.exposure.begin(self.now)
                self.attend(trial)
            return
        self.live.pop(trial.trial, None)
        self._end_attempt(trial)
        if self.limit is not None and trial.resume_from is not None:
            self.limit.offer(self.trials, trial, trial.checkpoints.get(trial.resume_from))
        if not status.is_ended:
            self.enqueue(trial)
        if trial.retry_at is not None:
            self.deadlines.watch(trial.trial)

    def _end_attempt(self, trial: TrialState) -> None:
        """Wait for nothing of its attempt any more, and count how long that ran."""
        if trial.started_at is not None:
            trial.run_s += self.now - trial.started_at
            self.exposure.end(self.now)
        if trial.is_metered:
            trial.is_metered = False
            self.meter.end(self.now, trial.resources)
            if self.settings.max_cost is not None:
                self.look_ahead()
        elif trial.assigned_at is not None:
            self.count_preparation(trial, self.now)
        trial.started_at = trial.suspected_at = trial.deadline = trial.ends_saving_at = None
        trial.is_hung = False
        trial.escalation = 0

    def occupy(self, trial: TrialState, resources: dict[str, float] | None, took_s: float) -> None:
        """Count what an attempt occupies, which a worker has prepared for so many seconds; 0: it does not say."""
        trial.resources, trial.is_metered = resources or {"CPU": 1.0}, True
        self.meter.begin(self.now, trial.resources, self._prepared_s(trial, self.now, took_s) + trial.unmetered_s)
        trial.unmetered_s = 0.0
        if self.settings.max_cost is not None:
            self.look_ahead()

    def count_preparation(self, trial: TrialState, until: float, took_s: float = 0.0) -> None:
        """Count what an attempt occupied that did not come to begin; later, if it is not known yet what that is."""
        prepared_s = self._prepared_s(trial, until, took_s)
        if trial.resources:
            self.meter.add(trial.resources, prepared_s)
            self.look_ahead()
        else:
            trial.unmetered_s += prepared_s

    def _prepared_s(self, trial: TrialState, until: float, took_s: float) -> float:
        """Return for how long a worker has prepared an attempt: as it says, or since it is known to have come."""
        known_s = 0.0 if trial.assigned_at is None else until - trial.assigned_at
        trial.assigned_at = None
        return min(took_s or known_s, until - trial.launched_at)

    def look_ahead(self) -> None:
        """Reckon when the run is to be wound up. What trials occupy changes that only if costs are limited."""
        settings = self.settings
        self.expires_at = min(
            math.inf if settings.time_budget_s is None else settings.time_budget_s,
            math.inf if settings.deadline_s is None else settings.deadline_s,
            math.inf if settings.max_cost is None else self.meter.reaches_at(settings.max_cost, settings.prices),
        )

    def hear(self, trial: TrialState) -> None:
        """Take note of a sign of life."""
        trial.heard_at = self.now
        trial.suspected_at = None

    def attend(self, trial: TrialState) -> None:
        """Take note of a sign of life after which the trial is to be looked at in time."""
        trial.heard_at = self.now
        trial.suspected_at = None
        if self.settings.hang_timeout_s is not None or self.settings.time_limit_s is not None:
            self.deadlines.watch(trial.trial)

    def hold_back(self, trial: TrialState, wait_s: float) -> None:
        """Have a trial wait before it is launched again; called before it is moved to PENDING."""
        trial.retry_at = self.now + wait_s if wait_s > 0 else None

    def let_go(self, trial: TrialState) -> None:
        """Let a trial be launched again that has waited for long enough."""
        trial.retry_at = None
        self.enqueue(trial)

    def is_queued(self, trial: TrialState) -> bool:
        """Return whether a trial that is wanted is in ``queue``, without looking there."""
        return trial.status is _PENDING and not trial.num_staged and trial.retry_at is None

    def enqueue(self, trial: TrialState) -> None:
        """Queue a waiting trial that is wanted. One that is being published a checkpoint waits for that first."""
        if trial.num_staged or trial.retry_at is not None or not self.is_wanted(trial):
            return
        if trial.status is _PENDING:  # ``is_queued`` says the same.
            heapq.heappush(self.queue, trial.trial)
        elif trial.status is TrialStatus.PAUSED:
            self.paused.append(trial.trial)

    def end(self, trial: TrialState, status: TrialStatus, out: list[Command]) -> None:
        """End a trial for good."""
        self.move(trial, status)
        self.just_ended.append(trial.trial)
        trial.intent = _RUN
        trial.retry_at = None  # It may have been decided while it waited to be tried again.
        if self.order is None:
            self.tell_end(trial, out)
        else:
            self.order.seats[trial.trial].has_ended = True

    def tell_end(self, trial: TrialState, out: list[Command]) -> None:
        """Let the search know that a trial has ended."""
        self.holding = False
        if self.settings.searcher_learns:
            metrics = trial.last.metrics if trial.last else None
            failed = trial.status is TrialStatus.FAILED
            out.append(TellSearcher(trial=trial.trial, metrics=metrics, failed=failed))

    def is_wanted(self, trial: TrialState) -> bool:
        """Return whether a trial counts: it was begun, or the script still asks for so many."""
        target = self.settings.num_trials
        if trial.attempt > 0 or target is None or trial.trial < target:
            return True
        return self.order is not None and trial.trial in self.order.seats

    def is_done(self) -> bool:
        """Return whether every trial that is wanted has ended, and no other one is."""
        target = self.settings.num_trials
        is_complete = self.exhausted or (target is not None and len(self.trials) >= target)
        return is_complete and self.num_open == self.num_unwanted

    def wind_up(self, outcome: Outcome, error: str = "", *, culprit: TrialId | None = None) -> None:
        """Launch nothing more; the reason given first stands."""
        if self.outcome is None:
            self.outcome, self.error, self.culprit = outcome, error, culprit

    def set_deadline(self, trial: TrialState, deadline: float) -> None:
        """Ask to be woken for this trial, which is STOPPING."""
        trial.deadline = deadline
        self.deadlines.watch_until(deadline, trial.trial)

    def publish(self, trial: TrialState, entry: CheckpointState, out: list[Command]) -> None:
        """Issue the command that makes a staged checkpoint visible."""
        trial.num_staged += entry.exact
        self.io.add((call_name("publish", exact=entry.exact), trial.trial, entry.iteration, entry.attempt))
        command = PublishCheckpoint(
            trial=trial.trial,
            attempt=entry.attempt,
            iteration=entry.iteration,
            manifest=entry.manifest or {},
            exact=entry.exact,
        )
        out.append(command)

    def rely_on(self, trial: TrialState, entry: CheckpointState) -> None:
        """Count a checkpoint that is visible now."""
        self.num_published += 1
        entry.number = self.num_published
        entry.status = CheckpointStatus.PUBLISHED
        if self.limit is not None:
            self.limit.enter(self.trials, trial, entry)

    def give_up(self, trial: TrialState, entry: CheckpointState) -> None:
        """Rely on a checkpoint no longer."""
        was_good = entry.status is CheckpointStatus.PUBLISHED and not entry.damaged
        entry.status = CheckpointStatus.DELETING
        if was_good and self.limit is not None:
            self.limit.leave(self.trials, trial, entry)

    def review(self, trial: TrialState) -> None:
        """Take note that some of a trial's checkpoints are trusted no longer."""
        if self.limit is not None:
            self.limit.reconsider(self.trials, trial)

    def delete(self, trial: TrialState, entry: CheckpointState, out: list[Command]) -> None:
        """Issue the command that removes a checkpoint, or puts a damaged one aside."""
        self.give_up(trial, entry)
        self.io.add((call_name("delete", exact=entry.exact), trial.trial, entry.iteration, entry.attempt))
        command = DeleteCheckpoint(
            trial=trial.trial,
            attempt=entry.attempt,
            iteration=entry.iteration,
            quarantine=entry.damaged,
            exact=entry.exact,
        )
        out.append(command)


def call_name(call: str, *, exact: bool) -> str:
    """Return what a call to the store is known as in ``State.io``."""
    return call if exact else f"{call} failure"
