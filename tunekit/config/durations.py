"""Lengths of time as users write them: a number of seconds, a ``timedelta``, or a text such as ``30min``."""

from __future__ import annotations

import math
import re
from typing import Any, Protocol, runtime_checkable

from tunekit.config.problems import Problems, is_finite

_UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z]+)\s*")
AUTO = "auto"
"""What stands for an interval that sets itself."""
_ALLOWED = "None (never), a finite number of seconds > 0, a timedelta, or a text such as '90s', '30min' or '1h30min'"


@runtime_checkable
class Duration(Protocol):
    """What ``datetime.timedelta`` is, without importing a module that can read the clock."""

    def total_seconds(self) -> float:
        """Return the length in seconds."""
        ...


def parse_duration(text: str) -> float | None:
    """Return the seconds that a text such as ``90s``, ``30min``, ``2h`` or ``1h30min`` says; None if it says none."""
    total, end = 0.0, 0
    while part := _PART.match(text, end):
        unit = _UNITS.get(part[2].lower())
        if unit is None:
            return None
        total, end = total + float(part[1]) * unit, part.end()
    return total if end and end == len(text) else None


def seconds_of(value: float | str | Duration) -> float:
    """Return the seconds of a length of time; NaN for a text that says none, or for a number beyond all floats."""
    if isinstance(value, str):
        found = parse_duration(value)
        return math.nan if found is None else found
    if isinstance(value, int) and not is_finite(value):
        return math.nan
    return float(value.total_seconds() if isinstance(value, Duration) else value)


def in_words(seconds: float) -> str:
    """Return a length of time as people say it: ``0.41 s``, ``212 s``, ``12.3 min``, ``3.4 h``."""
    for unit, length, least in (("d", 86400.0, 2), ("h", 3600.0, 2), ("min", 60.0, 5)):
        if seconds >= least * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.3g} s"


def check_interval(problems: Problems, field: str, value: Any, *, none_is: str, auto: bool = False) -> None:
    """Check an optional length of time above zero.

    Args:
        problems: Where what is wrong is added.
        field: The name of the setting.
        value: What was given.
        none_is: What None stands for.
        auto: Whether it may set itself.
    """
    if value is None or (auto and isinstance(value, str) and value == AUTO):
        return
    allowed = f"'{AUTO}', {_ALLOWED}" if auto else _ALLOWED
    if isinstance(value, type | bool) or not isinstance(value, str | int | float | Duration):
        problems.bad_type(field, value, allowed)
    elif not 0 < seconds_of(value) < math.inf:
        problems.bad_value(field, value, allowed, hint=_advice(field, value, none_is, auto=auto))


def _advice(field: str, value: object, none_is: str, *, auto: bool) -> str:
    if not isinstance(value, str):
        return f"set {field} to None for {none_is}"
    text = value.strip().lower()
    if text.startswith(AUTO):
        return f"did you mean {field}='{AUTO}'?" if auto else f"say how long yourself, such as {field}='10min'"
    return f"did you mean {field}='{text}s'?" if re.fullmatch(r"[0-9.]*[0-9]", text) else ""
