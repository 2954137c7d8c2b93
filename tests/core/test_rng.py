"""Chance as a pure function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.rng import uniform

keys = st.lists(st.integers() | st.text(max_size=5), max_size=3)


@given(st.integers(), keys)
def test_numbers_lie_in_the_unit_interval_and_come_again(seed: int, key: list[int | str]) -> None:
    assert 0.0 <= uniform(seed, *key) == uniform(seed, *key) < 1.0


@given(st.integers(), keys, keys)
def test_different_keys_give_different_numbers(seed: int, one: list[int | str], other: list[int | str]) -> None:
    assert (uniform(seed, *one) == uniform(seed, *other)) is (one == other)


@pytest.mark.parametrize(("one", "other"), [((1,), ("1",)), (("ab",), ("a", "b")), ((1, 2), (12,)), ((), ("",))])
def test_keys_do_not_run_into_each_other(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    assert uniform(7, *one) != uniform(7, *other)


def test_the_numbers_are_those_of_all_versions() -> None:
    """An experiment that is resumed by a later version draws the same configurations."""
    assert uniform(0) == 0.7642255990490361
    assert uniform(7, 17, "lr") == 0.7625219944492629


def test_the_numbers_are_spread_evenly() -> None:
    drawn = [uniform(0, "x", index) for index in range(10_000)]
    for tenth in range(10):
        assert abs(sum(tenth <= 10 * number < tenth + 1 for number in drawn) - 1000) < 150
