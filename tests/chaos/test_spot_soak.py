"""Whole weeks on spot instances, in every market and under every workload: what they cost, and that it adds up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunekit.core.accounts import Accounts
from tunekit.core.codec import Record
from tunekit.core.experiment import Experiment
from tunekit.schedulers import ASHA, FIFO
from tunekit.testing.sim_accounts import check_accounts
from tunekit.testing.sim_journal import SimJournal
from tunekit.testing.sim_spot import BATHTUB, HOUR_S, MARKETS, SpotMarket
from tunekit.testing.sim_spot_week import SpotPlan, SpotWeek
from tunekit.types import Mode

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "spot.py"


def test_an_interval_that_sets_itself_is_as_good_as_the_best_of_a_grid() -> None:
    """Within 10 % or 0.3 points of the leased time in each week; the script says so by its exit code."""
    command = [sys.executable, str(BENCHMARK), "--seeds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for market in MARKETS:
        assert done.stdout.count(f"| {market} |") == 4, "three workloads, and the notices"
    assert "too much" not in done.stdout


@pytest.mark.parametrize("notice_s", [0.0, 30.0, 120.0])
@pytest.mark.parametrize("scheduler", [FIFO(), ASHA(max_t=400, grace_period=20, reduction_factor=3)], ids=type)
@pytest.mark.parametrize("name", [*MARKETS, "bathtub"])
def test_the_ledger_adds_up_in_every_market(name: str, scheduler: FIFO | ASHA, notice_s: float) -> None:
    """Over days, by the core that folds the journal again, by the meter, and by the world that was there."""
    market: SpotMarket = {**MARKETS, "bathtub": BATHTUB}[name]
    journal = SimJournal(lambda: "", lambda: 0.0)
    plan = SpotPlan(market=market.with_notice(notice_s), scheduler=scheduler, length_s=48 * HOUR_S)
    week = SpotWeek(plan, 7, journal=journal)
    report, state = week.run(), week.experiment.state
    journal.close()
    records: list[Record] = list(journal.open())
    assert not list(check_accounts(records, Experiment(scheduler, Mode.MIN)))
    assert Accounts(records, state.trials).total(state.trials) == report.spent
    assert report.num_lost + report.num_left > 0
    spent = report.spent
    assert (spent.pruned > 0) is isinstance(scheduler, ASHA)
    block_s, persist_s = plan.workload.block_s, plan.workload.persist_s
    num_ends = report.num_left + len(state.trials) + 2 * plan.num_nodes
    least_s = block_s * (report.num_saves - report.num_lost)
    most_s = block_s * report.num_saves + (block_s + 2 * persist_s) * num_ends
    assert least_s <= spent.checkpointing / 1e6 <= most_s, "only the save at an attempt's end is waited for"
    assert spent.leased == pytest.approx(1e6 * (report.leased_s + 10.0 * report.num_lost), rel=1e-3)
    assert spent.useful + spent.pruned == pytest.approx(1e6 * report.useful_s, rel=2e-3)
    assert state.meter.cost(state.now, {"CPU": 3600.0 * 1e6}) == pytest.approx(spent.held, rel=1e-6)
