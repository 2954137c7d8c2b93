"""The machines of a simulated cluster: attempts are placed on them, and they go, with notice or without.

What happens to a machine happens to all attempts on it at once: they are lost in the same instant, or given notice in
the same instant and taken away at one deadline. In the place of a machine that has gone comes another one, of another
name, some time later. A notice may be taken back, and one may be of a machine that stays.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from tunekit.testing.sim_world import Timeline
from tunekit.types import LossCause, TrialId


class Tenant(Protocol):
    """An attempt, as far as its machine is concerned."""

    trial: TrialId
    attempt: int

    @property
    def is_over(self) -> bool:
        """Whether it will do nothing more."""
        ...

    def warn(self, *, ends: bool, saves: bool) -> None:
        """Hear that the machine is to go, or that it may be."""
        ...

    def lose(self, cause: LossCause) -> None:
        """Be gone, and be missed."""
        ...


class Placing(NamedTuple):
    """Where an attempt was placed, and where else it might have been."""

    trial: TrialId
    attempt: int
    node: str
    others: frozenset[str]
    """The other machines that were there and not about to go."""


class SimNodes:
    """All machines.

    Args:
        count: How many there are, while none is gone.
        rng: Draws what happens.
        timeline: Virtual time.
    """

    def __init__(self, count: int, rng: random.Random, timeline: Timeline) -> None:
        """Have them all there."""
        self.placed: list[Placing] = []
        """Every attempt that was ever placed."""
        self._rng = rng
        self._timeline = timeline
        self._tenants: dict[str, list[Tenant]] = {}
        """By the name of the machine, of those that are there."""
        self._leaving: set[str] = set()
        self._num_named = 0
        for _ in range(count):
            self._arrive()

    def place(self, tenant: Tenant, avoid: Sequence[str]) -> str:
        """Find a machine for an attempt; empty if there is none now. One that it is to avoid is better than none."""
        there = [node for node in self._tenants if node not in self._leaving]
        if not there:
            return ""
        node = self._rng.choice([node for node in there if node not in avoid] or there)
        self._tenants[node].append(tenant)
        self.placed.append(Placing(tenant.trial, tenant.attempt, node, frozenset(there) - {node}))
        return node

    def strike(self) -> None:
        """Let something happen to one machine."""
        there = [node for node in self._tenants if node not in self._leaving]
        if there:
            node = self._rng.choice(there)
            self._rng.choice(self._happenings())(node)

    def _happenings(self) -> list[Callable[[str], None]]:
        return [self._vanish, self._is_announced, self._is_announced, self._is_taken_back, self._may_go]

    def _vanish(self, node: str) -> None:
        """Be gone, without a word."""
        self._take_away(node, LossCause.NODE_LOST)

    def _is_announced(self, node: str) -> None:
        """Be gone at a deadline, or a bit before: to all who are still on it then that is a preemption."""
        window_s = 0.5 + 4.0 * self._rng.random()
        self._leaving.add(node)
        self._timeline.after(window_s * self._rng.choice((0.5, 1.0, 1.0)), self._take_away, node, LossCause.PREEMPTED)
        self._warn(node, ends=True)

    def _is_taken_back(self, node: str) -> None:
        """Be announced, and stay all the same. Who has been told has been told."""
        self._leaving.add(node)
        self._timeline.after(3.0 * self._rng.random(), self._leaving.discard, node)
        self._warn(node, ends=True)

    def _may_go(self, node: str) -> None:
        """Be thought likely to go, and stay: what runs there is saved once, and goes on."""
        self._warn(node, ends=False)

    def _warn(self, node: str, *, ends: bool) -> None:
        """Tell all who are on a machine; if it ends, those whose saves would not fit are not asked for them."""
        for tenant in self._living(node):
            tenant.warn(ends=ends, saves=self._rng.random() < 0.8)  # noqa: PLR2004 - most do

    def _take_away(self, node: str, cause: LossCause) -> None:
        for tenant in self._living(node):
            tenant.lose(cause)
        self._tenants.pop(node, None)
        self._leaving.discard(node)
        self._timeline.after(6.0 * self._rng.random(), self._arrive)

    def _living(self, node: str) -> list[Tenant]:
        return [tenant for tenant in self._tenants.get(node, ()) if not tenant.is_over]

    def _arrive(self) -> None:
        self._tenants[f"node-{self._num_named}"] = []
        self._num_named += 1


def is_bad(node: str) -> bool:
    """Return whether a machine is one of the bad ones: each second."""
    return node.endswith(tuple("02468"))
