"""One rung of successive halving: what was recorded there, and whether a newcomer is among the best.

Two heaps hold the keys of all trials that came this far: ``_best`` the ⌊n/η⌋ smallest, its largest on top, and
``_rest`` the others, their smallest on top. n grows by one at a time, so a decision moves at most two keys and costs
O(log n), however many trials have passed.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple


class Standing(NamedTuple):
    """Where a newcomer stands in a rung."""

    num_recorded: int
    """n: how many trials came to the rung, the newcomer included."""
    num_best: int
    """⌊n/η⌋: how many places there are among the best."""
    cutoff: float | None
    """Key of the last place among the best; None while there is no place."""


class Rung:
    """The keys recorded at one milestone; the smaller, the better.

    Args:
        reduction_factor: η: one trial in so many belongs to the best.
    """

    def __init__(self, reduction_factor: int) -> None:
        """Begin with nothing recorded."""
        self._eta = reduction_factor
        self._best: list[float] = []  # negated: heapq pops the smallest
        self._rest: list[float] = []

    def __len__(self) -> int:
        """Return how many keys are recorded."""
        return len(self._best) + len(self._rest)

    def record(self, key: float) -> Standing:
        """Add a key, which must not be NaN, and return how things stand with it included."""
        heapq.heappush(self._rest, -heapq.heappushpop(self._best, -key) if self._best else key)
        num_best = len(self) // self._eta
        if len(self._best) < num_best:
            heapq.heappush(self._best, -heapq.heappop(self._rest))
        return Standing(len(self), num_best, -self._best[0] if self._best else None)
