"""Traces of spot instances have the rates that were published, and nothing else moves them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tunekit.testing.sim_spot import BATHTUB, HOUR_S, MARKETS, Instance, SpotMarket, make_trace

NODES = 16
LENGTH_S = 500 * HOUR_S


def hours_and_ends(trace: list[Instance], length_s: float = LENGTH_S) -> tuple[float, list[Instance]]:
    """Return the hours in which instances were there, and those that were taken away."""
    hours = sum(min(instance.until, length_s) - instance.since for instance in trace) / HOUR_S
    return hours, [instance for instance in trace if instance.until < length_s]


@pytest.mark.parametrize("name", MARKETS)
def test_a_market_takes_as_many_as_it_says(name: str) -> None:
    """Alone and in bulk together, per hour of an instance."""
    market = MARKETS[name]
    length_s = LENGTH_S / market.rate_per_h
    hours, ends = hours_and_ends(make_trace(market, num_nodes=NODES, length_s=length_s, seed=3), length_s)
    assert len(ends) / hours == pytest.approx(market.rate_per_h, rel=0.08)
    assert sum(instance.in_bulk for instance in ends) / len(ends) == pytest.approx(market.bulk_share, abs=0.05)


def test_instances_are_there_for_as_much_of_the_time_as_published() -> None:
    """From 31 % in the worst zone to 94 % in the best, or more in one that is calm."""
    shares = [
        hours_and_ends(make_trace(market, num_nodes=NODES, length_s=LENGTH_S, seed=4))[0] * HOUR_S / NODES / LENGTH_S
        for market in MARKETS.values()
    ]
    assert shares == sorted(shares, reverse=True)
    assert 0.9 < shares[0] < 1.0
    assert 0.25 < shares[-1] < 0.4


def test_in_bulk_half_of_the_pool_goes_within_five_minutes() -> None:
    """Those of it that are there."""
    market = SpotMarket(rate_per_h=0.1, bulk_share=1.0, outage_s=(1_200.0, 1_200.0))
    trace = make_trace(market, num_nodes=NODES, length_s=LENGTH_S, seed=5)
    ends = sorted(instance.until for instance in trace if instance.in_bulk)
    groups = [0]
    for before, at in pairwise([-LENGTH_S, *ends]):
        groups.append(1) if at - before > 600 else groups.__setitem__(-1, groups[-1] + 1)
    assert len(groups) > 50
    assert sum(num == NODES / 2 for num in groups) > 0.8 * len(groups)


def test_a_node_is_one_machine_at_a_time_and_comes_back_after_an_outage() -> None:
    """Between the shortest and the longest of them."""
    market = MARKETS["brutal"]
    trace = make_trace(market, num_nodes=NODES, length_s=LENGTH_S, seed=6)
    for node in range(NODES):
        lives = [instance for instance in trace if instance.node == node]
        assert lives[0].since == 0
        for before, after in pairwise(lives):
            assert before.since < before.until
            assert market.outage_s[0] <= after.since - before.until <= market.outage_s[1]
        assert lives[-1].until + market.outage_s[1] >= LENGTH_S


def test_a_bathtub_ends_lives_early_or_late() -> None:
    """And never after 24 hours."""
    trace = make_trace(BATHTUB, num_nodes=NODES, length_s=LENGTH_S, seed=7)
    lives = [(instance.until - instance.since) / HOUR_S for instance in trace]
    assert max(lives) <= 24
    assert sum(life < 4 for life in lives) / len(lives) == pytest.approx(0.45, abs=0.05)
    assert sum(4 <= life < 20 for life in lives) < 0.02 * len(lives)


def test_a_seed_is_a_trace_and_a_larger_pool_holds_the_smaller_one() -> None:
    """Notice changes no machine's life."""
    calm = SpotMarket(rate_per_h=0.3, bulk_share=0.0)
    small = make_trace(calm, num_nodes=4, length_s=LENGTH_S, seed=8)
    assert small == make_trace(calm.with_notice(120.0), num_nodes=4, length_s=LENGTH_S, seed=8)
    assert small != make_trace(calm, num_nodes=4, length_s=LENGTH_S, seed=9)
    large = make_trace(calm, num_nodes=8, length_s=LENGTH_S, seed=8)
    assert small == [instance for instance in large if instance.node < 4]


def test_without_preemptions_nothing_ends() -> None:
    """Neither alone nor in bulk."""
    trace = make_trace(SpotMarket(rate_per_h=0.0), num_nodes=3, length_s=LENGTH_S, seed=1)
    assert trace == [Instance(0.0, float("inf"), node, in_bulk=False) for node in range(3)]
