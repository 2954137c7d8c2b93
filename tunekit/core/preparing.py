"""From the moment at which a worker is given an attempt to the one at which user code runs.

The worker loads the trainable and the configuration, and with them whatever code they bring along; then it reads the
checkpoint. Each of these can hang. The clock starts when a worker that is up has nothing else before it, and not at the
launch: how long an attempt waits for a place, a process or a machine says nothing about it.
"""

from __future__ import annotations

from tunekit.core.commands import Command
from tunekit.core.events import TrialAssigned
from tunekit.core.state import State
from tunekit.core.trial import TrialState


def on_assigned_in_vain(state: State, trial: TrialState, event: TrialAssigned, out: list[Command]) -> None:
    """A worker begins to prepare an attempt that was told to stop meanwhile: it is occupied all the same."""
    del event, out
    if not trial.is_metered:
        trial.assigned_at = state.now


def on_assigned(state: State, trial: TrialState, event: TrialAssigned, out: list[Command]) -> None:
    """A worker begins to prepare the attempt: from here on, its silence is noticed."""
    del out
    trial.node = event.node
    trial.is_assigned = True
    trial.assigned_at = state.now
    state.hear(trial)
    state.deadlines.watch(trial.trial)
