"""What a callback is told of each event: a pure fold over the journal, so that every driver tells the same story.

An event that the core ignores (a late word of an earlier attempt, a duplicate) is not told. Most others lead to one
call, some to none, and one to several: a driver that takes over may end many trials at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tunekit.core.events import (
    CheckpointPublished,
    DriverStarted,
    Event,
    Place,
    ResultReported,
    TrialHalted,
    TrialStarted,
    TrialStartedOver,
)
from tunekit.core.rows import ENDINGS, end_of
from tunekit.core.state import State
from tunekit.core.trial import TrialState
from tunekit.types import StartOver, TrialId, TrialStatus


class Snapshot(NamedTuple):
    """What changes about a trial."""

    status: TrialStatus
    attempt: int
    iteration: int
    """Of its newest row; for one that has come to its end, of the last row that counts."""
    reason: str


def snapshot(trial: TrialState) -> Snapshot:
    """Return how a trial is now."""
    end = end_of(trial)
    return Snapshot(trial.status, trial.attempt, trial.iteration if end is None else end, trial.reason)


@dataclass(frozen=True, slots=True)
class Happening:
    """One call of a callback, before it is dressed up for its reader."""

    number: int
    """Of the record."""
    method: str
    trial: TrialId | None = None
    seen: Snapshot | None = None
    """The trial as it was then."""
    all_seen: Sequence[Snapshot] | None = None
    """All trials as they were then; None: it does not matter."""
    row: ResultReported | None = None
    place: Place = field(default_factory=Place)
    info: dict[str, Any] = field(default_factory=dict)


class Narrator:
    """Turns events into happenings."""

    def __init__(self) -> None:
        """Begin before the first event."""
        self.number = 0
        """How many events there were."""
        self._num_stale = 0
        self._begun: dict[TrialId, int] = {}
        """The newest attempt of each trial whose start was told."""
        self._reached: dict[TrialId, int] = {}
        """The last iteration that was told of each trial and has not been lost since."""

    def tell(self, event: Event, state: State) -> list[Happening]:
        """Return what there is to be told of an event, which the core has just handled."""
        self.number += 1
        is_stale, self._num_stale = state.num_stale != self._num_stale, state.num_stale
        told = [] if is_stale else self._of_event(event, state)
        return told + [self._end(state.trials[index]) for index in state.just_ended]

    def _of_event(self, event: Event, state: State) -> list[Happening]:
        if isinstance(event, DriverStarted):
            if event.generation == 1 or not state.trials:
                return []
            return [Happening(self.number, "on_restore", all_seen=[snapshot(trial) for trial in state.trials])]
        teller = _TELLERS.get(type(event))
        return teller(self, state, state.trials[event.trial], event) if teller is not None else []  # type: ignore[union-attr]

    def _about(self, method: str, trial: TrialState, **fields: Any) -> Happening:
        return Happening(self.number, method, trial.trial, snapshot(trial), **fields)

    def _start(self, state: State, trial: TrialState, event: TrialStarted) -> list[Happening]:
        del state
        is_first = trial.trial not in self._begun
        self._begun[trial.trial] = event.attempt
        return [self._about("on_trial_start", trial)] if is_first else [self._rewind(trial, event.restored_from or 0)]

    def _start_over(self, state: State, trial: TrialState, event: TrialStartedOver) -> list[Happening]:
        del state
        return [self._rewind(trial, 0)] if event.sign is StartOver.UNOPENED else []

    def _rewind(self, trial: TrialState, restored_from: int) -> Happening:
        reached = self._reached.get(trial.trial, 0)
        self._reached[trial.trial] = min(reached, restored_from)
        superseded = range(restored_from + 1, reached + 1)
        return self._about("on_trial_restore", trial, info={"restored_from": restored_from, "superseded": superseded})

    def _row(self, state: State, trial: TrialState, event: ResultReported) -> list[Happening]:
        del state
        self._reached[trial.trial] = event.iteration
        return [self._about("on_trial_result", trial, row=event, place=trial.place)]

    def _checkpoint(self, state: State, trial: TrialState, event: CheckpointPublished) -> list[Happening]:
        del state
        if not event.exact:
            return []
        return [self._about("on_checkpoint", trial, info={"training_iteration": event.iteration})]

    def _ending(self, state: State, trial: TrialState, event: Event) -> list[Happening]:
        """Tell of an attempt that has ended and whose trial has not. Nobody knows of one that has never begun."""
        if trial.trial in state.just_ended or trial.trial not in self._begun:
            return []
        if trial.status is TrialStatus.PAUSED:
            return [self._about("on_trial_pause", trial)]
        return [] if isinstance(event, TrialHalted) else [self._about("on_trial_recover", trial, info=_error(trial))]

    def _end(self, trial: TrialState) -> Happening:
        if trial.status is TrialStatus.FAILED:
            return self._about("on_trial_error", trial, info=_error(trial))
        return self._about("on_trial_complete", trial)


def _error(trial: TrialState) -> dict[str, Any]:
    error = trial.error
    return {"error": ": ".join(filter(None, [error.type, error.message])) if error else ""}


_TELLERS: Final[dict[type, Callable[[Narrator, State, TrialState, Any], list[Happening]]]] = {
    TrialStarted: Narrator._start,  # noqa: SLF001 - this module's own
    TrialStartedOver: Narrator._start_over,  # noqa: SLF001
    ResultReported: Narrator._row,  # noqa: SLF001
    CheckpointPublished: Narrator._checkpoint,  # noqa: SLF001
    **dict.fromkeys(ENDINGS, Narrator._ending),  # noqa: SLF001
}
