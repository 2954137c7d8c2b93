"""What a simulated attempt computes, and from where it goes on."""

from __future__ import annotations

from typing import Any

from tunekit.core.commands import LaunchTrial
from tunekit.core.events import ErrorInfo, LaunchFailed, RestoreFailed
from tunekit.testing.sim_options import MESSAGES
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.testing.sim_world import first_state, next_state
from tunekit.types import LossCause, StartOver

ERROR = ErrorInfo(type="SimulatedError", message=MESSAGES[0])


class SimTraining:
    """The state that is handed from iteration to iteration.

    Args:
        around: The world.
        launch: From where the attempt goes on.
    """

    def __init__(self, around: Surroundings, launch: LaunchTrial) -> None:
        """Begin as if there were no checkpoint, but for the count."""
        self.iteration = launch.resume_from or 0
        self.time_total_s = launch.time_total_s
        self.state = first_state(around.seed, launch.trial)
        self.anew: StartOver | None = None
        """How it shows that it made nothing of its checkpoint, until that has been said."""
        self.loads = False
        """Whether it has a checkpoint to load before it trains."""
        self._around = around
        self._trial, self._attempt = launch.trial, launch.attempt
        self._resume_from = launch.resume_from
        self._lag = 0
        """How many iterations are missing in its state."""

    def restore(self, node: str, took_s: float) -> LaunchFailed | RestoreFailed | None:
        """Read the checkpoint that there is; return what is to be said if that cannot be done."""
        around, resume_from = self._around, self._resume_from
        if resume_from is None:
            return None
        about: dict[str, Any] = {"trial": self._trial, "attempt": self._attempt}
        if around.coin(around.options.faults.unreadable):
            return LaunchFailed(**about, error=ERROR, node=node, cause=LossCause.STORAGE, took_s=took_s)
        state = around.store.restore(self._trial, resume_from)
        if state is None:
            return RestoreFailed(**about, iteration=resume_from, error=ERROR, took_s=took_s)
        if around.coin(around.options.faults.anew):
            self._begin_anew(resume_from)
            return None
        self.state, self.loads = state, True
        saved_by = around.store.visible[self._trial, resume_from].attempt
        self._lag = around.lags.get((self._trial, saved_by), 0)
        around.lags[self._trial, self._attempt] = self._lag
        return None

    def advance(self, took_s: float) -> None:
        """Train for one iteration."""
        self.iteration += 1
        self.time_total_s += took_s
        self.state = next_state(self.state, self.iteration - self._lag)

    def _begin_anew(self, resume_from: int) -> None:
        """Let user code make nothing of its checkpoint. Its rows count on all the same, unless it did not open it."""
        around = self._around
        self.anew = around.anew[self._trial, self._attempt] = around.rng.choice(around.options.faults.start_overs)
        self.loads = self.anew is StartOver.SAME_ROWS
        if self.anew is StartOver.UNOPENED:
            self.iteration, self.time_total_s = 0, 0.0
        else:
            self._lag = around.lags[self._trial, self._attempt] = resume_from
