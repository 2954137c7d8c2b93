"""What can be recorded, and what is said about the rest."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import fractions
import math
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunekit.errors import ReportError
from tunekit.runtime.normalise import MAX_BYTES, MAX_DEPTH, MAX_KEY_CHARS, normalise


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


Point = namedtuple("Point", "x y")  # noqa: PYI024 - what users have


@dataclasses.dataclass
class Result:
    loss: float


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"x": 1}
    for _ in range(depth - 1):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (1, 1),
        (True, True),
        (None, None),
        ("text", "text"),
        (math.inf, math.inf),
        (np.float32(1.5), 1.5),
        (np.float64(1.5), 1.5),
        (np.int64(3), 3),
        (np.bool_(True), True),  # noqa: FBT003
        (np.str_("x"), "x"),
        (np.array(2.5), 2.5),
        (np.array([[2]]), 2),
        (torch.tensor(2), 2),
        (torch.tensor([0.5], dtype=torch.bfloat16), 0.5),
        (torch.tensor(1.0, requires_grad=True), 1.0),
        (fractions.Fraction(1, 4), 0.25),
        (Color.RED, "red"),
        (Level.HIGH, 3),
        ((1, (2.0, "x")), [1, [2.0, "x"]]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=np.int8(1)), {"a": 1}),
        ({}, {}),
        ([], []),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        ("ä€", "ä€"),
    ],
)
def test_recorded(value: Any, plain: Any) -> None:
    result = normalise({"key": value})["key"]
    assert result == plain
    assert type(result) is type(plain)


def test_nan_stays_nan() -> None:
    assert math.isnan(normalise({"x": np.float32("nan")})["x"])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"x", "bytes"),
        (np.zeros((3, 4)), "an array of shape (3, 4)"),
        (torch.zeros(2), "an array of shape (2,)"),
        (np.zeros(0), "an array of shape (0,)"),
        (object(), "object"),
        (1j, "complex"),
        ({1}, "set"),
        (Path("x"), "Path"),
        (dt.datetime(2020, 1, 1), "datetime"),
        (np.datetime64("2020-01-01"), "datetime64"),
        (Result(1.0), "Result"),
        (lambda: 1, "function"),
        (2**64, "more than 64 bits"),
        ("\ud800", "not valid Unicode"),
    ],
)
def test_refused_with_the_path_of_keys(value: Any, words: str) -> None:
    with pytest.raises(ReportError) as caught:
        normalise({"outer": {"inner": [1, value]}})
    assert "'outer/inner/1'" in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint
    assert caught.value.fields["key"] == "outer/inner/1"


@pytest.mark.parametrize("key", [1, None, ("a",), b"a"])
def test_keys_must_be_strings(key: Any) -> None:
    with pytest.raises(ReportError, match="keys must be strings"):
        normalise({"outer": {key: 1}})


@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY_CHARS + 1)])
def test_length_of_keys(key: str) -> None:
    with pytest.raises(ReportError, match="characters"):
        normalise({key: 1})
    assert normalise({"x" * MAX_KEY_CHARS: 1})


def test_depth() -> None:
    assert normalise(nested(MAX_DEPTH))
    for too_deep in (nested(MAX_DEPTH + 1), cycle()):
        with pytest.raises(ReportError, match="deeper"):
            normalise(too_deep)


def cycle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = [value]
    return value


@pytest.mark.parametrize("large", [{"x": "y" * (MAX_BYTES + 1)}, {"x": list(range(MAX_BYTES // 4))}])
def test_size(large: dict[str, Any]) -> None:
    with pytest.raises(ReportError, match="larger than 1,000,000 bytes"):
        normalise(large)


@pytest.mark.parametrize("metrics", [None, 3, [1], "loss", {1}])
def test_metrics_must_be_a_dict(metrics: Any) -> None:
    with pytest.raises(ReportError, match="must be a dict"):
        normalise(metrics)


def test_source_is_named() -> None:
    with pytest.raises(ReportError, match=r"^step\(\): 'x'"):
        normalise({"x": b""}, "step()")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc/", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("xyz", min_size=1), JSON))
def test_plain_values_are_unchanged_and_travel(metrics: dict[str, Any]) -> None:
    plain = normalise(metrics)
    assert plain == metrics
    assert plain is not metrics
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(plain)) == metrics
