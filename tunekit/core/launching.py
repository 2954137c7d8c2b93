"""How a trial begins: it is asked for, and it is launched."""

from __future__ import annotations

from tunekit.core import checkpoints, lifecycle
from tunekit.core.commands import AskSearcher, Command, LaunchTrial
from tunekit.core.state import State
from tunekit.core.trial import TrialState
from tunekit.types import Intent, TrialStatus

_LAUNCHING, _RUN = TrialStatus.LAUNCHING, Intent.RUN  # The members of an enum are slow to look up.


def launch(state: State, trial: TrialState, out: list[Command]) -> None:
    """Start the next attempt of a trial, from its newest checkpoint, unless that is suspect."""
    entry = checkpoints.start(trial.checkpoints) if trial.checkpoints else None
    trial.attempt += 1
    trial.resume_from = entry.iteration if entry else None
    if state.order is None:
        trial.until = state.scheduler.horizon(trial.trial, trial.resume_from or 0)
    else:  # What was decided need not be asked again.
        trial.until = state.order.seats[trial.trial].until
    trial.intent = _RUN
    trial.own_stop = trial.ran_in_full = trial.is_assigned = False
    trial.doom = trial.assigned_at = None
    trial.launched_at = state.now
    trial.saved_at = trial.owes_at = 0
    trial.reason = trial.node = ""
    state.move(trial, _LAUNCHING)
    out.append(
        LaunchTrial(
            trial=trial.trial,
            attempt=trial.attempt,
            resume_from=trial.resume_from,
            until=lifecycle.worker_horizon(state, trial),
            time_total_s=entry.time_total_s if entry else 0.0,
            avoid=list(trial.avoided),
            outlook=state.exposure.outlook(state.now) if state.settings.tells_outlook else None,
        )
    )


def ask(state: State, num_free: int, out: list[Command]) -> bool:
    """Ask for new configurations, and return whether there is anything to ask for.

    Args:
        state: The experiment.
        num_free: How many trials could begin now.
        out: Where the command goes.
    """
    count = _askable(state, num_free)
    if count > 0:
        state.asking = True
        out.append(AskSearcher(first=len(state.trials), count=count))
    return count > 0


def _askable(state: State, num_free: int) -> int:
    if state.exhausted or state.holding:
        return 0
    count = num_free if state.settings.searcher_learns else max(num_free, state.settings.ask_batch)
    if state.settings.num_trials is None:
        return count
    return min(count, state.settings.num_trials - len(state.trials))
