"""How long trials last, as a running mean that does not waver between brief and long. Pure."""

from __future__ import annotations

from typing import Final

_MEMORY: Final = 0.8
"""How much of the mean a new duration leaves."""


class Durations:
    """What is known of them.

    Args:
        brief_s: A mean below this is brief …
        long_s: … until it is above this, in seconds.
    """

    def __init__(self, brief_s: float, long_s: float) -> None:
        """Begin without any: they are not brief."""
        self._brief_s, self._long_s = brief_s, long_s
        self._mean_s: float | None = None
        self.are_brief = False

    def note(self, duration_s: float) -> None:
        """Take note of one."""
        mean_s = self._mean_s
        self._mean_s = duration_s if mean_s is None else _MEMORY * mean_s + (1 - _MEMORY) * duration_s
        self.are_brief = self._mean_s < (self._long_s if self.are_brief else self._brief_s)
