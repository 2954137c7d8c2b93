"""Watches user code at work without standing in its way: which method runs, what it returns, what it touches.

A class keeps its identity: its methods are replaced in place, in a process that is there for nothing else. A function
finds a session that passes everything on to its own.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle

from tunekit import session
from tunekit.config.problems import shorten
from tunekit.runtime.failure import error_info
from tunekit.session import Saver, TrialStopped
from tunekit.trainable import SHOULD_CHECKPOINT, BoundTrainable, Trainable
from tunekit.validation import generators
from tunekit.validation.content import digest_of, leaves
from tunekit.validation.jobs import Change, Look, Outcome, Run, State, Trouble

METHODS = ("setup", "step", "save_checkpoint", "load_checkpoint", "reset_config", "cleanup")
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_OWN = frozenset({"config", "_iteration", "_trial_name", "_experiment_name", "_logdir", "_resources", "_parameters"})
"""Attributes that tunekit gives an instance."""


class Probe:
    """What is seen of one run.

    Args:
        run: What is to be done.
        outcome: Where it is written down.
        folder: The experiment's folder.
        roots: Folders of earlier runs, where nothing is left to be found.
    """

    def __init__(self, run: Run, outcome: Outcome, folder: str, roots: list[str]) -> None:
        """Begin with nothing seen."""
        self.run = run
        self.outcome = outcome
        self.iteration = run.resume_from or 0
        self._folder = folder
        self._roots = roots
        self._inside: list[str] = []
        self._raised: tuple[str, BaseException] | None = None
        self._holder: Any = None
        self._handed_in: tuple[int, dict[Any, Any], dict[Any, Any]] | None = None

    @contextmanager
    def inside(self, method: str) -> Iterator[None]:
        """Note that user code is in ``method``, and whether it raises."""
        self._inside.append(method)
        try:
            yield
        except TrialStopped:
            raise
        except BaseException as error:
            if self._raised is None or self._raised[1] is not error:
                self._raised = method, error
            if method == "cleanup":
                self.outcome.cleanup = self._trouble(error)
            raise
        finally:
            self._inside.pop()

    def method_of(self, error_type: str) -> str:
        """Return the method that an exception of this type came from; empty if from none."""
        if self._raised is None or error_info(self._raised[1]).type != error_type:
            return ""
        return self._raised[0]

    # -- what methods do -----------------------------------------------------------------------------------------------

    def called(self, method: str, holder: Any) -> None:
        """Note whose method is about to run."""
        self._holder = holder
        if method == "load_checkpoint" and self.run.watch is not None:
            self.outcome.looks["unloaded"] = self._look()

    def returned(self, method: str, value: Any) -> None:
        """Note what a method has returned."""
        if method == "step" and not isinstance(value, Mapping):
            self.outcome.not_a_dict = f"{shorten(value)} ({type(value).__qualname__})"
        elif method == "save_checkpoint":
            self._saved(value)
        elif method == "load_checkpoint":
            self.loaded()

    def loaded(self) -> None:
        """Look at what a checkpoint left behind, once it is loaded."""
        self.outcome.is_opened = True
        if self.run.put_back:
            generators.put_back(self.run.put_back)
        if self.run.watch is not None:
            self.outcome.looks["watched"] = self._look()

    def row(self, iteration: int) -> None:
        """Look around at the end of an iteration, before anything is saved."""
        self.iteration = iteration
        if self.run.watch is None:
            return
        if self.run.resume_from is None and iteration == self.run.watch:
            self.outcome.looks["watched"] = self._look()
        elif iteration == self.run.iterations:
            self.outcome.looks["last"] = Look(generators.read(), {})

    def hold(self, holder: Any) -> None:
        """Note which object has the state."""
        self._holder = holder

    def is_wanted(self) -> bool:
        """Return whether a function is to save at the row that it reports now."""
        return self.run.saves or self.iteration + 1 >= self.run.iterations

    def check_handed_in(self) -> None:
        """Compare the dict that was saved last with what it was then; only the dict itself, not what is in it.

        What is in it is copied while the trial waits, so that the arrays of a model's own state may be given.
        """
        if self._handed_in is None or self.outcome.mutated is not None:
            return
        iteration, data, before = self._handed_in
        for key in [*before, *(key for key in data if key not in before)]:
            old, new = before.get(key, _NOTHING), data.get(key, _NOTHING)
            if not _same(old, new):
                self.outcome.mutated = Change(iteration, str(key), _shown(old), _shown(new))
                return

    # -- what a process does -------------------------------------------------------------------------------------------

    def opened(self, arguments: tuple[Any, ...]) -> None:
        """Note that a file is opened: one beside the checkpoint, or one of an earlier run."""
        method = self._inside[-1] if self._inside else ""
        name, mode, flags = (*arguments, None, None, None)[:3]
        if method not in {"save_checkpoint", "load_checkpoint", "setup"} or not isinstance(name, str | bytes | Path):
            return
        path = os.path.abspath(os.fsdecode(name))  # noqa: PTH100 - a hook that must not open anything itself
        if any(_is_in(path, root) for root in self._roots) and not _is_in(path, self._folder):
            self.outcome.read_before.append(path)
        elif method == "save_checkpoint" and _writes(mode, flags) and not _is_harmless(path, self._folder):
            self.outcome.written_outside.append(path)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _saved(self, value: Any) -> None:
        self.check_handed_in()
        self._handed_in = None
        outcome = self.outcome
        if isinstance(value, dict):
            outcome.returned = "dict"
            self._handed_in = self.iteration, value, dict(value)
            outcome.unpicklable = next((str(key) for key, item in value.items() if not _is_picklable(item)), None)
        elif value is None or isinstance(value, str | Path):
            outcome.returned = "None" if value is None else f"path {value}"
        else:
            outcome.returned = f"{shorten(value)} ({type(value).__qualname__})"

    def _look(self) -> Look:
        return Look(generators.read(), _attributes(self._holder))

    def _trouble(self, error: BaseException) -> Trouble:
        info = error_info(error)
        return Trouble("cleanup", self.iteration, info.type, info.message, info.traceback, info.hint)


_NOTHING = object()
_watching: list[Probe] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open":
        _watching[-1].opened(arguments)


@functools.cache
def _install_hook() -> None:
    """Watch files from now on; a hook can never be taken out again."""
    sys.addaudithook(_hook)


@contextmanager
def watching(probe: Probe, bound: BoundTrainable) -> Iterator[BoundTrainable]:
    """Give the trainable that ``probe`` sees at work."""
    _install_hook()
    _watching.append(probe)
    try:
        if isinstance(bound.target, type):
            before = _of_class(bound.target)
            with _patched(bound.target, probe):
                yield bound
            probe.outcome.shared = _changes(before, _of_class(bound.target), probe.iteration)
        else:
            yield replace(bound, target=_watched_function(bound.target, probe))
    finally:
        _watching.pop()
    probe.check_handed_in()


# -- classes -----------------------------------------------------------------------------------------------------------


@contextmanager
def _patched(cls: type, probe: Probe) -> Iterator[None]:
    own = {name: vars(cls)[name] for name in METHODS if name in vars(cls)}
    patched = []
    for name in METHODS:
        original = getattr(cls, name)
        if inspect.isfunction(original) and original is not getattr(Trainable, name):
            setattr(cls, name, _watched_method(name, original, probe))
            patched.append(name)
    try:
        yield
    finally:
        for name in patched:
            if name in own:
                setattr(cls, name, own[name])
            else:
                delattr(cls, name)


def _watched_method(name: str, original: Callable[..., Any], probe: Probe) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        with probe.inside(name):
            probe.called(name, self)
            value = original(self, *args, **kwargs)
        probe.returned(name, value)
        return value

    return method


def _of_class(cls: type) -> dict[str, State]:
    """Return what the attributes of a class and its bases hold, methods left out."""
    found = {}
    for base in cls.__mro__:
        if base in {Trainable, object}:
            continue
        for name, value in vars(base).items():
            if not name.startswith("__") and not callable(value) and not hasattr(value, "__get__"):
                found[f"{base.__qualname__}.{name}"] = leaves(value)
    return found


def _changes(before: dict[str, State], after: dict[str, State], iteration: int) -> list[Change]:
    return [
        Change(iteration, name, _state_shown(before.get(name)), _state_shown(after.get(name)))
        for name in {**before, **after}
        if name not in before or name not in after or digest_of(before[name]) != digest_of(after[name])
    ]


def _state_shown(state: State | None) -> str:
    if state is None:
        return "nothing"
    shown = [leaf.shown if not path else f"{path} {leaf.shown}" for path, leaf in state.items() if path[:4] != "len("]
    return ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")  # noqa: PLR2004 - enough to recognise it


# -- functions ---------------------------------------------------------------------------------------------------------


def _watched_function(function: Callable[..., Any], probe: Probe) -> Callable[..., Any]:
    def watched(config: dict[str, Any], **parameters: Any) -> Any:
        inner = session._active.session  # noqa: SLF001 - nobody else stands between a trainable and its session
        if inner is None:
            return function(config, **parameters)
        watched_session = WatchedSession(inner, probe)
        with session.activate(watched_session), probe.inside("the function"):
            value = function(config, **parameters)
        return _resumed(value, watched_session, probe) if inspect.isgenerator(value) else value

    return watched


def _resumed(generator: Any, watched_session: WatchedSession, probe: Probe) -> Any:
    with session.activate(watched_session), probe.inside("the function"):
        return (yield from generator)


class WatchedSession:
    """A session that asks for the checkpoints that a validation needs, and passes everything on."""

    def __init__(self, inner: session.Session, probe: Probe) -> None:
        """Stand before ``inner``."""
        self._inner = inner
        self._probe = probe
        self._saver: _WatchedSaver | None = None

    def report(self, metrics: Any, checkpoint: Any) -> None:
        """Report, and ask for a checkpoint where one is wanted."""
        if checkpoint is not None:
            self._probe.outcome.has_saver = True
        if isinstance(metrics, Mapping) and self._probe.is_wanted():
            metrics = {**metrics, SHOULD_CHECKPOINT: True}
        self._inner.report(metrics, self._watched(checkpoint))

    def get_checkpoint(self) -> Any:
        """Return the checkpoint, and note that it was asked for."""
        checkpoint = self._inner.get_checkpoint()
        if checkpoint is not None:
            self._probe.loaded()
        return checkpoint

    def restore(self, saver: Any) -> bool:
        """Restore through a saver that is seen at work."""
        return self._inner.restore(self._watched(saver))

    def context(self) -> session.Context:
        """Return the context."""
        return self._inner.context()

    def interrupt(self, trial: int, attempt: int) -> None:
        """Pass it on."""
        self._inner.interrupt(trial, attempt)

    def _watched(self, saver: Any) -> Any:
        if isinstance(saver, type) or not isinstance(saver, Saver):
            return saver
        self._probe.hold(saver)
        if self._saver is None or self._saver.saver is not saver:
            self._saver = _WatchedSaver(saver, self._probe)
        return self._saver


class _WatchedSaver:
    """A saver whose two methods are seen at work."""

    def __init__(self, saver: Saver, probe: Probe) -> None:
        self.saver = saver
        self._probe = probe

    def save_checkpoint(self, path: str) -> Any:
        with self._probe.inside("save_checkpoint"):
            self._probe.called("save_checkpoint", self.saver)
            value = self.saver.save_checkpoint(path)
        self._probe.returned("save_checkpoint", value)
        return value

    def load_checkpoint(self, checkpoint: Any) -> Any:
        with self._probe.inside("load_checkpoint"):
            self._probe.called("load_checkpoint", self.saver)
            value = self.saver.load_checkpoint(checkpoint)
        self._probe.returned("load_checkpoint", value)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.saver, name)


# -- values ------------------------------------------------------------------------------------------------------------


def _attributes(holder: Any) -> State:
    found: State = {}
    for name, value in list(getattr(holder, "__dict__", {}).items()):
        if name not in _OWN:
            try:
                found |= leaves(value, name=name)
            except Exception:  # noqa: BLE001, S112 - it only serves to explain, and need not be complete
                continue
    return found


def _same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    is_plain = type(old) is type(new) and isinstance(old, _PLAIN)
    return is_plain and (old == new or (old != old and new != new))  # noqa: PLR0124 - NaN


def _shown(value: Any) -> str:
    return "nothing" if value is _NOTHING else shorten(value)


def _is_picklable(value: Any) -> bool:
    if isinstance(value, _PLAIN):
        return True
    try:
        cloudpickle.Pickler(_Nowhere(), protocol=5, buffer_callback=lambda _: None).dump(value)
    except Exception:  # noqa: BLE001 - reduce methods may raise anything
        return False
    return True


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _is_harmless(path: str, folder: str) -> bool:
    return _is_in(path, folder) or path.startswith(("/dev/", "/proc/")) or "__pycache__" in path


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
