"""The global generators of a process, lent for one call: seeded before it, and afterwards as they were.

A function in a search space may draw from ``random``, ``numpy.random`` or ``torch``. What it draws must depend on the
seed and the trial alone, and the trial that runs in the same process must not notice. Generators have no owner, so
two threads that lend them would mix their numbers: calls take turns.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

import xxhash

from tunekit.runtime.attempt.isolation import is_complete, prepare_when_imported
from tunekit.runtime.attempt.turns import TURNS

_CALL: Final = threading.RLock()
"""Held by the call to which the generators are lent; a call may lead to another."""


@contextmanager
def seeded(chance: float) -> Iterator[None]:
    """Lend the generators, those on the CPU, to what is called inside.

    A library that is first imported inside is seeded as soon as it is there.

    Args:
        chance: A number in [0, 1) that decides what is drawn.
    """
    seed = xxhash.xxh3_64_intdigest(repr(chance).encode())
    with _CALL, ExitStack() as undo:
        undo.callback(random.setstate, random.getstate())
        random.seed(seed)
        for name, lend in _LIBRARIES.items():
            if (module := sys.modules.get(name)) is not None and is_complete(module):
                lend(seed, undo, module)
            else:
                prepare_when_imported(name, partial(lend, seed, undo), undo)
        yield


@contextmanager
def seeded_between_attempts(chance: float) -> Iterator[None]:
    """Do so on a thread on which no driver runs: wait until no trial in this process draws from the generators."""
    with TURNS.between(), seeded(chance):
        yield


def _lend_numpy(seed: int, undo: ExitStack, module: Any) -> None:
    undo.callback(module.set_state, module.get_state(legacy=False))
    module.seed(seed & 0xFFFFFFFF)


def _lend_torch(seed: int, undo: ExitStack, torch: Any) -> None:
    generator = torch.default_generator
    undo.callback(generator.set_state, generator.get_state())
    generator.manual_seed(seed)


_LIBRARIES: Final[dict[str, Callable[[int, ExitStack, Any], None]]] = {
    "numpy.random": _lend_numpy,
    "torch": _lend_torch,
}
