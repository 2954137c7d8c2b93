"""Which number stands for a whole trial, and which of two trials has the better one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunekit.core.events import ResultReported
from tunekit.core.metrics import MISSING, number
from tunekit.results.columns import find
from tunekit.types import Mode

SCOPES = ("last", "all", "avg", "last-5-avg", "last-10-avg")
"""Which rows of a trial are looked at."""

_LENGTHS = {"avg": None, "last-5-avg": 5, "last-10-avg": 10}


def standing(rows: Sequence[ResultReported], metric: str, scope: str, mode: Mode) -> float | None:
    """Return the number that stands for a trial; None if it never had the metric.

    The best of all rows leaves out what is not finite, if anything else is there. An average in which one value is not
    finite is itself no finite number.
    """
    values = [value for row in rows if (value := value_of(row, metric)) is not None]
    if not values:
        return None
    if scope == "last":
        return values[-1]
    if scope == "all":
        return min(values, key=lambda value: _finite_first(value, mode))
    length = _LENGTHS[scope]
    chosen = values if length is None else values[-length:]
    return sum(chosen) / len(chosen)


def best_row(rows: Sequence[ResultReported], metric: str, mode: Mode) -> ResultReported | None:
    """Return the row with the best value of the metric, the earlier one of equals; None if no row has it."""
    valued = [(value, row) for row in rows if (value := value_of(row, metric)) is not None]
    return min(valued, key=lambda pair: _finite_first(pair[0], mode))[1] if valued else None


def value_of(row: ResultReported, metric: str) -> float | None:
    """Return the metric's value, NaN if it is not a number; None if the row does not have it."""
    found = find(row, metric)
    if found is MISSING:
        return None
    value = number({"": found}, "")
    return math.nan if value is None else value


def order(value: float, mode: Mode) -> tuple[bool, float]:
    """Return a sort key: the better, the smaller; infinities in their places, NaN last."""
    if math.isnan(value):
        return (True, 0.0)
    return (False, -value if mode is Mode.MAX else value)


def _finite_first(value: float, mode: Mode) -> tuple[bool, bool, float]:
    return (not math.isfinite(value), *order(value, mode))
