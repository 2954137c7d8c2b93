"""How long a trial that is to stop is left in peace: busy is not stuck.

A trial that comes to its end says so before it finishes its saves. It may not have been told to stop yet: its machine
goes, or it ends by itself, and only then its time is over or the run is wound up. So the word is remembered.
"""

from __future__ import annotations

from tunekit.core.commands import Command
from tunekit.core.events import TrialSaving
from tunekit.core.state import State
from tunekit.core.trial import TrialState


def on_saving(state: State, trial: TrialState, event: TrialSaving, out: list[Command]) -> None:
    """Be patient with a trial that waits for its storage. If it was stopped, it may take its time over that."""
    del out
    state.hear(trial)
    if event.final or trial.ends_saving_at is not None:
        trial.ends_saving_at = state.now
    if trial.deadline is not None:
        state.set_deadline(trial, max(trial.deadline, state.now + state.settings.save_grace_s))


def grace_ends_at(state: State, trial: TrialState) -> float:
    """Return until when a trial that is told to stop now is left in peace."""
    ends_at = state.now + state.settings.stop_grace_s
    if trial.ends_saving_at is not None:
        ends_at = max(ends_at, trial.ends_saving_at + state.settings.save_grace_s)
    return ends_at
