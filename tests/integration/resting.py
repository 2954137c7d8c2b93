"""A scheduler that pauses: what is worse than most rests, again and again."""

from __future__ import annotations

from typing import Any

from tunekit.core.decisions import Continue, Decision, Pause
from tunekit.types import Mode, TrialId


class Resting:
    """Pauses every trial that is worse than most that it has heard of, at every second row."""

    needs_metric = True

    def begin(self, mode: Mode) -> RestingState:
        return RestingState()

    def identity(self) -> dict[str, Any]:
        return {"class": "Resting"}


class RestingState:
    def __init__(self) -> None:
        self.heard: list[float] = []

    def horizon(self, trial: TrialId, iteration: int) -> int | None:
        return iteration + 2 - iteration % 2

    def decide(self, trial: TrialId, iteration: int, value: float | None) -> Decision:
        assert value is not None
        num_better = sum(other < value for other in self.heard)
        self.heard.append(value)
        return self.judge(iteration, num_better, num_better / len(self.heard))

    def judge(self, iteration: int, num_better: int, share: float) -> Decision:
        """Decide about a trial; so many of the values so far, and this share of them, were better than its own."""
        return Pause(reason=f"{num_better} were better") if share > 0.4 else Continue(until=iteration + 2)
