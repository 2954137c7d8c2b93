"""What it takes to show that the simulator can fail: a wrong turn put in place, and the first seed that notices it.

A *mutant* is a small wrong turn that a refactoring could take. It is put in place by patching, in tests only; the
production code has no switches for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from tunekit.core import lifecycle
from tunekit.testing.simulator import Simulation


class Patch(Protocol):
    """What is needed of ``pytest.MonkeyPatch``."""

    def setattr(self, target: Any, name: Any, value: Any = ...) -> None:
        """Replace an attribute until the test ends."""
        ...

    def setitem(self, dic: Any, name: Any, value: Any) -> None:
        """Replace an item until the test ends."""
        ...


Mutant: TypeAlias = Callable[[Any], None]


def call_instead(patch: Patch, event: type, handler: lifecycle.Handler) -> None:
    """Have the table of transitions call another handler for an event."""
    for handlers in lifecycle.TRANSITIONS.values():
        if event in handlers:
            patch.setitem(handlers, event, handler)


def first_caught(max_seeds: int) -> tuple[int, Exception] | None:
    """Return the first seed that breaks a promise, and what was noticed."""
    for seed in range(max_seeds):
        try:
            Simulation(seed).run()
        except Exception as error:  # noqa: BLE001 - a mutant may break in any way
            return seed, error
    return None
