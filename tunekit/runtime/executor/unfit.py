"""Machines that joined a running sweep and cannot run its trials: with a disk that is not mounted yet, or an old image.

What is wrong on a machine from the start is wrong with the setup, and whoever started the sweep is there to be told: it
ends. Later, when trials have run elsewhere, one bad machine among those that come and go must not end what the others
do. It is passed over for a while, then tried again with one worker.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tunekit.printable import one_line
from tunekit.runtime.executor.patience import say
from tunekit.runtime.line.shapes import Node, Shape, is_held

PASS_OVER_S: Final = 60.0
"""So long no worker is started on such a machine."""
MAX_FALSE_STARTS: Final = 3
"""Workers in a row that may die there before their first word: the first may have been killed by anybody."""


class Unfit:
    """Knows which machines are passed over.

    Args:
        is_rerun: Whether trials have run before this driver, perhaps before it came to a machine that it finds there.
        clock: Seconds, monotone.
    """

    def __init__(self, *, is_rerun: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin before the first look at the machines."""
        self._clock = clock
        self._is_rerun = is_rerun
        self._at_start: frozenset[str] | None = None
        self._has_run = False
        self._able: set[str] = set()
        """The machines that are large enough for a trial, and that no trial has been turned down on since."""
        self._until: dict[str, float] = {}
        """When each machine is tried again, or was; until a trial has started there."""
        self._why: dict[str, str] = {}
        self._failures: Counter[str] = Counter()

    def see(self, nodes: Sequence[Node], shape: Shape, num_proven: Mapping[str, int]) -> list[Node]:
        """Take note of the machines that are there now, and return those on which workers may be.

        Args:
            nodes: The machines.
            shape: What a worker most likely needs.
            num_proven: How many workers on each run trials, and go on.
        """
        there = {node.id for node in nodes}
        if self._at_start is None:
            self._at_start = frozenset(there)
        for gone in {*self._until, *self._failures} - there:
            self._forget(gone)
        self._able = {node.id for node in nodes if is_held(shape, node.resources)} - self._until.keys()
        seen = [self._seen(node, num_proven.get(node.id, 0)) for node in nodes]
        return [node for node in seen if node.max_workers != 0]

    def _seen(self, node: Node, num_proven: int) -> Node:
        """Return a machine that is no good with those that run there already, and one more once it is tried again."""
        if node.id not in self._until:
            return node
        return Node(node.id, node.resources, num_proven + (node.id not in self.passed_over))

    def note_start(self, node: str, *, proves: bool) -> None:
        """A trial has started on a machine.

        Args:
            node: Its id.
            proves: Whether its worker had to load what a trial needs. One that has run trials before had it all.
        """
        self._has_run = True
        if proves:
            self._forget(node)

    def blame(self, node: str, why: str, *, is_sure: bool) -> bool:
        """Take in that a worker could not run a trial on a machine, and pass it over if that is its fault.

        Args:
            node: Its id.
            why: What went wrong there.
            is_sure: Whether it would go wrong again at once; somebody may have killed a worker that died.

        Returns:
            Whether it is the fault of this machine, and others go on.
        """
        if not self._is_to_blame(node):
            return False
        self._failures[node] += 1
        if is_sure or self._failures[node] >= MAX_FALSE_STARTS:
            self._pass_over(node, one_line(why))
        return True

    def _is_to_blame(self, node: str) -> bool:
        """Return whether it came later than some trial, so that all that is needed was there.

        A machine that this driver found there may have come later, too, if trials have run before; but then another one
        must be left that might do.
        """
        if not node or self._at_start is None:
            return False
        if self._has_run and node not in self._at_start:
            return True
        return self._is_rerun and bool(self._able - {node})

    def _pass_over(self, node: str, why: str) -> None:
        if self._why.get(node) != why:
            say(f"tunekit: node {node} can run no trial, and is tried again in {PASS_OVER_S:.0f} s: {why}\n")
        self._why[node] = why
        self._until[node] = self._clock() + PASS_OVER_S
        self._able.discard(node)

    def _forget(self, node: str) -> None:
        self._until.pop(node, None)
        self._why.pop(node, None)
        self._failures.pop(node, None)

    @property
    def passed_over(self) -> Mapping[str, str]:
        """The machines on which no worker is to be started now, and why."""
        now = self._clock()
        return {node: self._why[node] for node, until in self._until.items() if now < until}
