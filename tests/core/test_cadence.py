"""How often to save: the optimum against brute force, its bounds, and what is learned from losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.cadence import (
    HALF_LIFE_S,
    LARGEST_SHARE,
    LONGEST_S,
    PRIOR_S,
    SHORTEST_S,
    Exposure,
    Measured,
    Outlook,
    bounded_s,
    is_better_now,
    optimum_s,
    waste,
)

H = 3600.0
COSTS = st.floats(1e-3, 300.0)
MEANS = st.floats(300.0, 1e7)
SECONDS = st.floats(0.0, 1e4)


def lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one valley is lowest, by looking at more and more places."""
    for _ in range(14):
        places = [low * (high / low) ** (i / 10) for i in range(11)]
        at = min(range(11), key=lambda i: function(places[i]))
        low, high = places[max(0, at - 1)], places[min(10, at + 1)]
    return math.sqrt(low * high)


def daly(interval_s: float, blocked_s: float, mean_s: float) -> float:
    """Return how much longer work takes, exactly: losses are exponential, and hit saves and repeated work as well."""
    return mean_s * math.expm1((interval_s + blocked_s) / mean_s) / interval_s - 1.0


def first_order(interval_s: float, blocked_s: float, mean_s: float) -> float:
    """Return which share of the work saves and lost work cost together, as Young has it."""
    return blocked_s / interval_s + interval_s / (2.0 * mean_s)


# -- the optimum -------------------------------------------------------------------------------------------------------


@given(COSTS, MEANS)
def test_no_other_interval_wastes_noticeably_less(blocked_s: float, mean_s: float) -> None:
    """To first order and exactly, wherever saving is cheap beside a loss."""
    chosen = optimum_s(blocked_s, mean_s)
    best = lowest(lambda interval_s: daly(interval_s, blocked_s, mean_s), 1e-3, 20 * mean_s)
    assert daly(chosen, blocked_s, mean_s) <= 1.01 * daly(best, blocked_s, mean_s)
    if blocked_s < mean_s / 100:
        best = lowest(lambda interval_s: first_order(interval_s, blocked_s, mean_s), 1e-3, 20 * mean_s)
        assert best == pytest.approx(math.sqrt(2 * blocked_s * mean_s), rel=1e-3)
        assert first_order(chosen, blocked_s, mean_s) <= 1.01 * first_order(best, blocked_s, mean_s)


@pytest.mark.parametrize(
    ("blocked_s", "mean_s", "interval_s"), [(20, 0.5 * H, 255), (20, 10 * H, 1187), (1, 2 * H, 119)]
)
def test_known_optima(blocked_s: float, mean_s: float, interval_s: float) -> None:
    assert optimum_s(blocked_s, mean_s) == pytest.approx(interval_s, abs=1)


@given(COSTS, MEANS, st.floats(1.0, 1e6))
def test_what_is_wasted_is_a_share_of_the_time(blocked_s: float, mean_s: float, interval_s: float) -> None:
    """Exactly; to first order it is what Young has, wherever that is little."""
    share = waste(interval_s, blocked_s, mean_s)
    assert 0.0 <= share <= 1.0
    if interval_s + blocked_s < 100 * mean_s:
        assert share == pytest.approx(1.0 - 1.0 / (1.0 + daly(interval_s, blocked_s, mean_s)), abs=1e-9)
    if (young := first_order(interval_s, blocked_s, mean_s)) < 0.1:
        assert share == pytest.approx(young, abs=2 * young**2)


def test_saves_that_take_longer_than_a_machine_lives() -> None:
    assert optimum_s(200.0, 100.0) == optimum_s(1e9, 100.0) == 100.0


@given(COSTS, SECONDS, MEANS, st.floats(1.0, 10.0))
def test_it_is_longer_the_dearer_saves_and_the_rarer_losses(
    blocked_s: float, durable_s: float, mean_s: float, more: float
) -> None:
    interval_s = bounded_s(blocked_s, durable_s, mean_s)
    nearly = interval_s * (1 - 1e-9)
    assert bounded_s(more * blocked_s, durable_s, mean_s) >= nearly
    assert bounded_s(blocked_s, more * durable_s, mean_s) >= nearly
    assert bounded_s(blocked_s, durable_s, more * mean_s) >= nearly


@given(st.floats(1e-3, 1e4), MEANS)
def test_bounds_cost_nothing_where_saves_are_dear(blocked_s: float, mean_s: float) -> None:
    """Whatever is within them wastes as much or more, exactly, also where a save takes as long as a machine lives."""
    chosen = bounded_s(blocked_s, blocked_s, mean_s)
    low, high = max(SHORTEST_S, blocked_s), max(LONGEST_S, blocked_s / LARGEST_SHARE)
    best = lowest(lambda interval_s: daly(interval_s, blocked_s, mean_s), low, high)
    assert 1.0 + daly(chosen, blocked_s, mean_s) <= 1.01 * (1.0 + daly(best, blocked_s, mean_s))


@pytest.mark.parametrize(
    ("blocked_s", "durable_s", "mean_s", "interval_s"),
    [
        (0.001, 0.1, H, SHORTEST_S),
        (0.5, 700.0, H, 700.0),
        (100.0, 100.0, 0.1 * H, optimum_s(100.0, 0.1 * H)),
        (LONGEST_S, LONGEST_S, 1000 * H, LONGEST_S / LARGEST_SHARE),
        (60.0, 60.0, 1000 * H, LONGEST_S),
        (60.0, 2 * LONGEST_S, 1000 * H, 2 * LONGEST_S),
        (1.0, 5.0, 4 * H, optimum_s(1.0, 4 * H)),
    ],
)
def test_bounds(blocked_s: float, durable_s: float, mean_s: float, interval_s: float) -> None:
    assert bounded_s(blocked_s, durable_s, mean_s) == pytest.approx(interval_s)


