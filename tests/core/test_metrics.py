"""Looking metrics up and ranking them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.metrics import MISSING, flatten, lookup, number, rank_key, score
from tunekit.types import Mode


@pytest.mark.parametrize(
    ("metrics", "key", "expected"),
    [
        ({"loss": 1.0}, "loss", 1.0),
        ({"loss": 1.0}, "acc", MISSING),
        ({"loss": None}, "loss", None),
        ({"val": {"loss": 1.0}}, "val/loss", 1.0),
        ({"val/loss": 1.0}, "val/loss", 1.0),
        ({"val/loss": 2.0, "val": {"loss": 1.0}}, "val/loss", 2.0),
        ({"a": {"b/c": 3}}, "a/b/c", 3),
        ({"a/b": {"c": 3}}, "a/b/c", 3),
        ({"a": {"x": 0}, "a/b": {"c": 3}}, "a/b/c", 3),
        ({"a": {"b": {"c": 3}}}, "a/b", {"c": 3}),
        ({"a": 3}, "a/b", MISSING),
        ({"a": [1, 2]}, "a/0", MISSING),
        ({"": {"b": 1}}, "/b", 1),
        ({}, "", MISSING),
    ],
)
def test_lookup_finds_nested_flat_and_mixed_keys(metrics: dict[str, object], key: str, expected: object) -> None:
    """S003-20: a nested attribute ``a/b`` is found."""
    assert lookup(metrics, key) == expected


_names = st.text(alphabet="ab/", max_size=3)
_nested = st.dictionaries(
    _names,
    st.recursive(st.integers(), lambda inner: st.dictionaries(_names, inner, min_size=1, max_size=3), max_leaves=8),
    max_size=4,
)


@given(_nested)
def test_every_flattened_key_is_found(metrics: dict[str, object]) -> None:
    """Each leaf can be addressed, though keys that contain slashes may shadow one another."""
    flat = flatten(metrics)
    assert all(lookup(flat, key) == value for key, value in flat.items())
    assert all(lookup(metrics, key) is not MISSING for key in flat)


def test_flatten_joins_keys_and_keeps_empty_dicts() -> None:
    """An empty dict has no leaves, so it is shown itself rather than lost."""
    assert flatten({"a": {"b": {"c": 1}, "d": [1]}, "e": {}}) == {"a/b/c": 1, "a/d": [1], "e": {}}


@pytest.mark.parametrize(
    ("value", "as_number", "as_score"),
    [
        (0.5, 0.5, 0.5),
        (3, 3.0, 3.0),
        (True, 1.0, 1.0),
        (math.inf, math.inf, None),
        (-math.inf, -math.inf, None),
        (10**400, math.inf, None),
        (-(10**400), -math.inf, None),
        ("0.5", None, None),
        (None, None, None),
        ([0.5], None, None),
        ({"x": 1.0}, None, None),
    ],
)
def test_only_finite_numbers_are_scores(value: object, as_number: float | None, as_score: float | None) -> None:
    """Whatever user code reports, asking for its score does not raise."""
    assert number({"m": value}, "m") == as_number
    assert score({"m": value}, "m") == as_score


def test_nan_is_a_number_but_no_score() -> None:
    """NaN reaches the scheduler as it is, and no ranking."""
    value = number({"m": math.nan}, "m")
    assert value is not None
    assert math.isnan(value)
    assert score({"m": math.nan}, "m") is None
    assert score({}, "m") is None


@pytest.mark.parametrize(("mode", "best_first"), [(Mode.MIN, [-1.0, 0.0, 2.5]), ("max", [2.5, 0.0, -1.0])])
def test_ranking_puts_what_is_not_finite_last(mode: Mode | str, best_first: list[float]) -> None:
    """S003-20: NaN ranks last in both orders."""
    values = [math.nan, 0.0, None, 2.5, -math.inf, -1.0, math.inf]
    ranked = sorted(values, key=lambda value: rank_key(value, mode))
    assert ranked[:3] == best_first
