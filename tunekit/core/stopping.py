"""When a trial has reached the stop condition that the user gave as a dict.

It is evaluated where the row is made, so that a trial ends at the exact iteration, without asking anybody.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunekit.core.metrics import number
from tunekit.types import Metrics

TRAINING_ITERATION = "training_iteration"
TIME_TOTAL_S = "time_total_s"


def met(stop: Mapping[str, float], iteration: int, time_total_s: float, metrics: Metrics) -> str:
    """Return why a trial ends at this row, such as ``training_iteration 50 >= 50``; empty when it goes on.

    Args:
        stop: The first key, in order, whose value is reached (``>=``) ends the trial. ``training_iteration`` and
            ``time_total_s`` are tunekit's own counts; any other key is a metric, nested ones as ``a/b``.
        iteration: Number of the row.
        time_total_s: Seconds of training up to this row.
        metrics: What the user reported. A metric that is missing, not a number or NaN never ends a trial.
    """
    for key, limit in stop.items():
        value = _value(key, iteration, time_total_s, metrics)
        if value is not None and value >= limit:
            return f"{key} {value!r} >= {limit!r}"
    return ""


def _value(key: str, iteration: int, time_total_s: float, metrics: Metrics) -> float | None:
    if key == TRAINING_ITERATION:
        return iteration
    if key == TIME_TOTAL_S:
        return time_total_s
    return number(metrics, key)
