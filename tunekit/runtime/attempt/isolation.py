"""Keeps the trials of one process apart: what one changes in the process does not reach the next.

What the system and Python keep for a process, random generators, and the settings of decimal, numpy and torch that
decide the bits of a result are as they were when a trial ends. The number of threads is one of them, for a matrix
product over two has other bits than over one: each attempt begins with as many as it has CPUs, wherever it runs. It
also begins with generators seeded from (seed, trial), so it draws the same numbers whatever the process has run before.
That has one difficulty: a library that the trial itself imports cannot be prepared beforehand. numpy seeds its global
generator from the system when it is imported, and torch starts from a constant, so a fresh process and a used one would
draw differently. A finder at the front of ``sys.meta_path`` prepares such a library in the moment that its import is
complete.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, NamedTuple

import xxhash

from tunekit.runtime.attempt import blas_threads, interpreter_state, numeric_settings, process_state, torch_settings
from tunekit.runtime.attempt.turns import TURNS

_THREADS_VARIABLE: Final = "OMP_NUM_THREADS"


def trial_seed(seed: int, trial: int) -> int:
    """Return the 64-bit seed of a trial, the same for each of its attempts."""
    return xxhash.xxh3_64_intdigest(repr((seed, trial, "generators")).encode())


class _Start(NamedTuple):
    """What a library is to be prepared with, and where to leave what is to be undone."""

    seed: int
    num_threads: int
    undo: ExitStack
    generators: ExitStack | None
    """Where the states of generators are left; None: they need not be put back."""


@contextmanager
def isolated(seed: int, *, num_threads: int = 1, keep_generators: bool = True) -> Iterator[None]:
    """Run one attempt: generators seeded at its start, and the process as it was before at its end.

    Args:
        seed: See ``trial_seed``.
        num_threads: How many threads one operation of a library uses, unless the attempt says otherwise.
        keep_generators: Whether the states of the generators are put back at the end. In a process that does nothing
            but run trials nobody would draw from them before the next one is seeded.
    """
    with TURNS.attempt(), ExitStack() as undo:
        interpreter_state.keep(undo)
        process_state.keep(undo)
        numeric_settings.keep_decimal(undo)
        generators = undo if keep_generators else None
        if generators:
            generators.callback(random.setstate, random.getstate())
        random.seed(seed)
        start = _Start(seed, num_threads, undo, generators)
        own_threads = _announce_threads(num_threads)
        for name, prepare in _LIBRARIES.items():
            if (module := sys.modules.get(name)) is not None and is_complete(module):
                prepare(module, start, None)
            else:
                prepare_when_imported(name, partial(_call_back, prepare, start, own_threads), undo)
        yield


# -- libraries ---------------------------------------------------------------------------------------------------------


def _announce_threads(num_threads: int) -> int | None:
    """Tell libraries that are not loaded yet, and child processes. Return how many they would have used; None: unknown.

    As Ray does it for a worker, so that a trial computes the same bits without Ray.
    """
    before = os.environ.get(_THREADS_VARIABLE)
    if before != str(num_threads):
        os.environ[_THREADS_VARIABLE] = str(num_threads)
    if before is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(before) if before.isdecimal() and int(before) else None


def _prepare_numpy(numpy: Any, start: _Start, own_threads: int | None) -> None:
    numeric_settings.keep_numpy(numpy, start.undo)
    for set_threads, before in blas_threads.set_threads(start.num_threads):
        start.undo.callback(set_threads, own_threads or before)


def _prepare_numpy_random(module: Any, start: _Start, own_threads: int | None) -> None:
    del own_threads
    if start.generators:
        start.generators.callback(module.set_state, module.get_state(legacy=False))
    module.seed(start.seed & 0xFFFFFFFF)


def _prepare_torch(torch: Any, start: _Start, own_threads: int | None) -> None:
    """Seed torch and set its threads.

    Args:
        torch: The module.
        start: What the attempt begins with.
        own_threads: How many threads it would have, had it not been imported inside of the attempt; None: it was not.
    """
    if generators := start.generators:
        generators.callback(torch.set_rng_state, torch.get_rng_state())
        if torch.cuda.is_initialized():
            generators.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    before = torch_settings.read(torch)
    start.undo.callback(torch_settings.restore, torch, before._replace(threads=own_threads or before.threads))
    if before.threads != start.num_threads:
        torch.set_num_threads(start.num_threads)
    if _has_accelerators(torch):
        torch.manual_seed(start.seed)
    else:
        # manual_seed also prepares for devices that this build has not, which takes longer than a short trial.
        torch.default_generator.manual_seed(start.seed)


def _has_accelerators(torch: Any) -> bool:
    versions = (getattr(torch.version, name, None) for name in ("cuda", "hip", "xpu"))
    return any(versions) or bool(torch.backends.mps.is_built())


_Prepare = Callable[[Any, _Start, int | None], None]

_LIBRARIES: Final[dict[str, _Prepare]] = {
    "numpy": _prepare_numpy,
    "numpy.random": _prepare_numpy_random,
    "torch": _prepare_torch,
}


def is_complete(module: ModuleType) -> bool:
    """Return whether the import is over; another thread may be in the middle of it."""
    return not getattr(getattr(module, "__spec__", None), "_initializing", False)


def _call_back(prepare: _Prepare, start: _Start, own_threads: int | None, module: ModuleType) -> None:
    prepare(module, start, own_threads)


def prepare_when_imported(name: str, then: Callable[[ModuleType], None], undo: ExitStack) -> None:
    """Do something with a module as soon as its import is complete, unless ``undo`` is unwound before."""
    finder = _PreparingFinder(name, then)
    sys.meta_path.insert(0, finder)
    undo.callback(finder.remove)


class _PreparingFinder(MetaPathFinder):
    """Lets the other finders find one module, and does something with it once it is imported."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def remove(self) -> None:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        self.remove()
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None and spec.loader is not None:
                spec.loader = _PreparingLoader(spec.loader, self._then)
                return spec
        return None


class _PreparingLoader(Loader):
    """The module's own loader, with one more thing to do at the end."""

    def __init__(self, loader: Any, then: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        # From here on the module is as if it had been imported without us.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then(module)
