"""Domains: what one parameter can be, and how chance picks it.

A domain is a pure function from a number u in [0, 1) to a value, by inverse transform: the distribution function's
inverse at u. It keeps no generator, so a draw depends on u and on nothing else. What is journalled of a draw is JSON:
the number itself, or the index of a choice.

Quantised numbers are exact multiples of ``q`` as it is written: ``quniform(0, 1, 0.1)`` gives 0.3 and not
0.30000000000000004.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Any

from tunekit.config.problems import shorten
from tunekit.space.describe import fingerprint
from tunekit.types import Json

_TINY = 2.0**-54
_STANDARD_NORMAL = NormalDist()
_TOLERANCE = 1e-9


class Domain(ABC):
    """What one parameter can be."""

    @abstractmethod
    def signature(self) -> dict[str, Json]:
        """Return JSON that tells this domain from another one, equal in every process."""


class Drawn(Domain):
    """A domain from which chance can pick."""

    @abstractmethod
    def draw(self, u: float) -> Json:
        """Return what is journalled for the number ``u`` in [0, 1)."""

    @abstractmethod
    def why_not(self, drawn: object) -> str:
        """Return why ``drawn`` cannot be a journalled value of this domain, or an empty string if it can."""

    def value(self, drawn: Json) -> Any:
        """Return the parameter that the journalled ``drawn`` stands for."""
        return drawn

    def sample(self, u: float) -> Any:
        """Return the parameter for the number ``u`` in [0, 1)."""
        return self.value(self.draw(u))


class Numeric(Drawn):
    """A domain of numbers."""

    @abstractmethod
    def excludes(self, value: float) -> str:
        """Return why ``value`` lies outside, or an empty string if it lies inside.

        A journalled number may lie outside, when the script was changed since; a new one may not.
        """


@dataclass(frozen=True)
class Float(Numeric):
    """Real numbers between two bounds, all equally likely or, with ``log``, their logarithms.

    Without ``q`` the upper bound is excluded. With ``q`` both bounds are included, and a draw is rounded to the nearest
    multiple of ``q``, so that the two outermost multiples are half as likely as the others.
    """

    low: float
    high: float
    q: float | None = None
    log: bool = False

    def draw(self, u: float) -> float:
        """Return the number at ``u``."""
        if self.log:
            start, stop = math.log(self.low), math.log(self.high)
            x = math.exp(start + u * (stop - start))
        else:
            x = self.low + u * (self.high - self.low)
        if self.q is None:
            return min(max(x, self.low), math.nextafter(self.high, self.low))
        return min(max(multiple(nearest(x, self.q), self.q), self.low), self.high)

    def value(self, drawn: Json) -> float:
        """Return the number, as a float even where JSON dropped the point."""
        return float(drawn)

    def why_not(self, drawn: object) -> str:
        """Accept any finite number."""
        return _why_no_number(drawn)

    def excludes(self, value: float) -> str:
        """Compare with the bounds and with ``q``."""
        if not self.low <= value <= self.high or (value == self.high and self.q is None):
            return f"must be from {self.low} to {self.high}" + (" (excluded)" if self.q is None else "")
        return _why_no_multiple(value, self.q)

    def signature(self) -> dict[str, Json]:
        """Return the bounds, the step and the scale."""
        return {"kind": "float", "low": self.low, "high": self.high, "q": self.q, "log": self.log}

    def __repr__(self) -> str:
        """Return the call that makes it."""
        step = "" if self.q is None else f", {self.q}"
        return f"{'' if self.q is None else 'q'}{'log' if self.log else ''}uniform({self.low}, {self.high}{step})"


@dataclass(frozen=True)
class Integer(Numeric):
    """Integers from ``low`` to ``high``, both included, all equally likely or, with ``log``, their logarithms.

    With ``q``, the multiples of ``q`` among them.
    """

    low: int
    high: int
    q: int = 1
    log: bool = False

    def draw(self, u: float) -> int:
        """Return the integer at ``u``."""
        first, last = -(-self.low // self.q), self.high // self.q
        if not self.log:
            return min(first + int(u * (last - first + 1)), last) * self.q
        start, stop = math.log(self.low), math.log(self.high + 1)
        x = min(max(int(math.exp(start + u * (stop - start))), self.low), self.high)
        return min(max((2 * x + self.q) // (2 * self.q), first), last) * self.q

    def why_not(self, drawn: object) -> str:
        """Accept any integer."""
        if isinstance(drawn, bool) or not isinstance(drawn, int):
            return f"got {shorten(drawn)}, but must be an integer"
        return ""

    def excludes(self, value: float) -> str:
        """Compare with the bounds and with ``q``."""
        if not self.low <= value <= self.high:
            return f"must be from {self.low} to {self.high} (included)"
        return _why_no_multiple(value, self.q)

    def signature(self) -> dict[str, Json]:
        """Return the bounds, the step and the scale."""
        return {"kind": "integer", "low": self.low, "high": self.high, "q": self.q, "log": self.log}

    def __repr__(self) -> str:
        """Return the call that makes it."""
        name = f"{'log' if self.log else ''}randint"
        if self.q == 1:
            return f"{name}({self.low}, {self.high + 1})"
        return f"q{name}({self.low}, {self.high}, {self.q})"


@dataclass(frozen=True)
class Normal(Numeric):
    """Normally distributed numbers, rounded to the nearest multiple of ``q`` if there is one."""

    mean: float = 0.0
    sd: float = 1.0
    q: float | None = None

    def draw(self, u: float) -> float:
        """Return the number at ``u``."""
        # The inverse is infinite at 0; half a step of u above it stands for the whole step.
        x = self.mean + self.sd * _STANDARD_NORMAL.inv_cdf(max(u, _TINY))
        return x if self.q is None else multiple(nearest(x, self.q), self.q)

    def value(self, drawn: Json) -> float:
        """Return the number, as a float even where JSON dropped the point."""
        return float(drawn)

    def why_not(self, drawn: object) -> str:
        """Accept any finite number."""
        return _why_no_number(drawn)

    def excludes(self, value: float) -> str:
        """Compare with ``q``; there are no bounds."""
        return _why_no_multiple(value, self.q)

    def signature(self) -> dict[str, Json]:
        """Return mean, standard deviation and step."""
        return {"kind": "normal", "mean": self.mean, "sd": self.sd, "q": self.q}

    def __repr__(self) -> str:
        """Return the call that makes it."""
        step = "" if self.q is None else f", {self.q}"
        return f"{'' if self.q is None else 'q'}randn({self.mean}, {self.sd}{step})"


@dataclass(frozen=True)
class Choice(Drawn):
    """One of several options of any type, all equally likely. Its index is journalled.

    An option may itself hold domains, which are drawn when it is chosen.
    """

    options: tuple[Any, ...]

    def draw(self, u: float) -> int:
        """Return the index at ``u``."""
        return min(int(u * len(self.options)), len(self.options) - 1)

    def value(self, drawn: Json) -> Any:
        """Return the option at an index."""
        return self.options[drawn]

    def why_not(self, drawn: object) -> str:
        """Accept the index of an option."""
        if isinstance(drawn, bool) or not isinstance(drawn, int) or not 0 <= drawn < len(self.options):
            return f"got the index {shorten(drawn)}, but there are {len(self.options)} options"
        return ""

    def signature(self) -> dict[str, Json]:
        """Return the options, as text where they are not JSON."""
        return {"kind": "choice", "options": [fingerprint(option) for option in self.options]}

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"choice({shorten(list(self.options))})"


@dataclass(frozen=True)
class GridSearch(Choice):
    """Every one of several options, each combined with those of all other grids. Its index is journalled."""

    def signature(self) -> dict[str, Json]:
        """Return the options, as text where they are not JSON."""
        return {**Choice.signature(self), "kind": "grid"}

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"grid_search({shorten(list(self.options))})"


@dataclass(frozen=True)
class SampleFrom(Domain):
    """What a function makes of the rest of the configuration."""

    function: Callable[[Any], Any]

    def signature(self) -> dict[str, Json]:
        """Return the function's name; its code is not looked at."""
        return {"kind": "function", "function": fingerprint(self.function)}

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"sample_from({getattr(self.function, '__qualname__', shorten(self.function))})"


def nearest(x: float, q: float) -> int:
    """Return how many ``q`` come nearest to ``x``."""
    return math.floor(x / q + 0.5)


def multiple(count: int, q: float) -> float:
    """Return ``count`` times ``q`` as it is written, rounded once: three times 0.1 is 0.3."""
    exact = Fraction(repr(q)) * count
    return exact.numerator / exact.denominator


def is_multiple(x: float, q: float) -> bool:
    """Return whether ``x`` is a whole number of ``q``, up to rounding."""
    ratio = x / q
    return abs(ratio - round(ratio)) <= _TOLERANCE * max(1.0, abs(ratio))


def _why_no_number(drawn: object) -> str:
    if isinstance(drawn, bool) or not isinstance(drawn, int | float) or not math.isfinite(drawn):
        return f"got {shorten(drawn)}, but must be a finite number"
    return ""


def _why_no_multiple(value: float, q: float | None) -> str:
    return "" if q is None or is_multiple(value, q) else f"must be a multiple of {q}"
