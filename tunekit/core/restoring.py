"""What follows when the checkpoint that a trial was to go on from cannot be used."""

from __future__ import annotations

from msgspec import structs

from tunekit.core.checkpoints import last_hope, valid
from tunekit.core.commands import Command
from tunekit.core.events import LaunchFailed, RestoreFailed
from tunekit.core.state import State
from tunekit.core.trial import TrialState
from tunekit.types import LossCause


def as_hopeless(state: State, trial: TrialState, event: RestoreFailed) -> LaunchFailed | None:
    """Return the failure that it is if the trial has no other checkpoint to go on from; None: it has.

    To start over would cost all that the trial has done, and may not be wanted, since somebody may have a copy.
    """
    hope = last_hope(trial.checkpoints)
    if not state.settings.fails_without_checkpoint or hope is None or hope.iteration != event.iteration:
        return None
    error = structs.replace(
        event.error,
        message=f"{event.error.message}; the trial has no other checkpoint to go on from",
        hint="put a good copy of the folder in its place and use Tuner.restore(path, trainable, resume_errored=True), "
        "or let the trial start over with restart_errored=True",
    )
    cause = LossCause.RESTORE_FAILED
    return LaunchFailed(trial=event.trial, attempt=event.attempt, error=error, retryable=False, cause=cause)


def put_aside(state: State, trial: TrialState, iteration: int, out: list[Command]) -> None:
    """Start no attempt from a checkpoint again, and have it put aside."""
    entry = trial.checkpoints.get(iteration)
    if entry is not None and (good := valid(entry)) is not None:
        state.give_up(trial, good)
        good.damaged = True
        if good is entry:
            state.delete(trial, entry, out)
