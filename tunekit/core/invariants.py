"""What must always be true of a state. An executable specification, run after every event in tests."""

from __future__ import annotations

from collections.abc import Iterator

from tunekit.core.experiment import Experiment
from tunekit.core.state import State
from tunekit.core.trial import CheckpointStatus, TrialState
from tunekit.errors import InvariantViolationError
from tunekit.types import Intent, TrialStatus


def check(experiment: Experiment) -> None:
    """Compare every derived index with the facts.

    Raises:
        InvariantViolationError: Some of them differ; all differences are listed.
    """
    state = experiment.state
    problems = [*_check_indexes(state), *_check_room(state)]
    for trial in state.trials:
        problems += [f"trial {trial.trial}: {problem}: {trial!r}" for problem in _check_trial(trial)]
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
        if trial.status is TrialStatus.PENDING and trial.num_staged == 0 and state.is_wanted(trial)
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
    if staged != publishing:
        yield f"{publishing} publications are open, but trials count {staged}"


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
    if trial.status is TrialStatus.FAILED and trial.error is None:
        yield "failed without an error"
    for entry in trial.checkpoints.values():
        if entry.status is CheckpointStatus.STAGED and entry.manifest is None:
            yield f"cannot publish checkpoint {entry.iteration} again"
        if entry.attempt > trial.attempt:
            yield f"checkpoint {entry.iteration} is of attempt {entry.attempt}"
