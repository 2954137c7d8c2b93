"""Which ends of attempts count as losses of work, for ``core.cadence``.

A loss counts if the attempt had run and its trial is to run again: whatever was not saved is computed once more, be the
cause a machine, a crash, a lack of memory, a hang, an exception or the driver's death. A trial that ends for good, or
that stops as it was told, loses nothing that a save would have kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from tunekit.core.commands import Command
from tunekit.core.events import TrialPreempted
from tunekit.core.state import State
from tunekit.core.trial import TrialState
from tunekit.types import Outcome, TrialStatus

_Handler: TypeAlias = Callable[[State, TrialState, Any, list[Command]], None]


def exposed(handler: _Handler) -> _Handler:
    """Have what a handler does about the end of an attempt counted, if it is a loss."""

    def handle(state: State, trial: TrialState, event: Any, out: list[Command]) -> None:
        had_run = trial.started_at is not None
        handler(state, trial, event, out)
        if had_run:
            note(state, trial, is_spared=isinstance(event, TrialPreempted) and _has_saved_all(trial))

    return handle


def prepared(handler: _Handler) -> _Handler:
    """Have counted what an attempt occupied that has ended before it began."""

    def handle(state: State, trial: TrialState, event: Any, out: list[Command]) -> None:
        if not trial.is_metered and event.took_s:
            state.count_preparation(trial, state.now, event.took_s)
        handler(state, trial, event, out)

    return handle


def lapse(state: State, until: float) -> None:
    """Count what attempts under way have occupied up to where the newest driver's knowledge ends, and nothing since."""
    for index in state.live:
        trial = state.trials[index]
        if not trial.is_metered and trial.assigned_at is not None:
            state.count_preparation(trial, until)
    state.meter.lapse(until, state.now)


def note(state: State, trial: TrialState, *, is_spared: bool = False) -> None:
    """Count the end of an attempt that had run, if its trial is to run again.

    Args:
        state: The experiment, which has handled the end.
        trial: The trial.
        is_spared: Whether it left as it was warned to, with its newest row saved.
    """
    if trial.status is TrialStatus.PENDING and state.outcome is not Outcome.ERROR:
        state.exposure.lose(state.now, spared=is_spared)


def _has_saved_all(trial: TrialState) -> bool:
    last = trial.last
    return last is not None and last.attempt == trial.attempt and trial.saved_at >= last.iteration
