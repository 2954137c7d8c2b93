"""The reducer: facts in, wishes out.

``Experiment.handle(event) -> list[Command]`` is the only way in, ``next_deadline()`` the only notion of waiting.

1. Only ``handle`` mutates.
2. Time is ``event.at``, monotone, stamped by the shell.
3. Chance is a keyed hash (``core.rng``), never a generator with a state.
4. Whatever cannot be reproduced (searcher, user code, Ray, storage) answers as an event, so replay never asks again.
5. Each command with an effect is closed by exactly one event of its answer set, by ``WorkerLost``, or by a deadline.
6. Each event about a trial carries its attempt; a stale one is counted and ignored.
7. Journal before act: an event is durable before any command that it caused is carried out.
8. Commands are safe to issue twice.
9. ``handle`` raises only for bugs, never for bad news.
10. A checkpoint is deleted only by command, after the event that made it superfluous is durable.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any, TypeAlias

from tunekit.core import exposure, launching, ledger, lifecycle, limit, ordering, scores
from tunekit.core.commands import (
    Command,
    EndExperiment,
    InterruptTrial,
    KillTrial,
)
from tunekit.core.events import (
    CapacityChanged,
    CheckpointAdopted,
    CheckpointDeleted,
    CheckpointMissing,
    CheckpointPublished,
    DeleteFailed,
    DriverStarted,
    Event,
    PublishFailed,
    SearcherFailed,
    StopCriterionFailed,
    StopRequested,
    TimerFired,
    TrialsSuggested,
)
from tunekit.core.policies import Scheduler
from tunekit.core.state import State
from tunekit.core.trial import CheckpointState, CheckpointStatus, TrialState
from tunekit.errors import CoreBugError, InvalidTransitionError
from tunekit.types import Intent, LossCause, Mode, Outcome, TrialStatus


class Experiment:
    """One experiment, from its first event to its last.

    Args:
        scheduler: Decides about trials at their horizons.
        mode: Which end of the metric is better.
    """

    def __init__(self, scheduler: Scheduler, mode: Mode = Mode.MIN) -> None:
        """Begin with nothing: the first event must be ``DriverStarted``."""
        self.state = State(scheduler=scheduler.begin(mode))

    def handle(self, event: Event) -> list[Command]:
        """Take one fact in, and return what is to be done about it, in order.

        Raises:
            CoreBugError: Time ran backwards, the first event is not ``DriverStarted``, or tunekit broke a rule.
        """
        state = self.state
        if event.at < state.now:
            msg = f"time ran backwards: {event!r} came after {state.now} s"
            raise CoreBugError(msg)
        if state.generation == 0 and not isinstance(event, DriverStarted):
            msg = f"the first event must be DriverStarted, got {event!r}"
            raise CoreBugError(msg)
        state.before, state.now = state.now, event.at
        if state.just_ended:
            state.just_ended.clear()
        out: list[Command] = []
        handler = _EXPERIMENT.get(type(event))
        if handler is not None:
            handler(state, event, out)
        else:
            self._handle_trial_event(event, out)
        # What nearly every event leaves alone is not called for it.
        if state.outcome is not None or state.now >= state.expires_at:
            _wind_up(state, out)
        if state.order is not None:
            ordering.go_on(state, state.order, out)
        elif len(state.live) < state.max_live:
            _launch(state, out)
        if state.limit is not None and not state.ended and type(event) not in _TAKING_OVER:
            ledger.make_room(state, out)
        if not state.live:
            _end(state, out)
        return out

    def next_deadline(self) -> float | None:
        """Return when a ``TimerFired`` is due, in experiment seconds; None while nothing waits for time to pass."""
        state = self.state
        first = state.deadlines.next()
        due = [first] if first is not None else []
        if state.expires_at < math.inf and state.outcome is None and not state.is_done():
            due.append(state.expires_at)
        return min(due) if due and not state.ended else None

    def _handle_trial_event(self, event: Any, out: list[Command]) -> None:
        state = self.state
        if not 0 <= event.trial < len(state.trials):
            msg = f"{event!r} is about a trial that was never made ({len(state.trials)} trials)"
            raise InvalidTransitionError(msg)
        trial = state.trials[event.trial]
        kind = type(event)
        handler = _STORE.get(kind)
        if handler is None:
            handler = lifecycle.TRANSITIONS.get(trial.status, _NOTHING).get(kind)
            if handler is None or event.attempt != trial.attempt:
                state.num_stale += 1
                return
        handler(state, trial, event, out)


def _on_driver_started(state: State, event: DriverStarted, out: list[Command]) -> None:
    """Take over: workers of an earlier driver are gone, its open commands are issued again."""
    if event.generation <= state.generation:
        msg = f"driver generation {event.generation} came after {state.generation}"
        raise CoreBugError(msg)
    exposure.lapse(state, state.before)
    state.generation = event.generation
    if event.settings.score_attribute != state.settings.score_attribute:
        scores.rank_anew(state.trials, event.settings.score_attribute)
    state.settings = event.settings
    state.max_live = 0
    state.order = ordering.of(state)
    state.asking = state.exhausted = state.ended = False
    state.holding = state.holding and state.order is not None
    state.outcome, state.error, state.culprit = None, "", None
    state.num_unwanted = sum(not state.is_wanted(trial) for trial in state.trials)
    state.io.clear()
    state.queue.clear()
    state.paused.clear()
    state.deadlines.clear()
    state.notices.clear()
    state.started_over.clear()
    state.failed_alike.clear()
    state.limit = None
    for trial in state.trials:
        _take_over(state, trial, out)
    if state.settings.max_experiment_bytes is not None:
        state.limit = limit.of(state.settings.max_experiment_bytes, state.settings.score_order, state.trials)
    state.look_ahead()


def _take_over(state: State, trial: TrialState, out: list[Command]) -> None:
    settings = state.settings
    trial.retry_at = None  # Whoever runs the script again does not want to wait.
    if settings.restart_errored and trial.status is TrialStatus.FAILED:
        for entry in trial.checkpoints.values():
            beneath: CheckpointState | None = entry
            while beneath is not None:
                beneath.status = CheckpointStatus.DELETING
                beneath = beneath.replaces
        trial.spared_from = trial.last_fault = None
    ledger.reissue(state, trial, out)
    if trial.status.is_live:
        had_run = trial.started_at is not None
        lifecycle.lost(state, trial, LossCause.DRIVER_LOST, "the driver was lost", out)
        if had_run:
            exposure.note(state, trial)
    elif trial.status is TrialStatus.PENDING:
        state.enqueue(trial)
    elif trial.status is TrialStatus.PAUSED:
        trial.intent = Intent.RUN
        state.move(trial, TrialStatus.PENDING)
    elif trial.status is TrialStatus.FAILED and (settings.resume_errored or settings.restart_errored):
        trial.num_failures = trial.num_preemptions = trial.num_storage_faults = 0
        trial.ruled.clear()
        trial.error = trial.evicted = None
        if state.order is not None:
            state.order.call_back(trial.trial)
            ordering.note(state, f"trial {trial.trial} had failed and is tried again, at a moment that somebody chose")
        state.move(trial, TrialStatus.PENDING)


def _on_capacity(state: State, event: CapacityChanged, out: list[Command]) -> None:
    del out
    state.max_live = event.max_live


def _on_stop_requested(state: State, event: StopRequested, out: list[Command]) -> None:
    del out
    state.wind_up(Outcome.INTERRUPTED, event.reason)


def _on_timer(state: State, event: TimerFired, out: list[Command]) -> None:
    """Look at each trial whose moment has come."""
    while (index := state.deadlines.pop(event.at)) is not None:
        trial = state.trials[index]
        if trial.status is TrialStatus.STOPPING:
            _escalate(state, trial, out)
        else:
            lifecycle.look_after(state, trial, out)


def _escalate(state: State, trial: TrialState, out: list[Command]) -> None:
    """Take harder measures against a trial that did not stop in time."""
    trial.escalation += 1
    trial.deadline = None
    if trial.escalation == 1:
        out.append(InterruptTrial(trial=trial.trial, attempt=trial.attempt))
        state.set_deadline(trial, state.now + state.settings.stop_grace_s)
    else:  # The executor answers at once, whether or not the process is seen to die: fencing is by attempt.
        out.append(KillTrial(trial=trial.trial, attempt=trial.attempt))


def _on_suggested(state: State, event: TrialsSuggested, out: list[Command]) -> None:
    del out
    if not state.asking:
        state.num_stale += 1
        return
    state.asking = False
    num_open = state.num_open if state.order is None else state.order.num_open
    state.holding = not event.draws and num_open > 0
    state.exhausted = event.exhausted or (not event.draws and not num_open)
    for draw in event.draws:
        state.add(TrialState(trial=len(state.trials), draw=draw))


def _on_searcher_failed(state: State, event: SearcherFailed, out: list[Command]) -> None:
    del out
    state.asking = False
    state.exhausted = True
    state.error = f"the searcher failed: {event.error.type}: {event.error.message}"
    if state.order is not None:  # What is under way would end without those that are missing now beside it.
        state.wind_up(Outcome.ERROR, state.error)


def _wind_up(state: State, out: list[Command]) -> None:
    """Pause what runs once the run is to end."""
    if state.now >= state.expires_at and not state.ended and not state.is_done():
        state.wind_up(*_expiry(state))
    if state.outcome is None:
        return
    for index in state.live:
        trial = state.trials[index]
        if trial.status is not TrialStatus.STOPPING:
            lifecycle.stop(state, trial, Intent.PAUSE, state.error or str(state.outcome), out)


def _expiry(state: State) -> tuple[Outcome, str]:
    """Return why a run that has expired is to be wound up."""
    settings = state.settings
    if settings.time_budget_s is not None and state.now >= settings.time_budget_s:
        return Outcome.TIME_BUDGET, f"the time budget of {settings.time_budget_s} s is used up"
    if settings.deadline_s is not None and state.now >= settings.deadline_s:
        return Outcome.DEADLINE, "the deadline has come"
    cost = state.meter.cost(state.now, settings.prices)
    return Outcome.MAX_COST, f"max_cost is used up: the trials have cost {cost:.6g} of {settings.max_cost:g}"


def _launch(state: State, out: list[Command]) -> None:
    """Fill the free places: waiting trials first, then new ones, then paused ones."""
    if state.outcome is not None or state.ended:
        return
    while len(state.live) < state.max_live:
        if state.queue:
            launching.launch(state, state.trials[heapq.heappop(state.queue)], out)
        elif state.asking or launching.ask(state, state.max_live - len(state.live), out):
            return
        elif state.paused:
            launching.launch(state, state.trials[state.paused.popleft()], out)
        else:
            return


def _end(state: State, out: list[Command]) -> None:
    """End the run once nothing is under way and nothing is left to do."""
    if state.ended or state.live or state.io or state.asking:
        return
    if state.outcome is None:
        if not state.is_done():
            return
        state.outcome = Outcome.ERROR if state.error else Outcome.FINISHED
    state.ended = True
    out.append(EndExperiment(outcome=state.outcome, error=state.error))


def _on_stop_criterion_failed(state: State, event: StopCriterionFailed, out: list[Command]) -> None:
    del out
    state.wind_up(Outcome.ERROR, f"the stop function failed: {event.error.type}: {event.error.message}")


ExperimentHandler: TypeAlias = Callable[[State, Any, list[Command]], None]

_EXPERIMENT: dict[type, ExperimentHandler] = {
    DriverStarted: _on_driver_started,
    CapacityChanged: _on_capacity,
    StopRequested: _on_stop_requested,
    TimerFired: _on_timer,
    TrialsSuggested: _on_suggested,
    SearcherFailed: _on_searcher_failed,
    StopCriterionFailed: _on_stop_criterion_failed,
}
_TAKING_OVER = frozenset({DriverStarted, CheckpointAdopted, CheckpointMissing})
"""What a new driver says first. Until it is said, it is not known which checkpoints there are to give up others for."""
_NOTHING: dict[type, lifecycle.Handler] = {}
_STORE: dict[type, lifecycle.Handler] = {
    CheckpointPublished: ledger.on_published,
    PublishFailed: ledger.on_publish_failed,
    CheckpointDeleted: ledger.on_deleted,
    DeleteFailed: ledger.on_delete_failed,
    CheckpointAdopted: ledger.on_adopted,
    CheckpointMissing: ledger.on_missing,
}
