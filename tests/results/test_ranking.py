"""Which number stands for a trial."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tunekit.core.events import ResultReported
from tunekit.results.ranking import best_row, order, standing, value_of
from tunekit.types import Mode


def rows(*values: Any) -> list[ResultReported]:
    """Return rows with the metric ``m``; those at ``...`` do not have it."""
    return [
        ResultReported(trial=0, attempt=1, iteration=at, metrics={} if value is ... else {"m": value})
        for at, value in enumerate(values, start=1)
    ]


@pytest.mark.parametrize(
    ("scope", "values", "lowest", "highest"),
    [
        ("last", [3.0, 1.0, 2.0], 2.0, 2.0),
        ("last", [3.0, 1.0, ...], 1.0, 1.0),
        ("last", [...], None, None),
        ("last", [], None, None),
        ("all", [3.0, 1.0, 2.0], 1.0, 3.0),
        ("all", [3.0, math.nan, 1.0], 1.0, 3.0),
        ("all", [math.inf, 3.0, -math.inf], 3.0, 3.0),
        ("all", [math.inf, -math.inf], -math.inf, math.inf),
        ("avg", [3.0, 1.0, ..., 2.0], 2.0, 2.0),
        ("avg", [1.0], 1.0, 1.0),
        ("avg", [1, True], 1.0, 1.0),
        ("last-5-avg", [100.0, 1.0, 2.0, 3.0, 4.0, 5.0], 3.0, 3.0),
        ("last-5-avg", [100.0, ..., 1.0, 2.0, 3.0, 4.0, ..., 5.0], 3.0, 3.0),
        ("last-5-avg", [math.nan, 1.0, 2.0, 3.0, 4.0, 5.0], 3.0, 3.0),
        ("last-10-avg", [0.0, *range(1, 11)], 5.5, 5.5),
        ("avg", [1e308, 1e308], math.inf, math.inf),
    ],
)
def test_a_scope_says_which_rows_count(
    scope: str, values: list[Any], lowest: float | None, highest: float | None
) -> None:
    assert standing(rows(*values), "m", scope, Mode.MIN) == lowest
    assert standing(rows(*values), "m", scope, Mode.MAX) == highest


@pytest.mark.parametrize(
    ("scope", "values"),
    [("avg", [1.0, math.nan]), ("last", [1.0, math.nan]), ("avg", [1.0, "high"]), ("all", [math.nan])],
)
def test_what_is_no_number_stays_visible(scope: str, values: list[Any]) -> None:
    """It is not passed over in silence: a trial that broke down is not judged by its good days."""
    value = standing(rows(*values), "m", scope, Mode.MIN)
    assert value is not None
    assert math.isnan(value)


def test_nan_ranks_last_and_infinities_in_their_places() -> None:
    """S003-20, of trials."""
    values = [math.nan, 0.0, math.inf, -1.0, -math.inf]
    assert sorted(values, key=lambda value: order(value, Mode.MIN))[:4] == [-math.inf, -1.0, 0.0, math.inf]
    assert sorted(values, key=lambda value: order(value, Mode.MAX))[:4] == [math.inf, 0.0, -1.0, -math.inf]


def test_the_best_row_is_the_first_of_equals() -> None:
    some = rows(2.0, 1.0, math.nan, 1.0, 2.0, ...)
    assert best_row(some, "m", Mode.MIN) is some[1]
    assert best_row(some, "m", Mode.MAX) is some[0]
    assert best_row(rows(..., ...), "m", Mode.MIN) is None


def test_trials_can_be_compared_by_the_counts_of_tunekit() -> None:
    metrics = {"training_iteration": 99, "val": {"acc": 0.5}}
    row = ResultReported(trial=0, attempt=1, iteration=7, metrics=metrics, time_total_s=2.5, timestamp=1e9)
    assert value_of(row, "training_iteration") == 7
    assert value_of(row, "time_total_s") == 2.5
    assert value_of(row, "val/acc") == 0.5
    assert value_of(row, "metrics") is None
