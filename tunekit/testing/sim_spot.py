"""Machines that are taken away: traces of a pool of spot instances, made of a few published figures and one seed.

A trace says of each node from when to when it is there. An instance ends in one of two ways: alone, after a random
life, or in bulk, when half of the pool goes within five minutes. A node that was taken away comes back after an
outage of 10 to 180 minutes, which is its next instance.

``rate_per_h`` counts both ways, per hour in which the instance is there. With lives that know no age (exponential, so
that the next moment is as dangerous as any), bulk events come at the rate that makes up their share: each takes half of
the instances, so there are ``2 * bulk_share * rate_per_h`` of them an hour.

With ``early_share`` lives have the shape of a bathtub instead, as on machines that end after 24 hours at the latest:
some go soon, the others last almost as long as they may.

Sources: rates, sizes of bulk events and outages are those that we computed from the public preemption traces of
SkyPilot (``skypilot-org/spot-traces``; Wu et al., *Can't Be Late*, NSDI 2024): 0.19 to 1.32 preemptions per
instance-hour on AWS, instances available for 31 to 94 % of the time, 7 to 11 of 16 lost at once. Bamboo (Thorpe et al.,
NSDI 2023) gives the same order. Shape of the bathtub: Kadupitiya, Jadhao and Sharma, *Modeling the temporally
constrained preemptions of transient cloud VMs*, HPDC 2020; its figures here are rounded. No trace of theirs is used.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

HOUR_S = 3600.0
_BULK_S = 300.0
"""Within how long a bulk event takes its instances."""
_BULK_TAKES = 0.5
"""Which part of the pool it takes."""
_EARLY_S = HOUR_S
"""Mean life of an instance that goes soon, on machines with a longest life."""
_LATE_S = 0.8 * HOUR_S
"""How long before its longest life any other one goes, on average."""
_LONGEST_S = 24 * HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotMarket:
    """How instances come and go."""

    rate_per_h: float
    """Preemptions per hour of an instance. 0: none, and no bulk events."""
    bulk_share: float = 0.25
    """Which part of the preemptions comes in bulk."""
    outage_s: tuple[float, float] = (600.0, 10_800.0)
    """Shortest and longest time until a node that was taken away is there again."""
    notice_s: float = 0.0
    """How long before its end an instance is told; 0: it is not."""
    early_share: float | None = None
    """Which part of the instances goes early, of those that last 24 hours at most; None: lives know no age, and the
    rate says how long they are."""

    def with_notice(self, notice_s: float) -> SpotMarket:
        """Return the same market, with so many seconds of notice."""
        return replace(self, notice_s=notice_s)


MARKETS = {
    "calm": SpotMarket(rate_per_h=0.02),
    "typical": SpotMarket(rate_per_h=0.2),
    "rough": SpotMarket(rate_per_h=0.5),
    "brutal": SpotMarket(rate_per_h=1.5),
}
"""By name, from the calmest of the published zones to the roughest."""
BATHTUB = SpotMarket(rate_per_h=0.0, notice_s=30.0, early_share=0.45)
"""Machines that last 24 hours at most: about 0.08 preemptions an hour, of which few are in the middle of a life."""


class Instance(NamedTuple):
    """One machine, from when it is there until it is taken away."""

    since: float
    until: float
    """May lie beyond the end of the trace."""
    node: int
    """Which place in the pool it holds, from 0."""
    in_bulk: bool
    """Whether it goes together with others."""


def make_trace(market: SpotMarket, *, num_nodes: int, length_s: float, seed: int) -> list[Instance]:
    """Return every instance of the pool, in the order in which they come. The pool is whole at the beginning.

    Args:
        market: How they come and go.
        num_nodes: Size of the pool.
        length_s: How long the trace is.
        seed: Decides everything.
    """
    rng = random.Random(f"bulk {seed}")  # noqa: S311 - the whole point is to be repeatable
    bulk = [
        (at + _BULK_S * rng.random(), node)
        for at in _bulk_events(market, length_s, rng)
        for node in rng.sample(range(num_nodes), round(_BULK_TAKES * num_nodes))
    ]
    instances = [
        instance
        for node in range(num_nodes)
        for instance in _lives(market, node, sorted(at for at, other in bulk if other == node), length_s, seed)
    ]
    return sorted(instances)


def _bulk_events(market: SpotMarket, length_s: float, rng: random.Random) -> Iterator[float]:
    per_s = market.rate_per_h * market.bulk_share / _BULK_TAKES / HOUR_S
    at = rng.expovariate(per_s) if per_s else length_s
    while at < length_s:
        yield at
        at += rng.expovariate(per_s)


def _lives(market: SpotMarket, node: int, bulk: list[float], length_s: float, seed: int) -> Iterator[Instance]:
    """Yield the instances at one place. Each place has chances of its own, so that a larger pool has the same ones."""
    rng = random.Random(f"node {seed} {node}")  # noqa: S311 - the whole point is to be repeatable
    since = 0.0
    while since < length_s:
        alone = since + _life_s(market, rng)
        taken = next((at for at in bulk if since < at < alone), None)
        yield Instance(since, alone if taken is None else taken, node, taken is not None)
        since = (alone if taken is None else taken) + rng.uniform(*market.outage_s)


def _life_s(market: SpotMarket, rng: random.Random) -> float:
    """Draw how long an instance lives that goes alone."""
    if market.early_share is None:
        per_s = market.rate_per_h * (1 - market.bulk_share) / HOUR_S
        return rng.expovariate(per_s) if per_s else float("inf")
    is_early = rng.random() < market.early_share
    life_s = rng.expovariate(1 / _EARLY_S) if is_early else _LONGEST_S - rng.expovariate(1 / _LATE_S)
    return min(max(life_s, 1.0), _LONGEST_S)
