"""How a metric is found in a row of results, and how its values are compared.

A key such as ``val/loss`` is found in nested dicts, in flat ones, and in any mixture of the two. A number that is not
finite says nothing about how good a trial is, so everywhere in tunekit a metric that is missing, not a number, NaN or
infinite ranks behind every finite value, in both modes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, Literal, TypeAlias

from tunekit.types import Json, Metrics, Mode

CLOCK_AND_PLACE: Final = frozenset({"timestamp", "date", "pid", "hostname", "node_ip", "attempt"})
"""Names of what may differ between two sweeps that are the same; with them, all that begins with ``time_``."""


class _Missing(Enum):
    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing.MISSING
"""What ``lookup`` returns when there is no such key; not None, which may have been reported."""

Missing: TypeAlias = Literal[_Missing.MISSING]


def lookup(metrics: Metrics, key: str) -> Json | Missing:
    """Return what ``metrics`` holds at ``key``, or ``MISSING``.

    The whole key is tried first; then each way to cut it at a slash, the shortest beginning first.
    """
    found = metrics.get(key, MISSING)
    if found is not MISSING or "/" not in key:
        return found
    cut = key.find("/")
    while cut != -1:
        inner = metrics.get(key[:cut], MISSING)
        if isinstance(inner, Mapping):
            found = lookup(inner, key[cut + 1 :])
            if found is not MISSING:
                return found
        cut = key.find("/", cut + 1)
    return MISSING


def number(metrics: Metrics, key: str) -> float | None:
    """Return the number at ``key``, NaN and infinities included; None when it is missing or not a number.

    True and False count as 1 and 0. An integer too large for a float is infinite.
    """
    value = lookup(metrics, key)
    if isinstance(value, float):
        return value
    if isinstance(value, int):
        return _as_float(value)
    return None


def score(metrics: Metrics, key: str) -> float | None:
    """Return the finite number at ``key``; None when there is none."""
    value = metrics.get(key)
    if type(value) is not float:
        value = number(metrics, key)
    return value if value is not None and math.isfinite(value) else None


def rank_key(value: float | None, mode: Mode | str) -> float:
    """Return a sort key: the better the value, the smaller the key; what is not finite comes last.

    Equal keys are ties; to break them is up to the caller.
    """
    if value is None or not math.isfinite(value):
        return math.inf
    return -value if mode == Mode.MAX else value


def flatten(metrics: Metrics) -> dict[str, Json]:
    """Return the metrics as a flat dict, each nested key joined with slashes. Empty dicts stay as they are."""
    return dict(_leaves(metrics, ""))


def is_of_clock_or_place(key: str) -> bool:
    """Return whether a metric, by its name, says when or where it was computed, and not what came out."""
    name = key.partition("/")[0]
    return name in CLOCK_AND_PLACE or name.startswith("time_")


def differing(before: Metrics, after: Metrics) -> list[str]:
    """Return the metrics in which two rows differ, sorted; clock and place are left out, and NaN is equal to itself."""
    one, other = flatten(before), flatten(after)
    return sorted(
        key
        for key in one.keys() | other.keys()
        # As text, because NaN differs from itself, and 1 is not 1.0.
        if not is_of_clock_or_place(key) and repr(one.get(key, MISSING)) != repr(other.get(key, MISSING))
    )


def _leaves(metrics: Metrics, prefix: str) -> Iterator[tuple[str, Json]]:
    for key, value in metrics.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
