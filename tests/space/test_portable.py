"""Spaces of JSON values come back from JSON; spaces with code in them say that they cannot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit import space as tk
from tunekit.space import Space
from tunekit.space.portable import from_portable, to_portable

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3)
domains = st.sampled_from(
    [tk.uniform(0, 1), tk.qloguniform(1e-4, 1e-1, 5e-5), tk.qrandint(-21, 12, 3), tk.randn(), tk.grid_search([1, [2]])]
)
marks = st.sampled_from(["value", "dict", "list", "tuple", "domain", "arguments", "x"])
trees = st.recursive(
    scalars | domains,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(marks, inner, max_size=3)
        | st.lists(inner, min_size=1, max_size=3).map(tk.choice)
    ),
    max_leaves=8,
)


@given(st.dictionaries(marks, trees, max_size=3))
def test_what_is_written_is_read_back(param_space: dict[str, Any]) -> None:
    """Also where the user's keys look like our marks."""
    portable = msgspec.json.decode(msgspec.json.encode(to_portable(param_space)))
    again = from_portable(portable)
    assert again == param_space
    assert repr(again) == repr(param_space)


def test_the_space_read_back_has_the_same_signature() -> None:
    param_space = {"lr": tk.loguniform(1e-4, 1e-1), "o": tk.choice([{"m": tk.uniform(0, 1)}, (1, 2)]), "n": 3}
    again = from_portable(to_portable(param_space))
    assert Space(again).signature() == Space(param_space).signature()


@pytest.mark.parametrize("held", [int, tk.choice([int, str]), tk.sample_from(len), {1: 2}, [object()], {1, 2}])
def test_code_is_never_stored(held: object) -> None:
    assert to_portable({"lr": tk.uniform(0, 1), "held": held}) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_values_too(value: float) -> None:
    """An extended space has them no more, and its earlier trials still do."""
    portable = msgspec.json.decode(msgspec.json.encode(to_portable({"x": value, "y": tk.choice([value, 1.0])})))
    read = from_portable(portable)
    assert (repr(read["x"]), repr(read["y"])) == (repr(value), repr(tk.choice([value, 1.0])))
    assert Space(read).signature() == Space({"x": value, "y": tk.choice([value, 1.0])}).signature()
