"""What follows when a trial begins anew although it was given a checkpoint: see ``core.restarts`` for how it shows."""

from __future__ import annotations

from tunekit.core.commands import Command
from tunekit.core.events import ResultReported, TrialStartedOver
from tunekit.core.restarts import NUM_ROWS, Beginning, SilentRestart, as_error, begins_anew
from tunekit.core.retries import fail
from tunekit.core.state import State
from tunekit.core.trial import TrialState
from tunekit.types import StartOver


def on_started_over(state: State, trial: TrialState, event: TrialStartedOver, out: list[Command]) -> None:
    """User code has made nothing of its checkpoint. Where that is not wanted, the worker raises by itself."""
    del out
    _note(state, trial, SilentRestart(event.attempt, event.iteration, event.sign))


def look_back(state: State, trial: TrialState, row: ResultReported) -> bool:
    """Compare a row with those that the trial began with, and return whether the trial is to be stopped for it."""
    seen = trial.beginning
    if seen is None or row.iteration == 1:
        trial.beginning = Beginning(row.attempt, [row]) if row.iteration == 1 else None
        return False
    # Nearly every row ends here: of the attempt that made the beginning, only its first value is of interest.
    if seen.flat_key is not None and row.attempt == seen.attempt and row.metrics.get(seen.flat_key) != seen.first:
        return False
    if len(seen.rows) < NUM_ROWS:
        if row.iteration == len(seen.rows) + 1:
            seen.rows.append(row)
        return False
    if begins_anew(seen, row, trial.resume_from, state.settings.metric):
        restart = SilentRestart(row.attempt, trial.resume_from or 0, StartOver.SAME_ROWS)
        _note(state, trial, restart)
        if state.settings.silent_restart == "fail":
            trial.doom = as_error(restart)
            return True
    elif not seen.is_telling:
        trial.beginning = None
    return False


def _note(state: State, trial: TrialState, restart: SilentRestart) -> None:
    """Remember that an attempt began anew, by its first sign, and have the user told of the first one."""
    if any(known.attempt == restart.attempt for known in trial.silent_restarts):
        return
    if not trial.silent_restarts and state.settings.silent_restart == "warn":
        state.started_over.append(trial.trial)
    trial.silent_restarts.append(restart)


def is_doomed(state: State, trial: TrialState, out: list[Command]) -> bool:
    """Fail a trial whose attempt has ended and that began anew where nobody wants that, and say whether it was one.

    What the attempt has saved is not trusted: whoever mends the code goes on from the checkpoint that it was given.
    """
    if trial.doom is None:
        return False
    for entry in trial.checkpoints.values():
        entry.began_anew = entry.began_anew or entry.attempt == trial.attempt
    state.review(trial)
    trial.error = trial.doom
    fail(state, trial, out)
    return True
