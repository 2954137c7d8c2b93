"""What must always be true of a state. An executable specification, run after every event in tests."""

from __future__ import annotations

from collections.abc import Iterator

from tunekit.core.checkpoints import mainstay
from tunekit.core.experiment import Experiment
from tunekit.core.limit import ByteLimit, counted
from tunekit.core.state import State
from tunekit.core.trial import CheckpointState, CheckpointStatus, TrialState
from tunekit.errors import InvariantViolationError
from tunekit.types import Intent, TrialId, TrialStatus

_ROUNDING = 1e-9


def check(experiment: Experiment) -> None:
    """Compare every derived index with the facts.

    Raises:
        InvariantViolationError: Some of them differ; all differences are listed.
    """
    state = experiment.state
    problems = [*_check_indexes(state), *_check_room(state)]
    for trial in state.trials:
        found = [*_check_trial(trial), *_check_checkpoints(trial)]
        problems += [f"trial {trial.trial}: {problem}: {trial!r}" for problem in found]
    if problems:
        raise InvariantViolationError("\n".join(problems))


def _check_indexes(state: State) -> Iterator[str]:
    live = {trial.trial for trial in state.trials if trial.status.is_live}
    if set(state.live) != live:
        yield f"live is {set(state.live)}, but must be {live}"
    paused = [trial.trial for trial in state.trials if trial.status is TrialStatus.PAUSED and trial.num_staged == 0]
    if sorted(state.paused) != paused:
        yield f"paused is {sorted(state.paused)}, but must be {paused}"
    queue = sorted(
        trial.trial
        for trial in state.trials
        if trial.status is TrialStatus.PENDING
        and trial.num_staged == 0
        and trial.retry_at is None
        and state.is_wanted(trial)
    )
    num_unwanted = sum(not state.is_wanted(trial) for trial in state.trials)
    if state.num_unwanted != num_unwanted:
        yield f"num_unwanted is {state.num_unwanted}, but must be {num_unwanted}"
    if sorted(state.queue) != queue:
        yield f"queue is {sorted(state.queue)}, but must be {queue}"
    num_open = sum(not trial.status.is_ended for trial in state.trials)
    if state.num_open != num_open:
        yield f"num_open is {state.num_open}, but must be {num_open}"
    staged = sum(trial.num_staged for trial in state.trials)
    publishing = sum(call[0] == "publish" for call in state.io)
    unwatched = [trial.trial for trial in state.trials if not state.deadlines.is_watched(trial.trial)]
    if unwatched:
        yield f"nobody looks at trials {unwatched} in time"
    yield from _check_limit(state)
    yield from _check_meter(state)
    yield from _check_order(state)
    num_running = sum(trial.started_at is not None for trial in state.trials)
    if state.exposure.num_running != num_running:
        yield f"counts {state.exposure.num_running} trials that run, but must {num_running}"
    if staged != publishing:
        yield f"{publishing} publications are open, but trials count {staged}"


def _check_meter(state: State) -> Iterator[str]:
    metered = [trial for trial in state.trials if trial.is_metered]
    if any(not trial.status.is_live for trial in metered):
        yield "counts what a trial occupies that no worker holds"
    held: dict[str, float] = {}
    for trial in metered:
        for name, amount in trial.resources.items():
            held[name] = held.get(name, 0.0) + amount
    names = {*held, *state.meter.held}
    if any(abs(held.get(name, 0.0) - state.meter.held.get(name, 0.0)) > _ROUNDING for name in names):
        yield f"counts {state.meter.held} as occupied, but must {held}"


def _check_order(state: State) -> Iterator[str]:
    order = state.order
    if order is None:
        return
    if len(order.seats) > order.num_slots:
        yield f"{len(order.seats)} trials are seated on {order.num_slots} slots"
    for trial in state.trials:
        seat = order.seats.get(trial.trial)
        if trial.status.is_live and seat is None:
            yield f"trial {trial.trial} is live without a slot"
        elif seat is not None and trial.status.is_ended and not seat.has_ended:
            yield f"trial {trial.trial} has ended, but its slot does not know"


def _check_limit(state: State) -> Iterator[str]:
    limit = state.limit
    if (limit is None) != (state.settings.max_experiment_bytes is None):
        yield f"the limit is {limit}, but the settings say {state.settings.max_experiment_bytes}"
    if limit is None:
        return
    found = {trial.trial: counted(trial) for trial in state.trials}
    num_bytes = sum(entry.num_bytes for entries in found.values() for entry in entries)
    num_counted = sum(map(len, found.values()))
    if (limit.num_bytes, limit.num_counted) != (num_bytes, num_counted):
        yield f"counts {limit.num_counted} checkpoints of {limit.num_bytes} bytes, but must {num_counted}, {num_bytes}"
    stays = {trial.trial: stay.iteration for trial in state.trials if (stay := mainstay(trial.checkpoints))}
    if limit.mainstays != stays:
        yield f"trials go on from {limit.mainstays}, but must from {stays}"
    yield from _check_best(state, limit, found)


def _check_best(state: State, limit: ByteLimit, found: dict[TrialId, list[CheckpointState]]) -> Iterator[str]:
    ranked = [limit.rank(state.trials[index], entry) for index, entries in found.items() for entry in entries]
    best = max((item for item in ranked if item.exact and item.scored), default=None)
    if limit.find_best(state.trials) != best:
        yield f"the best checkpoint is {limit.find_best(state.trials)}, but must be {best}"


def _check_room(state: State) -> Iterator[str]:
    target = state.settings.num_trials
    if target is not None and state.asking and len(state.trials) >= target:
        yield f"asks for more than {target} trials"
    if state.ended and (state.live or state.io or state.outcome is None):
        yield "ended with work under way"


def _check_trial(trial: TrialState) -> Iterator[str]:
    if trial.status is TrialStatus.STOPPING and trial.intent is Intent.RUN:
        yield "is stopping without a reason"
    if trial.status in {TrialStatus.LAUNCHING, TrialStatus.RUNNING} and trial.intent is not Intent.RUN:
        yield "runs although it is to stop"
    if (trial.deadline is not None) and trial.status is not TrialStatus.STOPPING:
        yield "has a deadline although it is not stopping"
    if trial.status is TrialStatus.STOPPING and trial.deadline is None and trial.escalation < 2:  # noqa: PLR2004 (2: killed)
        yield "is stopping without a deadline"
    if trial.ends_saving_at is not None and not trial.status.is_live:
        yield "is at its last save although nobody holds it"
    if trial.retry_at is not None and trial.status is not TrialStatus.PENDING:
        yield "waits to be launched again although it is not pending"
    is_at_work = (trial.started_at is not None or trial.is_assigned) and trial.status.is_live
    if (trial.is_hung or trial.suspected_at is not None) and not is_at_work:
        yield "is taken for hung although it does not run"
    if trial.status is TrialStatus.FAILED and trial.error is None:
        yield "failed without an error"


def _check_checkpoints(trial: TrialState) -> Iterator[str]:
    for entry in [*trial.checkpoints.values(), *trial.failures_saved.values()]:
        if entry.status is CheckpointStatus.STAGED and entry.manifest is None:
            yield f"cannot publish checkpoint {entry.iteration} again"
        if entry.attempt > trial.attempt:
            yield f"checkpoint {entry.iteration} is of attempt {entry.attempt}"
    if not all(entry.exact for entry in trial.checkpoints.values()):
        yield "takes a failure checkpoint for another one"
    if any(entry.exact or entry.attempt != attempt for attempt, entry in trial.failures_saved.items()):
        yield "takes another checkpoint for a failure checkpoint"
