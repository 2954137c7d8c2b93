"""The tree in the docstring is the real one, and every error crosses process borders whole."""

from __future__ import annotations

import builtins
import copy
import pickle
import re
from typing import NamedTuple

import cloudpickle
import pytest

from tunekit import errors
from tunekit.errors import ConfigError, ConfigTypeError, TunekitError

LINE = re.compile(r"^ {4}(?P<bars>[│├└─ ]*)(?P<name>\w+)(?: \((?P<builtin>\w+)\))?")
CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, TunekitError)]


class Drawn(NamedTuple):
    name: str
    parent: str
    builtin: str


def drawn_tree() -> list[Drawn]:
    """Return the tree as the docstring draws it."""
    above: list[str] = []
    found: list[Drawn] = []
    for line in (errors.__doc__ or "").splitlines():
        match = LINE.match(line)
        if match:
            depth = len(match["bars"]) // 4
            above[depth:] = [match["name"]]
            found.append(Drawn(match["name"], above[depth - 1] if depth else "", match["builtin"] or ""))
    return found


def real_tree() -> set[Drawn]:
    """Return the tree as Python sees it."""
    found = set()
    for cls in CLASSES:
        ours = [base.__name__ for base in cls.__bases__ if issubclass(base, TunekitError)]
        others = [base.__name__ for base in cls.__bases__ if not issubclass(base, TunekitError)]
        builtin = "" if cls is TunekitError else "".join(others)
        found.add(Drawn(cls.__name__, "".join(ours), builtin))
    return found


def test_the_drawn_tree_is_the_real_one() -> None:
    assert set(drawn_tree()) == real_tree()
    assert len(drawn_tree()) == len(CLASSES) > 20


@pytest.mark.parametrize("drawn", drawn_tree(), ids=lambda drawn: drawn.name)
def test_callers_can_catch_the_drawn_builtin(drawn: Drawn) -> None:
    if drawn.builtin:
        with pytest.raises(getattr(builtins, drawn.builtin)):
            raise getattr(errors, drawn.name)("something happened")


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "copied", [lambda e: pickle.loads(pickle.dumps(e)), lambda e: cloudpickle.loads(cloudpickle.dumps(e)), copy.copy]
)
def test_errors_keep_everything_when_copied(cls: type[TunekitError], copied: object) -> None:
    error = cls("what happened: got 3", hint="do this", path="a/b", got=[3])
    again = copied(error)  # type: ignore[operator]  # one of the lambdas
    assert type(again) is cls
    assert str(again) == str(error) == "what happened: got 3\n\nhint: do this"
    assert (again.message, again.hint) == (error.message, "do this")
    assert (vars(again)["path"], vars(again)["got"]) == ("a/b", [3])
    assert again.fields == {"path": "a/b", "got": [3]}


def test_without_a_hint_the_message_stands_alone() -> None:
    assert str(TunekitError("it broke")) == "it broke"


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_documented(cls: type[TunekitError]) -> None:
    assert cls.__doc__


def test_collect_counts_and_keeps_the_problems() -> None:
    one, two = ConfigError.collect("X", ["a: bad"]), ConfigTypeError.collect("X", ["a: bad", "b: bad"], hint="fix")
    assert str(one) == "X has 1 problem\n  a: bad"
    assert str(two) == "X has 2 problems\n  a: bad\n  b: bad\n\nhint: fix"
    assert isinstance(two, ConfigTypeError)
    assert pickle.loads(pickle.dumps(two)).problems == ["a: bad", "b: bad"]
