"""A scheduler for simulations that pauses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunekit.core.decisions import Continue, Decision, Pause
from tunekit.types import Mode, TrialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauser:
    """Pauses a trial that is worse than many of those that it has heard of.

    Attributes:
        every: It decides at every row whose iteration is a multiple of this.
        share: A trial is paused if more than this share of all values so far are better; at 0 or more than 1, always
            or never.
    """

    every: int = 2
    share: float = 0.4
    needs_metric: bool = True

    def begin(self, mode: Mode) -> PauserState:
        """Return the state of a new sweep."""
        return PauserState(self, 1.0 if mode is Mode.MIN else -1.0)

    def identity(self) -> dict[str, Any]:
        """Return what makes two of them the same."""
        return {"class": "Pauser", "every": self.every, "share": self.share}


class PauserState:
    """What it has heard."""

    def __init__(self, pauser: Pauser, sign: float) -> None:
        """Begin with nothing."""
        self._pauser = pauser
        self._sign = sign
        self._heard: list[float] = []

    def horizon(self, trial: TrialId, iteration: int) -> int | None:
        """Return the next iteration at which it decides."""
        del trial
        every = self._pauser.every
        return iteration + every - iteration % every

    def decide(self, trial: TrialId, iteration: int, value: float | None) -> Decision:
        """Pause a trial, or let it go on."""
        share = self._pauser.share
        if value is not None:
            value *= self._sign
            num_better = sum(other < value for other in self._heard)
            self._heard.append(value)
            if not share or num_better > share * len(self._heard):
                return Pause(reason=f"{num_better} were better")
        return Continue(until=self.horizon(trial, iteration))
