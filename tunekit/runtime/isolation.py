"""Keeps the trials of one process apart: what one changes in the process does not reach the next.

Working directory, environment, signal handlers, random generators, and torch's settings that decide the bits of a
result are as they were when a trial ends. Each attempt begins with generators seeded from (seed, trial), so it draws
the same numbers whatever the process has run before. That has one difficulty: a library that the trial itself imports
cannot be seeded beforehand. numpy seeds its global generator from the system when it is imported, and torch starts from
a constant, so a fresh process and a used one would draw differently. A finder at the front of ``sys.meta_path`` seeds
such a library in the moment that its import is complete.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

import xxhash

_SIGNALS: Final = tuple(
    int(number)
    for number in signal.valid_signals()
    if number < 32 and number not in {signal.SIGKILL, signal.SIGSTOP}  # noqa: PLR2004 - real-time ones are from 32
)

_handler_of: Final[Callable[[int], Any]] = getattr(signal, "_signal", signal).getsignal
"""Without the conversion to enums, which takes ten times as long as the rest."""


def trial_seed(seed: int, trial: int) -> int:
    """Return the 64-bit seed of a trial, the same for each of its attempts."""
    return xxhash.xxh3_64_intdigest(repr((seed, trial, "generators")).encode())


@contextmanager
def isolated(seed: int, *, keep_generators: bool = True) -> Iterator[None]:
    """Run one attempt: generators seeded at its start, and the process as it was before at its end.

    Args:
        seed: See ``trial_seed``.
        keep_generators: Whether the states of the generators are put back at the end. In a process that does nothing
            but run trials nobody would draw from them before the next one is seeded.
    """
    with ExitStack() as undo:
        undo.callback(_restore_cwd, _cwd())
        undo.callback(_restore_environment, _environment())
        if threading.current_thread() is threading.main_thread():
            undo.callback(_restore_signals, [_handler_of(number) for number in _SIGNALS])
        generators = undo if keep_generators else None
        if generators:
            generators.callback(random.setstate, random.getstate())
        random.seed(seed)
        for name, prepare in _LIBRARIES.items():
            if (module := sys.modules.get(name)) is not None and _is_complete(module):
                prepare(module, seed, undo, generators)
            else:
                _seed_when_imported(name, partial(_call_back, prepare, seed, undo, generators), undo)
        yield


# -- the process -------------------------------------------------------------------------------------------------------


def _cwd() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - three times as fast, and on the way of every trial
    except OSError:
        return None


def _restore_cwd(cwd: str | None) -> None:
    if cwd is not None and _cwd() != cwd:
        with contextlib.suppress(OSError):
            os.chdir(cwd)


def _environment() -> dict[Any, Any]:
    """Return a copy of the encoded environment, a hundred times as fast as one of the decoded."""
    return dict(os.environ._data)  # type: ignore[attr-defined] # noqa: SLF001 - as above


def _restore_environment(before: dict[Any, Any]) -> None:
    now = _environment()
    if now == before:
        return
    for name in now.keys() - before.keys():
        del os.environ[os.fsdecode(name)]
    for name, value in before.items():
        if now.get(name) != value:
            os.environ[os.fsdecode(name)] = os.fsdecode(value)


def _restore_signals(before: Sequence[Any]) -> None:
    for number, handler in zip(_SIGNALS, before, strict=True):
        # None: the handler was not installed from Python, and cannot be put back from here.
        if handler is not None and _handler_of(number) is not handler:
            signal.signal(number, handler)


# -- libraries ---------------------------------------------------------------------------------------------------------


def _prepare_numpy(module: Any, seed: int, undo: ExitStack, generators: ExitStack | None) -> None:
    del undo
    if generators:
        generators.callback(module.set_state, module.get_state(legacy=False))
    module.seed(seed & 0xFFFFFFFF)


def _prepare_torch(torch: Any, seed: int, undo: ExitStack, generators: ExitStack | None) -> None:
    if generators:
        generators.callback(torch.set_rng_state, torch.get_rng_state())
        if torch.cuda.is_initialized():
            generators.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    undo.callback(_restore_torch, torch, _torch_settings(torch))
    if _has_accelerators(torch):
        torch.manual_seed(seed)
    else:
        # manual_seed also prepares for devices that this build has not, which takes longer than a short trial.
        torch.default_generator.manual_seed(seed)


def _has_accelerators(torch: Any) -> bool:
    versions = (getattr(torch.version, name, None) for name in ("cuda", "hip", "xpu"))
    return any(versions) or bool(torch.backends.mps.is_built())


def _torch_settings(torch: Any) -> tuple[Any, ...]:
    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )


def _restore_torch(torch: Any, before: tuple[Any, ...]) -> None:
    if _torch_settings(torch) == before:
        return
    threads, dtype, grad, deterministic, warn_only, cudnn_deterministic, cudnn_benchmark = before
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.backends.cudnn.deterministic = cudnn_deterministic
    torch.backends.cudnn.benchmark = cudnn_benchmark


_Prepare = Callable[[Any, int, ExitStack, ExitStack | None], None]
"""Given the module, the seed, and where to leave what is to be undone: settings, and states of generators."""

_LIBRARIES: Final[dict[str, _Prepare]] = {"numpy.random": _prepare_numpy, "torch": _prepare_torch}


def _is_complete(module: ModuleType) -> bool:
    """Return whether the import is over; another thread may be in the middle of it."""
    return not getattr(getattr(module, "__spec__", None), "_initializing", False)


def _call_back(prepare: _Prepare, seed: int, undo: ExitStack, generators: ExitStack | None, module: ModuleType) -> None:
    prepare(module, seed, undo, generators)


def _seed_when_imported(name: str, then: Callable[[ModuleType], None], undo: ExitStack) -> None:
    finder = _SeedingFinder(name, then)
    sys.meta_path.insert(0, finder)
    undo.callback(finder.remove)


class _SeedingFinder(MetaPathFinder):
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
                spec.loader = _SeedingLoader(spec.loader, self._then)
                return spec
        return None


class _SeedingLoader(Loader):
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
