"""What a simulated week on spot instances wastes: an interval that sets itself, against every fixed one of a grid.

The production core, its driver and its ledger run in virtual time (``tunekit.testing.sim_spot_week``). No Ray, no disk.

Run it with ``python benchmarks/spot.py``: one table over markets and workloads, a second one over notices. ``--quick``
takes a shorter time, a smaller grid and one workload. It exits with 1 if "auto" is worse than it may be: more than 10 %
and more than 0.3 points of the leased time above the best fixed interval.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TypeAlias

from tunekit.testing.sim_spot import BATHTUB, HOUR_S, MARKETS, SpotMarket
from tunekit.testing.sim_spot_week import WEEK_S, SpotPlan, SpotReport, SpotWeek
from tunekit.testing.sim_spot_workers import Workload

GRID_S = (30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
QUICK_GRID_S = (30.0, 60.0, 120.0, 300.0, 600.0, 1200.0)
WORKLOADS = {
    "light": Workload(block_s=0.1, persist_s=1.0),
    "middle": Workload(block_s=1.0, persist_s=10.0),
    "heavy": Workload(block_s=10.0, persist_s=60.0),
}
NODES = 4
"""Of two places each, so eight trials at a time."""
RELATIVE, POINTS = 0.1, 0.003
"""What "auto" may waste more than the best of the grid: the larger of the two."""

Job: TypeAlias = tuple[SpotPlan, int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and return 0 if "auto" is as good as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="two days instead of a week, one workload, fewer intervals"
    )
    parser.add_argument("--seeds", type=int, default=2, help="weeks for each cell of the table")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args(arguments)
    length_s = 48 * HOUR_S if args.quick else WEEK_S
    grid_s = QUICK_GRID_S if args.quick else GRID_S
    workloads = {"middle": WORKLOADS["middle"]} if args.quick else WORKLOADS
    with ProcessPoolExecutor(args.jobs) as pool:
        is_good = compare(pool, workloads, grid_s, length_s, args.seeds)
        show_notices(pool, length_s, args.seeds)
    return 0 if is_good else 1


def compare(
    pool: ProcessPoolExecutor, workloads: dict[str, Workload], grid_s: Sequence[float], length_s: float, num_seeds: int
) -> bool:
    """Print what is wasted under each market and workload, and return whether "auto" is good everywhere."""
    print('| market | trials | save waits | "auto" | best fixed | which is | 10 min | 1 h |')
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    is_good = True
    for market, name in ((market, name) for market in MARKETS for name in workloads):
        plan = SpotPlan(market=MARKETS[market], workload=workloads[name], num_nodes=NODES, length_s=length_s)
        intervals: tuple[float | str, ...] = ("auto", *grid_s)
        plans = [replace(plan, every_s=every_s) for every_s in intervals]
        found = dict(zip(intervals, waste(pool, plans, num_seeds), strict=True))
        best = min(grid_s, key=found.__getitem__)
        holds = found["auto"] <= found[best] + max(RELATIVE * found[best], POINTS)
        is_good = is_good and holds
        fixed = " | ".join(f"{found[every_s]:.1%}" if every_s in found else "" for every_s in (600.0, 3600.0))
        cost = f"{plan.workload.block_s:g} s"
        print(
            f"| {market} | {name} | {cost} | {found['auto']:.2%}{'' if holds else ' (too much)'} "
            f"| {found[best]:.2%} | {span(best)} | {fixed} |",
            flush=True,
        )
    return is_good


def show_notices(pool: ProcessPoolExecutor, length_s: float, num_seeds: int) -> None:
    """Print what "auto" wastes where the end of a machine is announced."""
    print("\n| market | no notice | 30 s | 120 s |\n|---|---:|---:|---:|")
    markets: dict[str, SpotMarket] = {**MARKETS, "24 hours at most": BATHTUB}
    for name, market in markets.items():
        plans = [
            SpotPlan(
                market=market.with_notice(notice_s), workload=WORKLOADS["middle"], num_nodes=NODES, length_s=length_s
            )
            for notice_s in (0.0, 30.0, 120.0)
        ]
        cells = " | ".join(f"{share:.2%}" for share in waste(pool, plans, num_seeds))
        print(f"| {name} | {cells} |", flush=True)


def waste(pool: ProcessPoolExecutor, plans: Sequence[SpotPlan], num_seeds: int) -> list[float]:
    """Return the part of the leased time that each plan wastes, on average over the same traces for all of them."""
    jobs = [(plan, seed) for plan in plans for seed in range(num_seeds)]
    shares = [report.wasted for report in pool.map(run, jobs)]
    return [statistics.fmean(shares[first : first + num_seeds]) for first in range(0, len(shares), num_seeds)]


def run(job: Job) -> SpotReport:
    """Run one week."""
    plan, seed = job
    return SpotWeek(plan, seed).run()


def span(seconds: float) -> str:
    """Return a length of time as people write it."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
