"""One rung of successive halving: what was recorded there, and whether a newcomer is among the best.

Two heaps hold the keys of all trials that came this far: ``_best`` the ⌊n/η⌋ smallest, its largest on top, and
``_rest`` the others, their smallest on top. n grows by one at a time, so a decision moves at most two keys and costs
O(log n), however many trials have passed.
"""

from __future__ import annotations

from heapq import heappop, heappush, heappushpop


class Rung:
    """The keys recorded at one milestone; the smaller, the better.

    Args:
        reduction_factor: η: one trial in so many belongs to the best.
    """

    __slots__ = ("_best", "_eta", "_rest", "num_recorded")

    def __init__(self, reduction_factor: int) -> None:
        """Begin with nothing recorded."""
        self.num_recorded = 0
        """n: how many trials came to the rung."""
        self._eta = reduction_factor
        self._best: list[float] = []  # negated: heapq pops the smallest
        self._rest: list[float] = []

    @property
    def num_best(self) -> int:
        """⌊n/η⌋: how many places there are among the best."""
        return len(self._best)

    def record(self, key: float) -> float | None:
        """Add a key, which must not be NaN, and return that of the last place among the best; None: there is none."""
        best = self._best
        self.num_recorded += 1
        heappush(self._rest, -heappushpop(best, -key) if best else key)
        if len(best) < self.num_recorded // self._eta:
            heappush(best, -heappop(self._rest))
        return -best[0] if best else None
