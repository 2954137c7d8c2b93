"""What a trainable is, and whether it can be used at all: all that can be known without running it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from tunekit.errors import TrainableError
from tunekit.store.layout import safe_trainable_name
from tunekit.trainable.base import Trainable
from tunekit.trainable.bound import BoundTrainable, as_bound
from tunekit.trainable.resources import DEFAULT, Resources, ResourcesOf


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainableInfo:
    """What there is to know about a trainable."""

    kind: Literal["function", "class"]
    name: str
    """Short, and fit to be a folder."""
    qualified_name: str
    """What makes it the same trainable in another run of the script: without its module, which is ``__main__`` or not
    depending on how the script is run."""
    resources: Resources | ResourcesOf
    """What one trial occupies, or a function of the config that says so."""
    can_save: bool
    """Whether it is a class with ``save_checkpoint`` and ``load_checkpoint``. A function shows it only when it runs."""


def describe(trainable: Any) -> TrainableInfo:
    """Return what ``trainable`` is.

    Raises:
        TrainableError: It is neither a function of one argument nor a usable subclass of ``Trainable``.
    """
    bound = as_bound(trainable)
    if isinstance(bound.target, type):
        _check_class(bound)
        kind: Literal["function", "class"] = "class"
    else:
        _check_function(bound)
        kind = "function"
    short, qualified = _names(bound.target)
    return TrainableInfo(
        kind=kind,
        name=short,
        qualified_name=qualified,
        resources=DEFAULT if bound.resources is None else bound.resources,
        can_save=kind == "class" and _overrides(bound.target, "save_checkpoint"),
    )


def _check_class(bound: BoundTrainable) -> None:
    cls = bound.target
    if not issubclass(cls, Trainable):
        raise TrainableError(
            f"the class {cls.__qualname__} is not a trainable: it must derive from tunekit.Trainable",
            hint=f"write class {cls.__qualname__}(tunekit.Trainable), or pass a function of the config",
        )
    problems = []
    if abstract := sorted(getattr(cls, "__abstractmethods__", ())):
        problems.append(f"it is abstract: {', '.join(abstract)}")
    if not _overrides(cls, "step"):
        problems.append("it does not define step(self), which returns a dict of metrics")
    saves, loads = _overrides(cls, "save_checkpoint"), _overrides(cls, "load_checkpoint")
    if saves != loads:
        have, lack = ("save_checkpoint", "load_checkpoint") if saves else ("load_checkpoint", "save_checkpoint")
        problems.append(f"it defines {have} but not {lack}: both are needed to restore a trial")
    if problem := _call_problem(cls.setup, bound, (None, None)):
        problems.append(f"setup cannot be called as setup(self, config{_shown(bound)}): {problem}")
    if problems:
        raise TrainableError(f"the class {cls.__qualname__} cannot be used: " + "; ".join(problems))


def _overrides(cls: type, method: str) -> bool:
    return getattr(cls, method) is not getattr(Trainable, method)


def _check_function(bound: BoundTrainable) -> None:
    function = bound.target
    if isinstance(function, Trainable):
        name = type(function).__qualname__
        raise TrainableError(f"got an instance of {name}, but the class itself is needed", hint=f"pass {name}")
    if not callable(function):
        raise TrainableError(
            f"got {type(function).__qualname__}, which is no trainable",
            hint="pass a function of the config, or a subclass of tunekit.Trainable",
        )
    plain = _plain(function)
    if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
        raise TrainableError(
            f"{_names(function)[0]} is an async function, which cannot be a trainable",
            hint="write a plain function that calls asyncio.run(…)",
        )
    if problem := _call_problem(function, bound, (None,)):
        name = _names(function)[0]
        raise TrainableError(
            f"{name} cannot be called as {name}(config{_shown(bound)}): {problem}",
            hint="a trainable takes the config as its only argument; give others with tunekit.with_parameters",
        )


def _call_problem(function: Any, bound: BoundTrainable, arguments: tuple[None, ...]) -> str:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return ""  # Some builtins do not tell; whether they fit shows when they are called.
    try:
        signature.bind(*arguments, **bound.parameters)
    except TypeError as error:
        return str(error)
    return ""


def _shown(bound: BoundTrainable) -> str:
    return "".join(f", {name}=…" for name in bound.parameters)


def _plain(function: Any) -> Any:
    """Return the function in the innermost of partials, or behind ``__call__``."""
    while isinstance(function, partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def _names(target: Any) -> tuple[str, str]:
    while isinstance(target, partial):
        target = target.func
    if not hasattr(target, "__name__"):
        target = type(target)
    name = target.__name__
    return safe_trainable_name(name), getattr(target, "__qualname__", name)
