"""Machines that joined a running sweep and cannot run its trials: their disk is not mounted yet, or their image is old.

What is wrong on a machine from the start is wrong with the setup, and whoever started the sweep is there to be told: it
ends. Later, when trials have run elsewhere, one bad machine among those that come and go must not end what the others
do. It is passed over for a while, then tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

from tunekit.runtime.executor.patience import say

PASS_OVER_S: Final = 60.0
"""So long no worker is started on such a machine."""


class Unfit:
    """Knows which machines are passed over.

    Args:
        clock: Seconds, monotone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin before the first look at the machines."""
        self._clock = clock
        self._at_start: frozenset[str] | None = None
        self._has_run = False
        self._until: dict[str, float] = {}
        """When each machine is tried again."""

    def see(self, nodes: Collection[str]) -> None:
        """Take note of the machines that are there now."""
        if self._at_start is None:
            self._at_start = frozenset(nodes)
        self._until = {node: until for node, until in self._until.items() if node in nodes}

    def note_start(self) -> None:
        """A trial has started: what all need is there."""
        self._has_run = True

    def pass_over(self, node: str, why: str) -> bool:
        """Take in that no trial could be loaded on a machine.

        Args:
            node: Its id.
            why: What went wrong there.

        Returns:
            Whether it is passed over; False: nothing says that it is the fault of this machine alone.
        """
        if not self._has_run or self._at_start is None or node in self._at_start:
            return False
        if node not in self._until:
            say(f"tunekit: no trial can be loaded on node {node}, tried again in {PASS_OVER_S:.0f} s: {why}\n")
        self._until[node] = self._clock() + PASS_OVER_S
        return True

    @property
    def nodes(self) -> list[str]:
        """The machines on which no worker is to be started now."""
        now = self._clock()
        return [node for node, until in self._until.items() if now < until]
