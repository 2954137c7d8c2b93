"""What a simulated week on spot instances wastes: an interval that sets itself, against every fixed one of a grid.

The production core, its driver and its ledger run in virtual time (``tunekit.testing.sim_spot_week``). No Ray, no disk.

Run it with ``python benchmarks/spot.py --seeds 5``: one table over markets and workloads, a second one over notices,
and each week's figures on stderr. Each seed is a week of its own: other machines, other trials. It exits with 1 if
"auto" is worse than it may be in any week of any market and workload: more than 10 % and more than 0.3 points of the
leased time above what was, for that very week, the best fixed interval.

Waste falls with the interval up to the best one and rises behind it. So not all of the grid is tried: from the interval
that theory gives, the search goes on to both sides until one wastes more than the best so far, and not only by chance.

``--quick`` takes a shorter time and one workload, ``--notices`` prints the second table alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from tunekit.core.cadence import optimum_s
from tunekit.testing.sim_spot import BATHTUB, HOUR_S, MARKETS, SpotMarket
from tunekit.testing.sim_spot_week import WEEK_S, SpotPlan, SpotWeek
from tunekit.testing.sim_spot_workers import Workload

GRID_S = (30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
WORKLOADS = {
    "light": Workload(block_s=0.1, persist_s=1.0),
    "middle": Workload(block_s=1.0, persist_s=10.0),
    "heavy": Workload(block_s=10.0, persist_s=60.0),
}
NODES = 4
"""Of two places each, so eight trials at a time."""
RELATIVE, POINTS = 0.1, 0.003
"""What "auto" may waste more than the best of the grid: the larger of the two."""
CLEARLY = 1.03
"""An interval that wastes so many times what the best one does lies beyond it."""
NOTICES_S = (0.0, 30.0, 120.0)


@dataclass(frozen=True, slots=True)
class Job:
    """One week of one cell of the table."""

    market: str
    workload: str
    length_s: float
    seed: int

    @property
    def plan(self) -> SpotPlan:
        """What the week is like, with an interval that sets itself."""
        market, workload = MARKETS[self.market], WORKLOADS[self.workload]
        return SpotPlan(market=market, workload=workload, num_nodes=NODES, length_s=self.length_s)


@dataclass(frozen=True, slots=True)
class Found:
    """What one week wastes with "auto", and with the fixed intervals that were tried."""

    auto: float
    fixed: dict[float, float]

    @property
    def best_s(self) -> float:
        """The fixed interval that wastes least."""
        return min(self.fixed, key=self.fixed.__getitem__)

    @property
    def best(self) -> float:
        """What it wastes."""
        return self.fixed[self.best_s]

    @property
    def excess(self) -> float:
        """How much more "auto" wastes than the best fixed interval."""
        return self.auto - self.best

    @property
    def holds(self) -> bool:
        """Whether "auto" is as good as it must be."""
        return self.excess <= max(RELATIVE * self.best, POINTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and return 0 if "auto" is as good as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two days instead of a week, and one workload")
    parser.add_argument("--notices", action="store_true", help="the table over notices, and no other")
    parser.add_argument("--seeds", type=int, default=5, help="weeks for each row of the table")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args(arguments)
    length_s = 48 * HOUR_S if args.quick else WEEK_S
    workloads = ["middle"] if args.quick else list(WORKLOADS)
    with ProcessPoolExecutor(args.jobs) as pool:
        is_good = args.notices or compare(pool, workloads, length_s, args.seeds)
        show_notices(pool, length_s, args.seeds)
    return 0 if is_good else 1


def compare(pool: ProcessPoolExecutor, workloads: Sequence[str], length_s: float, num_seeds: int) -> bool:
    """Print what is wasted under each market and workload, and return whether "auto" is good in every week."""
    cells = [(market, name) for market in MARKETS for name in workloads]
    jobs = [Job(market, name, length_s, seed) for seed in range(num_seeds) for market, name in cells]
    weeks: dict[tuple[str, str], list[Found]] = {cell: [] for cell in cells}
    for job, found in zip(jobs, pool.map(explore, jobs), strict=True):
        weeks[job.market, job.workload].append(found)
        tried = ", ".join(f"{span(every_s)} {percent(share)}" for every_s, share in sorted(found.fixed.items()))
        verdict = "" if found.holds else ": too much"
        print(
            f"seed {job.seed} {job.market} {job.workload}: auto {percent(found.auto)}{verdict}; {tried}",
            file=sys.stderr,
            flush=True,
        )
    print('| market | trials | save waits | "auto" | best fixed | which is | more than that | within the bar |')
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for cell, founds in weeks.items():
        print(row(*cell, founds), flush=True)
    return all(found.holds for founds in weeks.values() for found in founds)


def row(market: str, workload: str, founds: Sequence[Found]) -> str:
    """Return one row of the table: medians over the weeks, and in brackets the worst of them."""
    intervals = sorted({found.best_s for found in founds})
    which = span(intervals[0]) if len(intervals) == 1 else f"{span(intervals[0])} to {span(intervals[-1])}"
    num_good = sum(found.holds for found in founds)
    cells = [
        market,
        workload,
        f"{WORKLOADS[workload].block_s:g} s",
        median_and_worst(percent, [found.auto for found in founds]),
        median_and_worst(percent, [found.best for found in founds]),
        which,
        median_and_worst(points, [found.excess for found in founds]),
        f"{num_good} of {len(founds)}{'' if num_good == len(founds) else ' (too much)'}",
    ]
    return f"| {' | '.join(cells)} |"


def explore(job: Job) -> Found:
    """Run a week with "auto", and with fixed intervals until the best one is found."""
    fixed: dict[float, float] = {}

    def waste_at(place: int) -> float:
        every_s = GRID_S[place]
        if every_s not in fixed:
            fixed[every_s] = waste(replace(job.plan, every_s=every_s), job.seed)
        return fixed[every_s]

    guess_s = optimum_s(job.plan.workload.block_s, HOUR_S / job.plan.market.rate_per_h)
    first = min(range(len(GRID_S)), key=lambda place: max(GRID_S[place] / guess_s, guess_s / GRID_S[place]))
    least = waste_at(first)
    for places in (range(first + 1, len(GRID_S)), range(first - 1, -1, -1)):
        for place in places:
            if waste_at(place) > CLEARLY * least:
                break
            least = min(least, waste_at(place))
    return Found(waste(job.plan, job.seed), fixed)


def show_notices(pool: ProcessPoolExecutor, length_s: float, num_seeds: int) -> None:
    """Print what "auto" wastes where the end of a machine is announced: the median over the weeks."""
    print("\n| market | no notice | 30 s | 120 s |\n|---|---:|---:|---:|")
    markets: dict[str, SpotMarket] = {**MARKETS, "24 hours at most": BATHTUB}
    for name, market in markets.items():
        plan = SpotPlan(market=market, workload=WORKLOADS["middle"], num_nodes=NODES, length_s=length_s)
        plans = [replace(plan, market=market.with_notice(notice_s)) for notice_s in NOTICES_S for _ in range(num_seeds)]
        shares = list(pool.map(waste, plans, [*range(num_seeds)] * len(NOTICES_S)))
        medians = [statistics.median(shares[first : first + num_seeds]) for first in range(0, len(shares), num_seeds)]
        print(f"| {name} | {' | '.join(percent(share) for share in medians)} |", flush=True)


def waste(plan: SpotPlan, seed: int) -> float:
    """Return the part of the leased time that one week wastes."""
    return SpotWeek(plan, seed).run().wasted


def median_and_worst(shown: Callable[[float], str], shares: Sequence[float]) -> str:
    """Return both, the worst in brackets."""
    return f"{shown(statistics.median(shares))} ({shown(max(shares))})"


def percent(share: float) -> str:
    """Return a share as people write it."""
    return f"{share:.2%}"


def points(share: float) -> str:
    """Return a difference of two shares, in points."""
    return f"{100 * share:+.2f}"


def span(seconds: float) -> str:
    """Return a length of time as people write it."""
    if seconds >= HOUR_S:
        return f"{seconds / HOUR_S:g} h"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
