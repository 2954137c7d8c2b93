"""What one trial occupies: names and amounts, checked where they are written down."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from tunekit.config.problems import Problems, is_number, shorten

Resources: TypeAlias = Mapping[str, float]
"""Such as ``{"CPU": 2.0, "GPU": 0.5, "tpu_host": 1.0}``."""

ResourcesOf: TypeAlias = Callable[[dict[str, Any]], Resources]
"""What a trial of this configuration occupies."""

DEFAULT: Resources = {"CPU": 1.0}

_ALIASES = {"cpu": "CPU", "num_cpus": "CPU", "gpu": "GPU", "num_gpus": "GPU"}
_REFUSED = ("object_store_memory",)
"""Names that Ray keeps for itself."""
_SMALLEST = 1e-4
"""Ray counts in ten-thousandths; less than one of them would be nothing."""
_HINT = "give amounts by name, such as with_resources(train, {'cpu': 2, 'gpu': 0.5})"


def checked(resources: Any) -> dict[str, float]:
    """Return the amounts under Ray's names; those without a CPU entry keep the default of 1 CPU.

    Raises:
        ConfigError: A name or an amount is not allowed; all of them are reported together.
    """
    problems = Problems("with_resources")
    if not isinstance(resources, Mapping):
        allowed = "a dict of amounts, or a function of the config that returns one"
        problems.bad_type("resources", resources, allowed, hint=_HINT)
        problems.raise_if_any()
    amounts: dict[str, float] = {}
    for name, amount in resources.items():
        if not isinstance(name, str) or not name.strip():
            problems.bad_type(f"resources[{shorten(name)}]", name, "keyed by names of resources", hint=_HINT)
            continue
        known = _ALIASES.get(name.lower(), name)
        if known in amounts:
            problems.add(f"resources[{name!r}]", f"{known} is given twice", hint="leave out one of them")
        _check_amount(problems, name, known, amount)
        amounts[known] = amount
    problems.raise_if_any()
    return {**DEFAULT, **{name: float(amount) for name, amount in amounts.items()}}


def _check_amount(problems: Problems, name: str, known: str, amount: Any) -> None:
    place = f"resources[{name!r}]"
    if not is_number(amount):
        problems.bad_type(place, amount, "a finite number >= 0", hint=_HINT)
    elif not math.isfinite(amount) or amount < 0:
        problems.bad_value(place, amount, "a finite number >= 0", hint=_HINT)
    elif known in _REFUSED:
        problems.add(place, "a trial cannot reserve it", hint="ask for 'memory', in bytes")
    elif 0 < amount < _SMALLEST:
        allowed = f"0, or at least {_SMALLEST:g}: Ray counts no finer"
        problems.bad_value(place, amount, allowed, hint=f"write {name!r}: {_SMALLEST:g}")
    elif known == "GPU" and amount > 1 and amount != int(amount):
        allowed = "at most 1, or a whole number: only one GPU can be shared"
        problems.bad_value(place, amount, allowed, hint=f"write {name!r}: {math.ceil(amount)}")


def checked_of(function: Callable[[dict[str, Any]], Any]) -> ResourcesOf:
    """Return ``function`` with its answers checked."""
    return _Checked(function)


class _Checked:
    """A class rather than a closure, so that it can be pickled wherever the function can."""

    def __init__(self, function: Callable[[dict[str, Any]], Any]) -> None:
        self.function = function

    def __call__(self, config: dict[str, Any]) -> Resources:
        return checked(self.function(config))
