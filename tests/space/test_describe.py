"""Values of any type as text: the same in every process, and short enough for a table."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.space.describe import fingerprint, is_json, plain, same, shown

SCRIPT = """
import msgspec, functools, math
from tunekit.space.describe import fingerprint
class Thing: pass
def f(): pass
print(msgspec.json.encode(fingerprint([{"b", "a", "c"}, Thing, Thing(), f, functools.partial(f), (1, 2.5), 1j, math.pi,
                                       {"x": frozenset({"p", "q", "r"})}, "y" * 500, b"z"])).decode())
"""


def test_fingerprints_are_equal_in_every_process() -> None:
    def run(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environment, timeout=240
        )
        return done.stdout

    assert run("1") == run("2")
    assert "0x" not in run("1")


class Colour:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Colour({self.name})"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]  # as Python does with __eq__


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        ("x" * 300 + "a", "x" * 300 + "b"),
        (int, str),
        (Colour("red"), Colour("blue")),
        ({1}, {2}),
        ({"a": 1}, {"a": 2}),
    ],
)
def test_fingerprints_tell_values_apart(one: object, other: object) -> None:
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    "value", [Broken(), object(), functools.partial(print), np.arange(3), Colour("x" * 999), math.nan]
)
def test_everything_has_a_fingerprint_and_a_short_text(value: Any) -> None:
    assert msgspec.json.decode(msgspec.json.encode(fingerprint(value))) == fingerprint(value)
    assert isinstance(shown(value), str)
    assert len(shown(value)) <= 60


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def types_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: types_of(item) for key, item in value.items()}
    return [types_of(item) for item in value] if isinstance(value, list) else type(value)


@given(json_values)
def test_what_counts_as_json_survives_it(value: Any) -> None:
    assert is_json(value)
    again = msgspec.json.decode(msgspec.json.encode(value))
    assert again == value
    assert types_of(again) == types_of(value)


@pytest.mark.parametrize(
    "value", [(1,), {1: 2}, math.nan, math.inf, 2**63, {1}, b"x", np.float64(1), [()], type("S", (str,), {})()]
)
def test_what_json_would_change_does_not_count(value: object) -> None:
    assert not is_json(value)


def test_equality_minds_bools_and_survives_arrays() -> None:
    assert same(1, 1.0)
    assert not same(1, True)  # noqa: FBT003 - on purpose
    assert not same(Broken(), 1)
    assert not same(np.arange(3), np.arange(3))
    array = np.arange(3)
    assert same(array, array)


def test_plain_unpacks_numpy_scalars_only() -> None:
    array = np.arange(3)
    assert plain(array) is array
    assert type(plain(np.bool_(1))) is bool
    assert plain("x") == "x"
