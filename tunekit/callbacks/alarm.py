"""Logs what must be known whether or not progress is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tunekit.core.checkpoints import start
from tunekit.core.events import Event, LaunchFailed, RestoreFailed
from tunekit.core.restarts import what_happened, what_to_do
from tunekit.core.state import State
from tunekit.errors import CheckpointCorruptError, CheckpointVersionError
from tunekit.logs import logger_of
from tunekit.printable import one_line
from tunekit.types import LossCause, TrialId, TrialStatus

logger: Final = logger_of("tunekit")

_OF_CHECKPOINTS: Final = {
    f"{kind.__module__}.{kind.__name__}" for kind in (CheckpointCorruptError, CheckpointVersionError)
}


class Alarm:
    """Warns of each checkpoint that a trial could not go on from, or did not: what is to blame, and what follows.

    Args:
        trial_name: Gives the name of a trial.
    """

    def __init__(self, trial_name: Callable[[TrialId], str]) -> None:
        """Warn of nothing yet."""
        self._trial_name = trial_name
        self._num_told = 0

    def observe(self, events: Sequence[Event], state: State) -> None:
        """Log one warning for each of these events that is worth it, and for each trial that began anew silently."""
        for index in state.started_over[self._num_told :]:
            restart = state.trials[index].silent_restarts[0]
            hint = what_to_do(restart.sign)
            logger.warning("%s: %s; %s", self._trial_name(index), what_happened(restart), hint)
        self._num_told = len(state.started_over)
        for event in events:
            if isinstance(event, RestoreFailed):
                self._warn(event, event.iteration, _what_follows(event, state))
            elif isinstance(event, LaunchFailed) and event.error.type in _OF_CHECKPOINTS:
                self._warn(event, state.trials[event.trial].resume_from, "so it failed")

    def _warn(self, event: RestoreFailed | LaunchFailed, iteration: int | None, follows: str) -> None:
        name = self._trial_name(event.trial)
        blame = one_line(event.error.message)
        logger.warning("%s could not go on from iteration %s: %s; %s", name, iteration, blame, follows)


def _what_follows(event: RestoreFailed, state: State) -> str:
    trial = state.trials[event.trial]
    is_last_word = trial.status is TrialStatus.FAILED and trial.attempt == event.attempt
    if is_last_word and trial.cause is LossCause.RESTORE_FAILED:
        return "the trial has no other checkpoint to go on from; so it failed"
    if trial.status.is_ended:
        return "it is put aside"
    previous = start(trial.checkpoints)
    begins = f"goes on from iteration {previous.iteration}" if previous else "has no other, and starts over"
    return f"it is put aside, and the trial {begins}"
