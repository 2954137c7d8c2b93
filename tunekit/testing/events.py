"""Event scripts: one short word for each thing that can happen, and a core that plays them.

::

    play = Script()
    play.begin(num_trials=1)
    assert play(started(0), row(0, 1), lost(0)) == [LaunchTrial(trial=0, attempt=2)]

``Script`` checks the invariants after each event, and that a replay of what was played gives the same commands.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tunekit.core import invariants
from tunekit.core.commands import Command
from tunekit.core.events import (
    CapacityChanged,
    CheckpointAdopted,
    CheckpointDeleted,
    CheckpointMissing,
    CheckpointPublished,
    CheckpointStaged,
    DeleteFailed,
    Draw,
    DriverStarted,
    ErrorInfo,
    Event,
    LaunchFailed,
    PublishFailed,
    RestoreFailed,
    ResultReported,
    SaveFailed,
    SearcherFailed,
    Settings,
    StopRequested,
    TimerFired,
    TrialAssigned,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialSaving,
    TrialsSuggested,
    TrialStarted,
    TrialStartedOver,
    WorkerLost,
)
from tunekit.core.experiment import Experiment
from tunekit.core.policies import Scheduler
from tunekit.core.trial import TrialState
from tunekit.errors import ReplayMismatchError
from tunekit.schedulers import FIFO
from tunekit.types import LossCause, Mode, StartOver, TrialId

ERROR = ErrorInfo(type="ValueError", message="bad")
"""What user code died of, where nobody cares."""


def driver(generation: int = 1, **settings: Any) -> DriverStarted:
    """Return the start of a driver; ``settings`` are the fields of ``Settings``."""
    return DriverStarted(generation=generation, settings=Settings(**settings))


def capacity(max_live: int) -> CapacityChanged:
    """Return the news that the executor has room for so many trials."""
    return CapacityChanged(max_live=max_live)


def suggested(count: int, *, first: int = 0, exhausted: bool = False) -> TrialsSuggested:
    """Return ``count`` configurations, which differ in ``x``."""
    draws = [Draw(values={"x": first + i}, shown={"x": first + i}) for i in range(count)]
    return TrialsSuggested(draws=draws, exhausted=exhausted)


def searcher_failed() -> SearcherFailed:
    """Return the news that the searcher raised."""
    return SearcherFailed(error=ERROR)


def interrupted(reason: str = "Ctrl-C") -> StopRequested:
    """Return the user's wish to stop."""
    return StopRequested(reason=reason)


def timer(at: float) -> TimerFired:
    """Return the ring of the clock at ``at``."""
    return TimerFired(at=at)


def assigned(trial: TrialId, attempt: int = 1, *, node: str = "") -> TrialAssigned:
    """Return the news that a worker has been given the attempt."""
    return TrialAssigned(trial=trial, attempt=attempt, node=node)


def started(trial: TrialId, attempt: int = 1, *, restored_from: int | None = None) -> TrialStarted:
    """Return the start of user code."""
    return TrialStarted(trial=trial, attempt=attempt, restored_from=restored_from)


def started_over(
    trial: TrialId, attempt: int, iteration: int, sign: StartOver = StartOver.UNOPENED
) -> TrialStartedOver:
    """Return the news that the checkpoint of ``iteration`` was not made use of."""
    return TrialStartedOver(trial=trial, attempt=attempt, iteration=iteration, sign=sign)


def row(trial: TrialId, iteration: int, attempt: int = 1, **fields: Any) -> ResultReported:
    """Return a row whose ``loss`` is ``1 / iteration``; ``fields`` are those of ``ResultReported``."""
    return ResultReported(
        trial=trial,
        attempt=attempt,
        iteration=iteration,
        **{"metrics": {"loss": 1 / iteration}, "time_total_s": float(iteration), **fields},
    )


def staged(
    trial: TrialId, iteration: int, attempt: int = 1, *, score: float | None = None, size: int = 0, **fields: Any
) -> CheckpointStaged:
    """Return the news that a checkpoint's files, of ``size`` bytes, are durable; ``fields`` are those of the event."""
    manifest: dict[str, Any] = {"iteration": iteration, "attempt": attempt}
    if size:
        manifest["files"] = [{"name": "state", "size": size}]
    return CheckpointStaged(trial=trial, attempt=attempt, iteration=iteration, manifest=manifest, score=score, **fields)


def published(trial: TrialId, iteration: int, attempt: int = 1, *, exact: bool = True) -> CheckpointPublished:
    """Return the news that a checkpoint is visible."""
    return CheckpointPublished(trial=trial, attempt=attempt, iteration=iteration, exact=exact)


def publish_failed(trial: TrialId, iteration: int, attempt: int = 1, *, exact: bool = True) -> PublishFailed:
    """Return the news that a checkpoint could not be made visible."""
    return PublishFailed(trial=trial, attempt=attempt, iteration=iteration, error=ERROR, exact=exact)


def deleted(trial: TrialId, iteration: int, attempt: int = 1, *, exact: bool = True) -> CheckpointDeleted:
    """Return the news that a checkpoint is gone."""
    return CheckpointDeleted(trial=trial, attempt=attempt, iteration=iteration, exact=exact)


