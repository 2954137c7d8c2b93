"""Each domain maps every number in [0, 1) into its bounds, monotonically, and with the right weights."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from statistics import fmean, median, stdev
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tunekit import space as tk
from tunekit.errors import ConfigError, ConfigTypeError
from tunekit.space.domains import Drawn

LAST = math.nextafter(1.0, 0.0)
us = st.floats(0, LAST)
finite = st.floats(-1e300, 1e300)
GRID = [(k + 0.5) / 4000 for k in range(4000)]

EXAMPLES: list[Drawn] = [
    tk.uniform(-3, 2),
    tk.quniform(-3, 2, 0.5),
    tk.loguniform(1e-4, 1e-1),
    tk.qloguniform(1e-4, 1e-1, 5e-5),
    tk.randint(-9, 15),
    tk.qrandint(-21, 12, 3),
    tk.lograndint(1, 1000),
    tk.qlograndint(1, 10, 2),
    tk.randn(10, 2),
    tk.qrandn(10, 2, 0.2),
    tk.choice(["a", None, 3]),
    tk.grid_search([1, 2, 4]),
]


@pytest.mark.parametrize("domain", EXAMPLES, ids=repr)
def test_what_is_drawn_is_journalled_and_read_back(domain: Drawn) -> None:
    for u in [0.0, 0.3, LAST]:
        drawn = domain.draw(u)
        again = msgspec.json.decode(msgspec.json.encode(drawn))
        assert again == drawn
        assert type(again) is type(drawn)
        assert domain.why_not(again) == ""
        assert domain.value(again) == domain.sample(u)


@pytest.mark.parametrize("domain", EXAMPLES, ids=repr)
def test_repr_is_the_call_that_makes_it(domain: Drawn) -> None:
    assert eval(repr(domain), vars(tk)) == domain


@pytest.mark.parametrize("domain", EXAMPLES, ids=repr)
def test_only_equal_domains_have_equal_signatures(domain: Drawn) -> None:
    assert [other for other in EXAMPLES if other == domain] == [domain]
    assert [other for other in EXAMPLES if other.signature() == domain.signature()] == [domain]
    assert msgspec.json.decode(msgspec.json.encode(domain.signature())) == domain.signature()


@pytest.mark.parametrize("domain", [d for d in EXAMPLES if isinstance(d, tk.Numeric)], ids=repr)
def test_draws_never_fall_as_u_grows(domain: tk.Numeric) -> None:
    """Inverse transform: a larger u is a larger value."""
    values = [domain.sample(u) for u in GRID]
    assert values == sorted(values)
    assert all(domain.excludes(value) == "" for value in values)


@given(finite, finite, us)
@example(-1e300, 1e300, LAST)
@example(0.0, 5e-324, LAST)
@example(1.0, math.nextafter(1.0, 2.0), LAST)
def test_uniform_stays_below_its_upper_bound(low: float, high: float, u: float) -> None:
    assume(low < high)
    value = tk.uniform(low, high).sample(u)
    assert low <= value < high


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300), us)
@example(1e-4, 1e-1, LAST)
def test_loguniform_stays_below_its_upper_bound(low: float, high: float, u: float) -> None:
    assume(low < high)
    assert low <= tk.loguniform(low, high).sample(u) < high


@given(st.integers(-(2**62), 2**62), st.integers(1, 2**61), us)
@example(0, 1, LAST)
@example(-(2**62), 2**61, LAST)
def test_randint_stays_below_its_upper_bound(low: int, span: int, u: float) -> None:
    value = tk.randint(low, low + span).sample(u)
    assert type(value) is int
    assert low <= value < low + span


@given(st.integers(1, 2**53), st.integers(1, 2**53), us)
def test_lograndint_stays_below_its_upper_bound(low: int, span: int, u: float) -> None:
    assert low <= tk.lograndint(low, low + span).sample(u) < low + span


@given(st.integers(-1000, 1000), st.integers(1, 1000), st.sampled_from([0.1, 0.25, 0.3, 1e-3, 2.0, 7.0]), us)
def test_quniform_gives_exact_multiples_with_both_bounds(first: int, steps: int, q: float, u: float) -> None:
    exact = Fraction(repr(q))
    low, high = float(first * exact), float((first + steps) * exact)
    domain = tk.quniform(low, high, q)
    value = domain.sample(u)
    assert low <= value <= high
    assert (Fraction(repr(value)) / exact).denominator == 1
    assert (domain.sample(0.0), domain.sample(LAST)) == (low, high)


def test_decimal_steps_look_as_they_were_written() -> None:
    values = {tk.quniform(0, 1, 0.1).sample(u) for u in GRID}
    assert sorted(values) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


@given(st.integers(-1000, 1000), st.integers(1, 1000), st.integers(1, 50), us)
def test_qrandint_gives_multiples_within_both_bounds(low: int, span: int, q: int, u: float) -> None:
    assume((low + span) // q - -(-low // q) >= 1)
    value = tk.qrandint(low, low + span, q).sample(u)
    assert low <= value <= low + span
    assert value % q == 0


def share(domain: Drawn) -> Counter[Any]:
    return Counter(domain.sample(u) for u in GRID)


def test_integers_are_equally_likely() -> None:
    assert set(share(tk.randint(0, 8)).values()) == {500}
    assert set(share(tk.qrandint(1, 9, 2)).values()) == {1000}
    assert set(share(tk.choice("abcde".__iter__())).values()) == {800}


def test_rounding_halves_the_outermost_steps() -> None:
    assert share(tk.quniform(0, 2, 1)) == {0.0: 1000, 1.0: 2000, 2.0: 1000}


def test_log_domains_are_uniform_in_the_logarithm() -> None:
    decades = Counter(math.floor(math.log10(tk.loguniform(1e-4, 1).sample(u))) for u in GRID)
    assert set(decades.values()) == {1000}
    octaves = Counter(tk.lograndint(1, 16).sample(u).bit_length() for u in GRID)
    assert set(octaves.values()) == {1000}
    assert set(share(tk.qlograndint(1, 10, 2))) == {2, 4, 6, 8, 10}


def test_normal_has_mean_and_deviation() -> None:
    values = [tk.randn(10, 2).sample(u) for u in GRID]
    assert fmean(values) == pytest.approx(10, abs=1e-6)
    assert stdev(values) == pytest.approx(2, rel=1e-2)
    assert median(values) == pytest.approx(10, abs=1e-2)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), us)
@example(0.0, 1.0, 0.0)
def test_normal_is_always_finite(mean: float, sd: float, u: float) -> None:
    value = tk.randn(mean, sd).sample(u)
    assert abs(value - mean) <= 9 * sd + 1e-6


Call = Callable[[], Any]
REFUSED: list[tuple[Call, str]] = [
    (lambda: tk.uniform(1, 1), "high: got 1, but must be > low=1"),
    (lambda: tk.uniform(1, 0), "high"),
    (lambda: tk.uniform(0, math.nan), "high"),
    (lambda: tk.uniform(-math.inf, 1), "low"),
    (lambda: tk.uniform(-1e308, 1e308), "too far"),
    (lambda: tk.loguniform(0, 1), "low: got 0, but must be a finite number > 0"),
    (lambda: tk.loguniform(-1, 1), "low"),
    (lambda: tk.quniform(0, 1, 0), "q: got 0"),
    (lambda: tk.quniform(0, 1, -0.1), "q"),
    (lambda: tk.quniform(0, 1, 0.3), "high: got 1, but must be a multiple of q=0.3, such as 0.9 or 1.2"),
    (lambda: tk.quniform(0.05, 1, 0.1), "low"),
    (lambda: tk.quniform(0, 1, 2), "high"),
    (lambda: tk.quniform(0, 1e300, 1e-300), "q"),
    (lambda: tk.qloguniform(0, 1, 0.1), "low"),
    (lambda: tk.randint(3, 3), "high"),
    (lambda: tk.randint(0, 2**63), "high"),
    (lambda: tk.lograndint(0, 3), "low"),
    (lambda: tk.qrandint(1, 10, 20), "q: got 20, but must be small enough"),
    (lambda: tk.qrandint(0, 10, 0), "q"),
    (lambda: tk.qlograndint(0, 10, 2), "low"),
    (lambda: tk.randn(0, 0), "sd"),
    (lambda: tk.randn(math.nan, 1), "mean"),
    (lambda: tk.randn(0, 1e308), "sd"),
    (lambda: tk.qrandn(0, 1, 0), "q"),
    (lambda: tk.choice([]), "got no values"),
    (lambda: tk.grid_search(()), "got no values"),
]
WRONG_TYPES: list[tuple[Call, str]] = [
    (lambda: tk.uniform("0", 1), "low"),  # type: ignore[arg-type]  # on purpose
    (lambda: tk.uniform(True, 2), "low"),  # noqa: FBT003 - on purpose
    (lambda: tk.quniform(0, 1, None), "q"),  # type: ignore[arg-type]  # on purpose
    (lambda: tk.randint(1, 10.0), "did you mean high=10"),  # type: ignore[arg-type]  # on purpose
    (lambda: tk.randint(False, 3), "low"),  # noqa: FBT003 - on purpose
    (lambda: tk.choice({1, 2}), "sorted"),
    (lambda: tk.choice("abc"), r"choice\(\[...\]\)"),
    (lambda: tk.choice({"a": 1}), "options"),
    (lambda: tk.choice(3), "options"),  # type: ignore[arg-type]  # on purpose
    (lambda: tk.grid_search(tk.uniform(0, 1)), "options"),  # type: ignore[arg-type]  # on purpose
    (lambda: tk.sample_from(3), "function"),  # type: ignore[arg-type]  # on purpose
]


@pytest.mark.parametrize(("make", "says"), REFUSED + WRONG_TYPES)
def test_bad_arguments_are_refused(make: Call, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize(("make", "says"), WRONG_TYPES)
def test_wrong_types_are_type_errors(make: Call, says: str) -> None:
    with pytest.raises(ConfigTypeError, match=says):
        make()


def test_both_bad_bounds_are_reported() -> None:
    with pytest.raises(ConfigError, match=r"(?s)loguniform\(\) has 2 problems.*low:.*high:"):
        tk.loguniform(0, math.inf)


def test_numpy_numbers_become_python_numbers() -> None:
    low, high, half = np.array([1])[0], np.int32(9), np.float32(0.5)
    domain = tk.randint(low, high)  # type: ignore[arg-type]  # as users do
    assert (type(domain.low), type(domain.high)) == (int, int)
    assert type(tk.uniform(half, np.float64(1)).sample(0.5)) is float  # type: ignore[arg-type]  # as users do
    assert [type(option) for option in tk.choice(np.arange(3)).options] == [int, int, int]
    assert tk.choice(np.linspace(0, 1, 3)) == tk.choice([0.0, 0.5, 1.0])


def test_a_float_read_back_as_an_integer_is_a_float_again() -> None:
    assert type(tk.uniform(0, 2).value(1)) is float
    assert type(tk.randn().value(1)) is float


@pytest.mark.parametrize(
    ("domain", "drawn"),
    [
        (tk.choice([1, 2, 3]), 3),
        (tk.choice([1, 2, 3]), -1),
        (tk.choice([1, 2, 3]), True),
        (tk.choice([1, 2, 3]), 1.0),
        (tk.uniform(0, 1), "0.5"),
        (tk.uniform(0, 1), None),
        (tk.uniform(0, 1), math.nan),
        (tk.randint(0, 9), 1.5),
        (tk.randint(0, 9), True),
    ],
)
def test_what_cannot_have_been_drawn_is_told(domain: Drawn, drawn: object) -> None:
    assert domain.why_not(drawn).startswith("got ")


def test_numbers_outside_changed_bounds_are_still_read() -> None:
    """The bounds may have been narrowed since; the old trials stay what they were."""
    assert tk.uniform(0, 0.2).why_not(0.5) == ""
    assert tk.uniform(0, 0.2).excludes(0.5) == "must be from 0.0 to 0.2 (excluded)"
    assert tk.uniform(0, 1).excludes(1) != ""
    assert tk.quniform(0, 1, 0.1).excludes(1) == ""
    assert tk.quniform(0, 1, 0.1).excludes(0.25) == "must be a multiple of 0.1"
    assert tk.randint(0, 5).excludes(5) != ""


def test_domains_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tk.uniform(0, 1).low = 3  # type: ignore[misc]  # on purpose
