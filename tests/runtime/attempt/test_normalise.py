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

from tunekit.core.codec import decode, encode
from tunekit.core.events import ResultReported
from tunekit.errors import ReportError
from tunekit.runtime.attempt.normalise import MAX_BYTES, MAX_DEPTH, MAX_KEY_CHARS, normalise


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


class Bad:
    """Raises whatever is asked of it."""

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError("no")

    __float__ = __int__ = __index__ = __len__ = __iter__ = __bool__ = __str__ = __repr__ = __eq__ = _refuse
    __hash__ = object.__hash__
    item = tolist = _refuse


class Loud(float):
    """A number that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


ODD = st.one_of(
    JSON,
    st.builds(Bad),
    st.builds(Loud),
    st.just(Bad),
    st.binary(),
    st.complex_numbers(),
    st.fractions(),
    st.decimals(),
    st.dates(),
    st.sets(st.integers()),
    st.sampled_from([np.float16(1), np.int8(1), np.array(1.5), np.arange(3), np.array(["a"]), np.datetime64("NaT")]),
    st.sampled_from([torch.tensor(1.5), torch.ones(2, requires_grad=True), torch.tensor(1.0).to(torch.bfloat16)]),
    st.integers(min_value=-(2**80), max_value=2**80),
    st.just("\ud800"),
)


@given(
    st.dictionaries(
        st.one_of(st.text(), st.just("\ud800"), st.integers(), st.builds(Bad), st.tuples(), st.none()),
        st.recursive(
            ODD, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("xy"), inner, max_size=2)
        ),
        max_size=3,
    )
)
def test_anything_is_recorded_or_refused_in_words(metrics: dict[Any, Any]) -> None:
    """Whatever user code reports, it is a record that travels and comes back, or an error that can be shown."""
    try:
        recorded = normalise(metrics)
    except ReportError as error:
        assert str(error)  # noqa: PT017 - it need not be raised
        return
    row = ResultReported(trial=0, attempt=1, iteration=1, metrics=recorded, time_total_s=0.0)
    assert repr(decode(encode(row))) == repr(row)