def adopted(trial: TrialId, iteration: int, attempt: int = 1, **fields: Any) -> CheckpointAdopted:
    """Return the news that a new driver found a checkpoint; ``fields`` are those of the event."""
    return CheckpointAdopted(trial=trial, attempt=attempt, iteration=iteration, **fields)


def missing(trial: TrialId, iteration: int, attempt: int = 1, *, exact: bool = True) -> CheckpointMissing:
    """Return the news that a new driver did not find a checkpoint."""
    return CheckpointMissing(trial=trial, attempt=attempt, iteration=iteration, exact=exact)


def delete_failed(trial: TrialId, iteration: int, attempt: int = 1) -> DeleteFailed:
    """Return the news that a checkpoint could not be removed."""
    return DeleteFailed(trial=trial, attempt=attempt, iteration=iteration, error=ERROR)


def save_failed(trial: TrialId, iteration: int, attempt: int = 1) -> SaveFailed:
    """Return the news that storage failed while a checkpoint was staged."""
    return SaveFailed(trial=trial, attempt=attempt, iteration=iteration, error=ERROR)


def restore_failed(trial: TrialId, iteration: int, attempt: int = 1) -> RestoreFailed:
    """Return the news that a checkpoint is damaged."""
    return RestoreFailed(trial=trial, attempt=attempt, iteration=iteration, error=ERROR)


def launch_failed(trial: TrialId, attempt: int = 1) -> LaunchFailed:
    """Return the news that the worker could not prepare the attempt."""
    return LaunchFailed(trial=trial, attempt=attempt, error=ERROR)


def returned(trial: TrialId, attempt: int = 1, *, reason: str = "") -> TrialReturned:
    """Return the trial's own end."""
    return TrialReturned(trial=trial, attempt=attempt, reason=reason)


def raised(
    trial: TrialId, attempt: int = 1, *, retryable: bool = True, fatal: bool = False, error: ErrorInfo = ERROR
) -> TrialRaised:
    """Return an exception of user code."""
    return TrialRaised(trial=trial, attempt=attempt, error=error, retryable=retryable, fatal=fatal)


def halted(trial: TrialId, attempt: int = 1) -> TrialHalted:
    """Return the news that the trial stopped as told."""
    return TrialHalted(trial=trial, attempt=attempt)


def preempted(trial: TrialId, attempt: int = 1) -> TrialPreempted:
    """Return the news that the trial ended because its process was told to."""
    return TrialPreempted(trial=trial, attempt=attempt, reason="SIGTERM")


def saving(trial: TrialId, attempt: int = 1, *, final: bool = False) -> TrialSaving:
    """Return the news that the trial waits for its saves; ``final``: it ends with them."""
    return TrialSaving(trial=trial, attempt=attempt, final=final)


def lost(trial: TrialId, attempt: int = 1, cause: LossCause = LossCause.CRASHED) -> WorkerLost:
    """Return the news that the attempt's worker is gone."""
    return WorkerLost(trial=trial, attempt=attempt, cause=cause)


def saved(trial: TrialId, iteration: int, attempt: int = 1, **fields: Any) -> list[Event]:
    """Return a row, its checkpoint, and the publication of that; ``fields`` are those of ``staged``."""
    return [
        row(trial, iteration, attempt),
        staged(trial, iteration, attempt, **fields),
        published(trial, iteration, attempt),
    ]


class Script:
    """A bare core that plays events.

    Args:
        scheduler: Decides at horizons.
        mode: Which end of the metric is better.
    """

    def __init__(self, scheduler: Scheduler | None = None, mode: Mode = Mode.MIN) -> None:
        """Begin with an experiment that nothing has happened to."""
        self._scheduler = scheduler if scheduler is not None else FIFO()
        self._mode = mode
        self.experiment = Experiment(self._scheduler, mode)
        self.history: list[tuple[Event, list[Command]]] = []
        """What was played, each event with what came of it."""

    def __call__(self, *events: Event) -> list[Command]:
        """Play the events and return the commands of the last one.

        An event without a time happens at the time of the one before it.

        Raises:
            InvariantViolationError: The state contradicts itself.
        """
        commands: list[Command] = []
        for event in events:
            timed = msgspec.structs.replace(event, at=max(event.at, self.experiment.state.now))
            commands = self.experiment.handle(timed)
            self.history.append((timed, commands))
            invariants.check(self.experiment)
        return commands

    def begin(self, *, num_trials: int = 1, max_live: int | None = None, **settings: Any) -> list[Command]:
        """Play the start of a sweep and return its first launches; ``settings`` are the fields of ``Settings``."""
        settings = {"ask_batch": num_trials, **settings}
        room = num_trials if max_live is None else max_live
        return self(driver(num_trials=num_trials, **settings), capacity(room), suggested(num_trials))

    def trial(self, index: TrialId) -> TrialState:
        """Return the state of a trial."""
        return self.experiment.state.trials[index]

    def replay(self) -> None:
        """Play the history to a fresh core.

        Raises:
            ReplayMismatchError: It answers otherwise.
        """
        fresh = Experiment(self._scheduler, self._mode)
        for event, commands in self.history:
            again = fresh.handle(event)
            if again != commands:
                raise ReplayMismatchError(f"after {event!r} came {commands}, but a replay gives {again}")
