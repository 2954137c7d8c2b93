"""When something goes wrong in a simulated sweep: by chance until calm comes, or just where somebody wants it to."""

from __future__ import annotations

import random

from tunekit.testing.sim_options import SimOptions


class Fate:
    """Decides what happens.

    Args:
        options: What may happen, and where it must.
        rng: Draws the rest.
    """

    def __init__(self, options: SimOptions, rng: random.Random) -> None:
        """Begin with a sweep in which nothing has happened."""
        self.turns = 0
        """Of the drivers, so far."""
        self._options = options
        self._rng = rng
        self._commits = self._commands = 0

    def coin(self, probability: float) -> bool:
        """Return True with this probability, until calm comes."""
        return probability > 0 and self._rng.random() < probability and self.turns < self._options.calm_after

    def of_commit(self) -> str:
        """Return how the driver dies at the next commit of the journal; empty: it does not."""
        self._commits += 1
        for commit, fate in self._options.crash_at:
            if commit == self._commits - 1:
                return fate
        return self._rng.choice(("before", "torn", "after")) if self.coin(self._options.faults.driver) else ""

    def of_command(self) -> bool:
        """Return whether the driver dies before it hands over the next command."""
        self._commands += 1
        return self._options.crash_before == self._commands - 1 or self.coin(self._options.faults.driver)
