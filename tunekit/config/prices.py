"""Prices as users write them: money per resource and hour, in any currency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunekit.config.problems import Problems, is_finite, is_number, plain_number

_NAMES = {"cpu": "CPU", "gpu": "GPU"}
PRICES_HINT = "prices are per resource and hour, such as prices={'CPU': 0.04, 'GPU': 2.1}"


def check_prices(problems: Problems, field: str, value: Any) -> None:
    """Check a dict of prices."""
    if not isinstance(value, Mapping) or not value:
        problems.bad_type(field, value, "a dict with at least one price", hint=PRICES_HINT)
        return
    known: dict[str, str] = {}
    for name, price in value.items():
        if isinstance(name, str) and (other := known.setdefault(_plain_name(name), name)) != name:
            problems.add(field, f"got {other!r} and {name!r}, which are one resource", hint=PRICES_HINT)
        if not isinstance(name, str):
            problems.bad_type(field, name, "keyed by names of resources", hint=PRICES_HINT)
        elif not name.strip():
            problems.bad_value(field, name, "keyed by names of resources", hint=PRICES_HINT)
        elif not is_number(plain_number(price)):
            problems.bad_type(f"{field}[{name!r}]", price, "a finite number >= 0", hint=PRICES_HINT)
        elif not is_finite(price) or price < 0:
            problems.bad_value(f"{field}[{name!r}]", price, "a finite number >= 0", hint=PRICES_HINT)


def plain_prices(value: Mapping[str, float]) -> dict[str, float]:
    """Return checked prices under Ray's names."""
    return {_plain_name(name): float(price) for name, price in value.items()}


def _plain_name(name: str) -> str:
    return _NAMES.get(name.lower(), name)
