"""Logs what must be known whether or not progress is shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from tunekit.core.checkpoints import newest
from tunekit.core.events import Event, RestoreFailed
from tunekit.core.state import State
from tunekit.types import TrialId, TrialStatus

logger: Final = logging.getLogger("tunekit")


class Alarm:
    """Warns of each checkpoint that a trial could not go on from: which file is to blame, and what the trial does now.

    Args:
        trial_name: Gives the name of a trial.
    """

    def __init__(self, trial_name: Callable[[TrialId], str]) -> None:
        """Warn of nothing yet."""
        self._trial_name = trial_name

    def observe(self, events: Sequence[Event], state: State) -> None:
        """Log one warning for each of these events that is worth it."""
        for event in events:
            if isinstance(event, RestoreFailed):
                logger.warning(
                    "%s could not go on from iteration %d: %s; %s",
                    self._trial_name(event.trial),
                    event.iteration,
                    event.error.message,
                    _what_follows(event, state),
                )


def _what_follows(event: RestoreFailed, state: State) -> str:
    trial = state.trials[event.trial]
    if trial.status is TrialStatus.FAILED:
        return "it has no other checkpoint, so it failed"
    if trial.status.is_ended:
        return "it is put aside"
    previous = newest(trial.checkpoints)
    begins = f"goes on from iteration {previous.iteration}" if previous else "has no other, and starts over"
    return f"it is put aside, and the trial {begins}"
