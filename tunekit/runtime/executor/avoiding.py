"""Keeps attempts away from nodes on which their trials have failed, as long as another node would do."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import structs

from tunekit.runtime.line.shapes import Node, Shape, is_held
from tunekit.runtime.line.wire import Assign, AttemptKey

AVOID_S: Final = 60.0
"""So long an attempt waits for another node that has no room; then the one that it avoids is better than none."""


class Avoidance:
    """Knows how long attempts have waited for another node.

    Args:
        clock: Seconds, monotone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody waiting."""
        self._clock = clock
        self._since: dict[AttemptKey, float] = {}
        self.was_in_vain = False
        """Whether an attempt had to be allowed to run on a node that it was to avoid."""

    def heeded(self, assign: Assign, shape: Shape, nodes: Sequence[Node]) -> Assign:
        """Return an attempt that waits; free to run anywhere if no other node could hold it, or has had room for long.

        Args:
            assign: The attempt.
            shape: What it needs.
            nodes: The machines of the cluster.
        """
        if not assign.avoid:
            return assign
        key = (assign.trial, assign.attempt)
        since = self._since.setdefault(key, self._clock())
        is_possible = any(node.id not in assign.avoid and is_held(shape, node.resources) for node in nodes)
        if is_possible and self._clock() - since < AVOID_S:
            return assign
        self.was_in_vain = True
        del self._since[key]
        return structs.replace(assign, avoid=[])

    def take_for(self, node: str, waiting: deque[Assign]) -> Assign | None:
        """Take the first attempt that may run on a node; None: all of them avoid it."""
        for position, assign in enumerate(waiting):
            if node not in assign.avoid:
                del waiting[position]
                self._since.pop((assign.trial, assign.attempt), None)
                return assign
        return None
