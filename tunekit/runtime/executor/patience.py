"""Says what trials wait for when nothing happens: a cluster that is full of something else looks like a hang."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

from tunekit.printable import printable
from tunekit.runtime.executor.avoiding import Avoidance
from tunekit.runtime.line.shapes import Shape, describe_amounts

PATIENCE_S = 10.0
"""Seconds without a worker before something is said …"""
AGAIN_S = 60.0
"""… and before it is said again."""


class Patience:
    """Knows since when trials wait without any worker for them.

    Args:
        avoidance: Says whether a trial has kept away from a node in vain.
    """

    def __init__(self, avoidance: Avoidance | None = None) -> None:
        """Begin with nobody waiting."""
        self._avoidance = avoidance
        self._since: dict[Shape, float] = {}
        self._said_at = -AGAIN_S
        self._has_told = False

    def complain(
        self,
        starving: Mapping[Shape, int],
        now: float,
        free: Callable[[], Mapping[str, float]],
        passed_over: Mapping[str, str] | None = None,
    ) -> str:
        """Return a line to print, an empty one if there is no need.

        Args:
            starving: How many trials wait, by what one needs.
            now: Seconds, monotone.
            free: Asks for what the cluster has free now.
            passed_over: Nodes whose free places are not taken, and why.
        """
        self._since = {shape: self._since.get(shape, now) for shape in starving}
        late = {shape: now - since for shape, since in self._since.items() if now - since >= PATIENCE_S}
        if not late or now - self._said_at < AGAIN_S:
            return self._admit()
        self._said_at = now
        wants = ", ".join(f"{starving[shape]} for {describe_amounts(dict(shape))}" for shape in late)
        left = {
            name: amount for name, amount in free().items() if not name.startswith("node:") and "memory" not in name
        }
        return (
            f"tunekit: trials have waited {max(late.values()):.0f} s without a worker: {wants}; "
            f"free in the cluster: {describe_amounts(left)}"
            + "".join(f"; passed over: node {node} ({why})" for node, why in (passed_over or {}).items())
            + "\n"
        )

    def _admit(self) -> str:
        """Return a line to print, once, if a trial had to run on a node that it was to avoid."""
        if self._has_told or self._avoidance is None or not self._avoidance.was_in_vain:
            return ""
        self._has_told = True
        return "tunekit: a trial was to avoid a node, but no other one has room for it, so it may run there\n"


def say(text: str) -> None:
    """Print something for the user. A terminal that has gone takes no sweep with it."""
    if text:
        with suppress(OSError, ValueError):
            sys.stderr.write(printable(text))
