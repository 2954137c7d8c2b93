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
LEAST_SILENCE_S = 0.1
"""Of a worker, before it is given up: a shorter time passes between any two of its words."""
_FORMS = "a timedelta, or a text such as '90s', '30min' or '1h30min'"


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


def check_duration(
    problems: Problems,
    field: str,
    value: Any,
    *,
    none_is: str = "",
    auto: bool = False,
    zero: bool = False,
    at_least: float = 0.0,
    example: str = "10min",
) -> None:
    """Check a length of time: all that users set are written in the same ways.

    Args:
        problems: Where what is wrong is added.
        field: The name of the setting.
        value: What was given.
        none_is: What None stands for; empty: None is not allowed.
        auto: Whether it may set itself.
        zero: Whether it may be zero.
        at_least: Anything shorter is a mistake.
        example: What people often set it to.
    """
    if (value is None and none_is) or (auto and isinstance(value, str) and value == AUTO):
        return
    least = f">= {at_least:g}" if zero or at_least else "> 0"
    words = [f"'{AUTO}'"] * auto + [f"None ({none_is})"] * bool(none_is)
    allowed = ", ".join([*words, f"a finite number of seconds {least}", _FORMS])
    hint = _advice(field, value, none_is, example, auto=auto)
    if isinstance(value, type | bool) or not isinstance(value, str | int | float | Duration):
        problems.bad_type(field, value, allowed, hint=hint)
    elif not at_least <= (seconds := seconds_of(value)) < math.inf or (seconds == 0 and not zero):
        problems.bad_value(field, value, allowed, hint=hint)


def _advice(field: str, value: object, none_is: str, example: str, *, auto: bool) -> str:
    written = f"write {field}='{example}'"
    if not isinstance(value, str):
        return f"{written}, or set {field} to None for {none_is}" if none_is else written
    text = value.strip().lower()
    if text.startswith(AUTO):
        return f"did you mean {field}='{AUTO}'?" if auto else f"say how long yourself, such as {field}='{example}'"
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{0,15})?", text) and float(text):
        return f"did you mean {field}='{text}s'?"
    return f"{written}: numbers above zero, each with s, min, h or d behind it"
