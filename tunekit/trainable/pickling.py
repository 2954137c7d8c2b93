"""Finds out before any trial starts whether a trainable can be sent to another process, and if not, why."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import cloudpickle

from tunekit.config.problems import shorten
from tunekit.errors import TrainableError
from tunekit.trainable.bound import as_bound, bind
from tunekit.trainable.description import describe


class _Nowhere:
    """A file that keeps nothing: what is asked is whether it can be pickled, not the bytes."""

    def write(self, data: bytes) -> int:
        return len(data)


def check_picklable(trainable: Any) -> bytes:
    """Return the trainable without its parameters as a pickle.

    Raises:
        TrainableError: It, or one of its parameters, cannot be pickled; names the variable to blame.
    """
    bound = as_bound(trainable)
    for name, value in bound.parameters.items():
        if problem := _problem(value):
            raise _error(describe(trainable).name, f"the parameter {name!r}", value, problem)
    try:
        return cloudpickle.dumps(bind(trainable, {}))  # type: ignore[no-any-return]
    except Exception as error:
        where, value = _culprit(bound.target)
        raise _error(describe(trainable).name, where, value, _text(error)) from error


def _error(name: str, where: str, value: Any, problem: str) -> TrainableError:
    blamed = f": {where} is {shorten(value)} ({type(value).__qualname__})" if where else ""
    return TrainableError(
        f"{name} cannot be sent to a worker{blamed}: {problem}",
        hint="create such objects inside the function (or in setup), from plain values in the config",
        blamed=where,
    )


def _problem(value: Any) -> str:
    """Return why ``value`` cannot be pickled, without a copy of large buffers."""
    try:
        cloudpickle.Pickler(_Nowhere(), protocol=5, buffer_callback=lambda _: None).dump(value)
    except Exception as error:  # noqa: BLE001 - reduce methods may raise anything
        return _text(error)
    return ""


def _text(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _culprit(target: Any) -> tuple[str, Any]:
    """Return what in ``target`` cannot be pickled, as words and as the value; empty words if it does not show."""
    for where, value in _parts(target):
        if _problem(value):
            return where, value
    return "", None


def _parts(target: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(target, partial):
        yield from ((f"its argument {value!r}", value) for value in target.args)
        yield from ((f"its argument {name!r}", value) for name, value in target.keywords.items())
        yield from _parts(target.func)
    elif inspect.ismethod(target):
        yield "the object that it is a method of", target.__self__
    elif inspect.isfunction(target):
        yield from _parts_of_function(target)
    elif isinstance(target, type):
        for name, value in vars(target).items():
            function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            if inspect.isfunction(function):
                yield from ((f"{where} of its method {name}", part) for where, part in _parts_of_function(function))
            elif not name.startswith("__"):
                yield f"its attribute {name!r}", value
    else:
        yield from ((f"its attribute {name!r}", value) for name, value in getattr(target, "__dict__", {}).items())


def _parts_of_function(function: Any) -> Iterator[tuple[str, Any]]:
    try:
        found = inspect.getclosurevars(function)
    except ValueError:
        return  # A cell that is not filled yet.
    yield from ((f"the variable {name!r}", value) for name, value in found.nonlocals.items())
    yield from ((f"the global {name!r}", value) for name, value in found.globals.items())
    for value in function.__defaults__ or ():
        yield "a default argument", value
