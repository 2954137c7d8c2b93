"""Puts a probe beside user code without standing in its way.

A class keeps its identity: its methods are replaced in place, in a process that is there for nothing else. A function
finds a session that passes everything on to its own.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tunekit import session
from tunekit.session import Saver
from tunekit.trainable import SHOULD_CHECKPOINT, BoundTrainable, Trainable
from tunekit.validation.content import digest_of, leaves
from tunekit.validation.jobs import Change, State
from tunekit.validation.probe import Probe

METHODS = ("setup", "step", "save_checkpoint", "load_checkpoint", "reset_config", "cleanup")
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
