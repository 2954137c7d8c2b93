"""What it takes to show that the simulator can fail: a wrong turn put in place, and the first seed that notices it.

A *mutant* is a small wrong turn that a refactoring could take. It is put in place by patching, in tests only; the
production code has no switches for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

from tunekit.core import lifecycle
from tunekit.errors import TunekitError
from tunekit.testing.sim_drawing import draw_options
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


class Mutants(dict[str, Mutant]):
    """Mutants by name; a decorator that enters one more.

    Args:
        changes: Options of all sweeps that are to notice them, of those that are drawn otherwise.
    """

    def __init__(self, **changes: Any) -> None:
        """Begin without any."""
        super().__init__()
        self._changes = changes
        self._shown_by: dict[str, int] = {}

    def __call__(self, make: Mutant) -> Mutant:
        """Enter the function that puts a mutant in place, under its own name."""
        self[make.__name__] = make
        return make

    def shown_by(self, seed: int) -> Callable[[Mutant], Mutant]:
        """Enter a function as above; of a mutant that few seeds notice, one that did so once is tried first."""

        def enter(make: Mutant) -> Mutant:
            self._shown_by[make.__name__] = seed
            return self(make)

        return enter

    def expect_caught(self, name: str, patch: Patch, max_seeds: int = 800) -> Exception:
        """Put a mutant in place, and run one seed after the other until a promise is seen to be broken.

        Returns:
            What the seed raised that noticed it.

        Raises:
            AssertionError: No seed noticed it, it fails for a reason of its own, or nobody is told how to repeat it.
        """
        self[name](patch)
        hint = self._shown_by.get(name)
        caught = first_caught(max_seeds, [] if hint is None else [hint], **self._changes)
        if caught is None:
            raise AssertionError(f"{name}: {max_seeds} seeds did not notice it")
        seed, error = caught
        is_told = any("repeat it with" in note for note in getattr(error, "__notes__", ()))
        if not (isinstance(error, TunekitError) and is_told):
            raise AssertionError(
                f"{name}: seed {seed} saw no broken promise, or nobody is told how to repeat it: {error!r}"
            ) from error
        return error


def call_instead(patch: Patch, event: type, handler: lifecycle.Handler) -> None:
    """Have the table of transitions call another handler for an event."""
    for handlers in lifecycle.TRANSITIONS.values():
        if event in handlers:
            patch.setitem(handlers, event, handler)


def first_caught(max_seeds: int, hints: Sequence[int] = (), **changes: Any) -> tuple[int, Exception] | None:
    """Return the first seed that breaks a promise, and what was noticed.

    Args:
        max_seeds: How many to try.
        hints: Seeds to try before all others.
        changes: Options that are not drawn.
    """
    for seed in [*hints, *range(max_seeds)]:
        options = replace(draw_options(random.Random(seed)), **changes) if changes else None  # noqa: S311
        try:
            Simulation(seed, options).run()
        except Exception as error:  # noqa: BLE001 - a mutant may break in any way
            return seed, error
    return None
