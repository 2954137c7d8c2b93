"""The demo's comparison: it must be able to fail."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from tunekit.cli.demo_compare import Difference, compare, exact


def table(**last: Any) -> dict[str, Any]:
    rows = [
        {"training_iteration": 1, "loss": 0.5, "timestamp": 1.0, "pid": 7},
        {"training_iteration": 2, "loss": 0.25, "timestamp": 2.0, "pid": 7, **last},
    ]
    return {"trials": [{"name": "train_00000", "config": {"lr": 0.1}, "rows": rows}]}


def test_equal_tables_have_no_difference() -> None:
    assert compare(table(), table()) == []


def test_the_last_bit_counts() -> None:
    """S000-10: exact means exact; the nearest neighbour of a float is another value."""
    other = math.nextafter(0.25, 1.0)
    assert compare(table(), table(loss=other)) == [Difference("train_00000", 2, "loss", (0.25).hex(), other.hex())]


@pytest.mark.parametrize(("left", "right"), [(0.0, -0.0), (1, 1.0), (1, True), (1.0, "1.0"), ([1.0], [1])])
def test_what_python_calls_equal_is_told_apart(left: Any, right: Any) -> None:
    assert exact(left) != exact(right)


def test_nan_equals_itself_and_dicts_have_no_order() -> None:
    assert exact({"a": math.nan, "b": 1}) == exact({"b": 1, "a": math.nan})


@pytest.mark.parametrize(
    "name", ["timestamp", "date", "time_total_s", "time_this_iter_s", "pid", "hostname", "node_ip"]
)
def test_clock_and_place_may_differ(name: str) -> None:
    assert compare(table(), table(**{name: 99})) == []


@pytest.mark.parametrize("name", ["accuracy", "training_step", "dates", "pid_gain"])
def test_nothing_else_may_differ(name: str) -> None:
    (difference,) = compare(table(), table(**{name: 99}))
    assert (difference.field, difference.undisturbed, difference.disturbed) == (name, "absent", "99")


def test_a_missing_row_is_a_difference() -> None:
    short = table()
    short["trials"][0]["rows"].pop()
    assert [str(found) for found in compare(table(), short)] == ["train_00000, iteration 2, row: present != absent"]


def test_a_changed_configuration_is_a_difference() -> None:
    other = copy.deepcopy(table())
    other["trials"][0]["config"]["lr"] = 0.2
    assert [found.field for found in compare(table(), other)] == ["config"]


def test_a_row_that_is_there_twice_is_an_error() -> None:
    """A table that holds an iteration twice is wrong, even if both rows are equal."""
    twice = table()
    twice["trials"][0]["rows"] *= 2
    with pytest.raises(ValueError, match="train_00000 has iteration 1 twice"):
        compare(table(), twice)