@given(st.floats(0.0, 1e3), st.floats(1e-3, 1e3), st.floats(1.0, 1e3))
def test_the_better_of_two_rows_is_saved(elapsed_s: float, step_s: float, interval_s: float) -> None:
    """Whatever C and M lead to this interval."""
    mean_s = 1e5
    blocked_s = interval_s**2 / (2 * mean_s)
    now, later = elapsed_s, elapsed_s + step_s
    if now == 0.0:
        assert not is_better_now(now, step_s, interval_s)
    elif first_order(now, blocked_s, mean_s) != pytest.approx(first_order(later, blocked_s, mean_s), rel=1e-9):
        is_better = first_order(now, blocked_s, mean_s) < first_order(later, blocked_s, mean_s)
        assert is_better_now(now, step_s, interval_s) is is_better


# -- what was measured -------------------------------------------------------------------------------------------------


def test_a_first_measurement_counts_until_there_is_another() -> None:
    measured = Measured()
    measured.add(5.0)
    assert measured.value == 5.0
    measured.add(1.0)
    assert measured.value == 1.0
    measured.add(2.0)
    assert measured.value == pytest.approx(1.2)


def test_a_mean_does_not_fall_for_one_exception_and_follows_a_change() -> None:
    measured = Measured()
    for _ in range(5):
        measured.add(1.0)
    measured.add(1000.0)
    assert measured.value == pytest.approx(1.6)
    for _ in range(60):
        measured.add(1000.0)
    assert measured.value == pytest.approx(1000.0, rel=0.01)


# -- what was seen -----------------------------------------------------------------------------------------------------


def test_as_long_as_nothing_is_known_a_loss_is_expected_in_four_hours() -> None:
    assert Outlook().mean_s == PRIOR_S == 4 * H
    assert Outlook().interval_s is None
    assert Outlook(blocked_s=1.0).interval_s == pytest.approx(optimum_s(1.0, 4 * H))


def test_trials_that_run_without_a_loss_make_losses_rarer_and_losses_more_frequent() -> None:
    exposure = Exposure()
    for _ in range(3):
        exposure.begin(0.0)
    assert exposure.outlook(2 * H).mean_s == pytest.approx(10 * H)
    exposure.lose(2 * H)
    assert exposure.outlook(2 * H).mean_s == pytest.approx(5 * H)
    exposure.lose(2 * H, spared=True)
    assert exposure.outlook(2 * H).mean_s == pytest.approx(5 * H)
    assert exposure.outlook(2 * H).spared == 1.0
    exposure.end(2 * H)
    assert exposure.outlook(3 * H).uptime_s == pytest.approx(8 * H)


def test_what_was_seen_counts_half_after_each_day() -> None:
    exposure = Exposure()
    exposure.begin(0.0)
    exposure.lose(H)
    exposure.end(12 * H)
    late = exposure.outlook(HALF_LIFE_S * 2.5)
    assert (late.uptime_s, late.losses) == (3 * H, 0.25)
    assert exposure.outlook(HALF_LIFE_S * 1000).mean_s == pytest.approx(PRIOR_S)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 2 * HALF_LIFE_S), st.sampled_from(["begin", "end", "lose", "ask", "spare"])),
        max_size=12,
    )
)
def test_any_history_counts_as_the_oracle_says(steps: list[tuple[float, str]]) -> None:
    """Each second and each loss by itself, halved by each midnight since. Asking changes nothing, to the last bit."""
    exposure, silent = Exposure(), Exposure()
    now, running = 0.0, 0
    spans: list[tuple[float, float, int]] = []
    losses: list[float] = []
    for wait_s, what in steps:
        spans.append((now, now + wait_s, running))
        now += wait_s
        if what == "ask":
            before = copy.deepcopy(exposure)
            exposure.outlook(now)
            assert exposure == before
            continue
        if what == "end" and not running:
            continue
        for each in (exposure, silent):
            if what in {"lose", "spare"}:
                each.lose(now, spared=what == "spare")
            else:
                getattr(each, what)(now)
        running += {"begin": 1, "end": -1}.get(what, 0)
        losses += [now] if what == "lose" else []
    told = exposure.outlook(now)
    assert told == silent.outlook(now)
    assert told.uptime_s == pytest.approx(sum(_halved(span, now) for span in spans), rel=1e-6, abs=0.01)
    assert told.losses == pytest.approx(sum(_weight(at, now) for at in losses), rel=1e-6, abs=1e-5)


def _weight(at: float, now: float) -> float:
    return math.pow(0.5, now // HALF_LIFE_S - at // HALF_LIFE_S)


def _halved(span: tuple[float, float, int], now: float) -> float:
    begin, end, running = span
    total = 0.0
    for day in range(int(begin // HALF_LIFE_S), int(end // HALF_LIFE_S) + 1):
        seconds = min(end, (day + 1) * HALF_LIFE_S) - max(begin, day * HALF_LIFE_S)
        total += running * seconds * _weight(day * HALF_LIFE_S, now)
    return total
