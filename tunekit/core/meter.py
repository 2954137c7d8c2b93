"""What the trials of an experiment have occupied, and what that costs: two sums for all, changed where attempts end.

Kept are hours of each resource, not money, so that prices may be set, and changed, at any time: they hold for what went
before as well. An attempt counts from when a worker came to it until it is over. Between two such moments nothing
changes but the clock, so what everything has cost is known at any time, and when it will have cost so much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

_HOUR_S = 3600.0
_ROUNDING = 1e-9
"""What is missing to a cost by less than this part of it is nothing."""


class Meter(msgspec.Struct):
    """Resources occupied by all attempts together."""

    used: dict[str, float] = msgspec.field(default_factory=dict)
    """Hours of each resource up to ``counted_to``."""
    held: dict[str, float] = msgspec.field(default_factory=dict)
    """How much of each is occupied now."""
    num_held: int = 0
    """By how many attempts."""
    counted_to: float = 0.0
    """In experiment seconds."""

    def begin(self, now: float, amounts: Mapping[str, float], took_s: float) -> None:
        """Count an attempt that a worker came to so many seconds ago."""
        self._count_to(now)
        if took_s:
            self.add(amounts, took_s)
        for name, amount in amounts.items():
            self.held[name] = self.held.get(name, 0.0) + amount
        self.num_held += 1

    def end(self, now: float, amounts: Mapping[str, float]) -> None:
        """Count an attempt that is over."""
        self._count_to(now)
        self.num_held -= 1
        for name, amount in amounts.items():
            self.held[name] -= amount
        if not self.num_held:  # Nothing is left of what rounding has left.
            self.held.clear()

    def lapse(self, since: float, now: float) -> None:
        """Count nothing between two moments: nobody knows what was occupied."""
        self._count_to(since)
        self.counted_to = now

    def add(self, amounts: Mapping[str, float], seconds: float) -> None:
        """Count what was occupied for so long and is no more, or is counted on from here."""
        for name, amount in amounts.items():
            self.used[name] = self.used.get(name, 0.0) + amount * seconds / _HOUR_S

    def cost(self, now: float, prices: Mapping[str, float]) -> float:
        """Return what everything has cost up to now."""
        hours = (now - self.counted_to) / _HOUR_S
        return sum(
            price * (self.used.get(name, 0.0) + self.held.get(name, 0.0) * hours) for name, price in prices.items()
        )

    def reaches_at(self, max_cost: float, prices: Mapping[str, float]) -> float:
        """Return when everything will have cost so much if it goes on like this; infinity: never."""
        left = max_cost - self.cost(self.counted_to, prices)
        if left <= _ROUNDING * max_cost:
            return self.counted_to
        per_h = sum(price * self.held.get(name, 0.0) for name, price in prices.items())
        return self.counted_to + left / per_h * _HOUR_S if per_h > 0 else math.inf

    def _count_to(self, now: float) -> None:
        if now != self.counted_to:
            self.add(self.held, now - self.counted_to)
            self.counted_to = now
