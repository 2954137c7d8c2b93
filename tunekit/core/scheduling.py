"""Asks the scheduler, and says so when it raises."""

from __future__ import annotations

from tunekit.core.decisions import Decision
from tunekit.core.events import ResultReported
from tunekit.core.metrics import score
from tunekit.core.state import State
from tunekit.errors import ExperimentError
from tunekit.types import TrialId


def value_of(state: State, event: ResultReported) -> float | None:
    """Return what a row says of the metric; None if that is no finite number."""
    metric = state.settings.metric
    return score(event.metrics, metric) if metric is not None else None


def decide(state: State, trial: TrialId, iteration: int, value: float | None) -> Decision:
    """Ask the scheduler about a trial at its horizon.

    Raises:
        ExperimentError: It raised.
    """
    try:
        return state.scheduler.decide(trial, iteration, value)
    except Exception as error:
        raise _scheduler_failed(state, trial, iteration, value, error) from error


def _scheduler_failed(
    state: State, trial: TrialId, iteration: int, value: float | None, error: Exception
) -> ExperimentError:
    name = type(state.scheduler).__name__
    return ExperimentError(
        f"{name}.decide raised {type(error).__name__}: {error}, asked about trial {trial} at iteration "
        f"{iteration} with the value {value}",
        hint="mend the scheduler and run the script again: the row is recorded, and the decision will be asked for",
    )
