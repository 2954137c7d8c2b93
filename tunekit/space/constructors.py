"""The words in which a search space is written, with Ray Tune's names and meaning."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from tunekit.config.problems import Problems
from tunekit.space.describe import plain
from tunekit.space.domains import Choice, Domain, Float, GridSearch, Integer, Normal, SampleFrom, is_multiple

_MAX_INT = 2**63 - 1
_MAX_STEPS = 2.0**53

ChoiceT = TypeVar("ChoiceT", bound=Choice)


def uniform(low: float, high: float) -> Float:
    """A real number from ``low`` to ``high`` (excluded), all equally likely.

    Raises:
        ConfigError: If a bound is not a finite number, or ``low >= high``.
    """
    return _float("uniform", low, high)


def quniform(low: float, high: float, q: float) -> Float:
    """A real number from ``low`` to ``high`` (included), rounded to a multiple of ``q``.

    Raises:
        ConfigError: If a bound is not a finite multiple of ``q``, or ``low >= high``.
    """
    return _float("quniform", low, high, q, quantised=True)


def loguniform(low: float, high: float) -> Float:
    """A real number from ``low`` to ``high`` (excluded), its logarithms all equally likely.

    Differs: Ray Tune also takes a ``base``, which changes nothing.

    Raises:
        ConfigError: If a bound is not a finite number > 0, or ``low >= high``.
    """
    return _float("loguniform", low, high, log=True)


def qloguniform(low: float, high: float, q: float) -> Float:
    """A real number from ``low`` to ``high`` (included), its logarithms equally likely, rounded to a multiple of ``q``.

    Raises:
        ConfigError: If a bound is not a multiple of ``q`` > 0, or ``low >= high``.
    """
    return _float("qloguniform", low, high, q, log=True, quantised=True)


def randint(low: int, high: int) -> Integer:
    """An integer from ``low`` to ``high`` (excluded), all equally likely.

    Raises:
        ConfigError: If a bound is not an integer, or ``low >= high``.
    """
    return _integer("randint", low, high)


def qrandint(low: int, high: int, q: int = 1) -> Integer:
    """An integer from ``low`` to ``high`` (included) that is a multiple of ``q``, all equally likely.

    Differs: Ray Tune rounds an integer to a multiple, which may then lie outside the bounds and favours some.

    Raises:
        ConfigError: If an argument is not an integer, or if there are less than two such multiples.
    """
    return _integer("qrandint", low, high, q, quantised=True)


def lograndint(low: int, high: int) -> Integer:
    """An integer from ``low`` to ``high`` (excluded), its logarithms all equally likely.

    Raises:
        ConfigError: If a bound is not an integer >= 1, or ``low >= high``.
    """
    return _integer("lograndint", low, high, log=True)


def qlograndint(low: int, high: int, q: int) -> Integer:
    """An integer from ``low`` to ``high`` (included), its logarithms equally likely, rounded to a multiple of ``q``.

    Raises:
        ConfigError: If an argument is not an integer >= 1, or if there are less than two such multiples.
    """
    return _integer("qlograndint", low, high, q, log=True, quantised=True)


def randn(mean: float = 0.0, sd: float = 1.0) -> Normal:
    """A normally distributed real number.

    Raises:
        ConfigError: If ``mean`` is not a finite number, or ``sd`` is not one > 0.
    """
    return _normal("randn", mean, sd)


def qrandn(mean: float, sd: float, q: float) -> Normal:
    """A normally distributed real number, rounded to a multiple of ``q``.

    Raises:
        ConfigError: If ``mean`` is not a finite number, or ``sd`` or ``q`` is not one > 0.
    """
    return _normal("qrandn", mean, sd, q, quantised=True)


def choice(options: Iterable[Any]) -> Choice:
    """One of several options of any type, all equally likely.

    An option may itself be a dict or list with domains in it; they are drawn when it is chosen.

    Raises:
        ConfigError: If there is no option, or if their order could differ between two runs.
    """
    return _options("choice", options, Choice)


def grid_search(values: Iterable[Any]) -> GridSearch:
    """Every one of several values, each combined with the values of all other grids.

    Raises:
        ConfigError: If there is no value, or if their order could differ between two runs.
    """
    return _options("grid_search", values, GridSearch)


def sample_from(function: Callable[[Any], Any]) -> SampleFrom:
    """What ``function`` makes of the rest of the configuration.

    It is called with the configuration without the values of later ``sample_from``, which it may address as
    ``config["lr"]``, ``config.lr`` or, as in Ray Tune, ``spec.config.lr``. A value that is JSON is drawn once and
    recorded. For any other value the function is called again whenever the configuration is needed, so it must then
    give the same value each time.

    It may draw from ``random``, ``numpy.random`` and ``torch``: while it runs, their global generators are seeded for
    this parameter of this trial. A generator that it makes itself needs a seed of its own, drawn from one of these.

    Raises:
        ConfigError: If ``function`` cannot be called.
    """
    if not callable(function):
        problems = Problems("sample_from()")
        problems.bad_type(
            "function", function, "a function of the configuration", hint="sample_from(lambda config: ...)"
        )
        problems.raise_if_any()
    return SampleFrom(function)


def _real(value: Any) -> Any:
    """Return any real number that is no bool, such as a numpy scalar, as a Python number; anything else as it is."""
    if isinstance(value, bool | int | float) and type(value) in {bool, int, float}:
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _float(name: str, low: Any, high: Any, q: Any = None, *, log: bool = False, quantised: bool = False) -> Float:
    problems = Problems(f"{name}()")
    low, high, q = _real(low), _real(high), _real(q)
    above = 0.0 if log else -math.inf
    problems.number("low", low, above=above)
    problems.number("high", high, above=above)
    if quantised:
        problems.number("q", q, above=0.0)
    if not problems:
        if low >= high:
            problems.bad_value("high", high, f"> low={low}", hint=_bounds_hint(name, low, high))
        elif not math.isfinite(high - low):
            problems.add(
                "high", f"got {high}, which is too far from low={low}", hint="bring low and high closer together"
            )
        elif quantised:
            _check_steps(problems, low, high, q)
    problems.raise_if_any()
    return Float(float(low), float(high), float(q) if quantised else None, log)


def _bounds_hint(name: str, low: float, high: float) -> str:
    if high < low:
        return f"did you mean {name}({high}, {low})?"
    return f"for a single value, give the value itself: {low}"


def _check_steps(problems: Problems, low: float, high: float, q: float) -> None:
    if not max(abs(low / q), abs(high / q)) < _MAX_STEPS:
        allowed = f"large enough to tell the multiples of it between {low} and {high} apart"
        problems.bad_value("q", q, allowed, hint="give a larger q, or leave out the rounding")
        return
    for field, bound in (("low", low), ("high", high)):
        if not is_multiple(bound, q):
            steps = round(bound / q)
            allowed = f"a multiple of q={q}, such as {steps * q:.12g} or {(steps + 1) * q:.12g}"
            problems.bad_value(field, bound, allowed, hint=f"did you mean {field}={steps * q:.12g}?")


def _integer(name: str, low: Any, high: Any, q: Any = 1, *, log: bool = False, quantised: bool = False) -> Integer:
    problems = Problems(f"{name}()")
    low, high, q = _real(low), _real(high), _real(q)
    least = 1 if log else -_MAX_INT
    problems.integer("low", low, at_least=least, at_most=_MAX_INT)
    problems.integer("high", high, at_least=least, at_most=_MAX_INT)
    if quantised:
        problems.integer("q", q, at_least=1)
    if not problems:
        last = high if quantised else high - 1
        if low >= high:
            problems.bad_value("high", high, f"> low={low}", hint=_bounds_hint(name, low, high))
        elif quantised and last // q - -(-low // q) < 1:
            allowed = f"small enough for two multiples of it between {low} and {high}"
            problems.bad_value("q", q, allowed, hint="give a smaller q, or a wider range")
    problems.raise_if_any()
    return Integer(low, high if quantised else high - 1, q, log)


def _normal(name: str, mean: Any, sd: Any, q: Any = None, *, quantised: bool = False) -> Normal:
    problems = Problems(f"{name}()")
    mean, sd, q = _real(mean), _real(sd), _real(q)
    problems.number("mean", mean)
    problems.number("sd", sd, above=0.0)
    if quantised:
        problems.number("q", q, above=0.0)
    if not problems and not math.isfinite((abs(mean) + 10 * sd) / (q if quantised else 1.0)):
        field, value = ("q", q) if quantised else ("sd", sd)
        problems.bad_value(field, value, "such that no draw overflows", hint="bring the numbers closer together")
    problems.raise_if_any()
    return Normal(float(mean), float(sd), float(q) if quantised else None)


def _options(name: str, options: Any, kind: type[ChoiceT]) -> ChoiceT:
    problems = Problems(f"{name}()")
    allowed = "a list or another sequence with at least one value"
    if isinstance(options, set | frozenset):
        hint = "the order of a set differs between runs; use sorted(...) or a list"
        problems.bad_type("options", options, allowed, hint=hint)
    elif isinstance(options, str | bytes | Mapping | Domain) or not hasattr(options, "__iter__"):
        problems.bad_type("options", options, allowed, hint=f"did you mean {name}([...])?")
    elif isinstance(options, type):
        problems.bad_type("options", options, allowed, hint=f"write out its values: {name}([...])")
    problems.raise_if_any()
    # A numpy array is iterated as numpy scalars; trials want the numbers.
    found = tuple(plain(option) for option in options)
    if not found:
        problems.add("options", f"got no values, but must be {allowed}", hint=f"{name}([32, 64])")
    problems.raise_if_any()
    return kind(found)
