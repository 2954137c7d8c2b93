"""Weeks on spot instances: what they cost is counted right, and everything else is as in production."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tunekit.core.commands import Command
from tunekit.core.events import Event
from tunekit.core.experiment import Experiment
from tunekit.journal.replay import replay
from tunekit.schedulers import ASHA, FIFO
from tunekit.testing.sim_journal import SimJournal
from tunekit.testing.sim_spot import HOUR_S, MARKETS, SpotMarket
from tunekit.testing.sim_spot_week import SpotPlan, SpotReport, SpotWeek
from tunekit.testing.sim_spot_workers import Workload
from tunekit.types import Mode, TrialStatus

DAY_S = 24 * HOUR_S
EVEN = Workload(
    block_s=2.0, persist_s=5.0, restore_s=(30.0, 30.0), iteration_s=(60.0, 60.0), jitter=0.0, trial_s=(1e9, 1e9)
)
"""Of which the costs can be told by hand."""


def plan(market: SpotMarket, **wishes: Any) -> SpotPlan:
    return replace(SpotPlan(market=market, workload=EVEN, every_s=600.0, length_s=DAY_S), **wishes)


def day(market: SpotMarket, seed: int = 1, **wishes: Any) -> SpotReport:
    return SpotWeek(plan(market, **wishes), seed).run()


def test_without_preemptions_only_starts_and_saves_cost_anything() -> None:
    """Of 16 places: a start of 30 s each, and 2 s for each save; ends of a day are rounded to an iteration."""
    report = day(SpotMarket(rate_per_h=0.0))
    assert report.num_lost == report.num_left == 0
    last = 16 * (2.0 + 5.0)  # When the time is up, each saves its newest row and is waited for, unless it just did.
    assert report.leased_s - report.useful_s == pytest.approx(16 * 30 + 2.0 * (report.num_saves - 16) + last, abs=20.0)
    assert report.num_saves == pytest.approx(16 * DAY_S / 602, rel=0.02)
    assert report.leased_s == pytest.approx(16 * DAY_S, rel=1e-3)


def test_a_loss_costs_half_an_interval_a_start_and_what_was_on_its_way() -> None:
    """Which is what the model says, within the noise of a few hundred losses."""
    market = SpotMarket(rate_per_h=1.0, bulk_share=0.0)
    report = day(market, length_s=2 * DAY_S)
    a_loss = (600.0 + 2.0) / 2 + 5.0 + 30.0
    saves = 2.0 * report.num_saves
    assert report.num_lost > 200
    assert report.leased_s - report.useful_s == pytest.approx(a_loss * report.num_lost + saves, rel=0.1)


def test_a_notice_that_a_save_fits_into_saves_work() -> None:
    """Trials leave before the machine goes, having saved."""
    market = SpotMarket(rate_per_h=1.0)
    silent, told = (day(m, length_s=DAY_S / 2) for m in (market, market.with_notice(120.0)))
    assert silent.num_left == 0
    assert told.num_left > 9 * told.num_lost
    assert told.wasted < 0.5 * silent.wasted


def test_a_save_that_does_not_fit_is_not_tried() -> None:
    """The trial leaves all the same, and goes on elsewhere from its last checkpoint."""
    slow = replace(EVEN, persist_s=200.0)
    market = SpotMarket(rate_per_h=1.0)
    silent, told = (day(m, workload=slow, length_s=DAY_S / 2) for m in (market, market.with_notice(120.0)))
    assert told.num_left > 0
    assert told.wasted == pytest.approx(silent.wasted, rel=0.2)


def test_of_saves_that_wait_for_the_storage_the_newest_is_kept() -> None:
    """A save that takes three iterations to be durable: one iteration in three gets a checkpoint."""
    slow = replace(EVEN, persist_s=200.0)
    week = SpotWeek(plan(SpotMarket(rate_per_h=0.0), workload=slow, every_s=1.0, length_s=DAY_S / 4), 1)
    report = week.run()
    assert report.num_saves > 0.95 * report.num_rows
    assert report.num_rows > 0.95 * 16 * DAY_S / 4 / 62
    for trial in week.experiment.state.trials:
        assert len(trial.checkpoints) == pytest.approx(DAY_S / 4 / 200, abs=3), "the storage is never idle"


@pytest.mark.parametrize("scheduler", [FIFO(), ASHA(max_t=400, grace_period=20, reduction_factor=3)], ids=type)
def test_the_journal_of_a_day_replays_to_the_same_state(scheduler: FIFO | ASHA) -> None:
    """Under every kind of loss and notice."""
    journal = SimJournal(lambda: "", lambda: 0.0)
    market = MARKETS["brutal"].with_notice(30.0)
    wishes = plan(market, workload=Workload(), every_s=300.0, num_nodes=4, scheduler=scheduler)
    week = SpotWeek(wishes, 2, journal=journal)
    assert week.run().num_lost > 0
    journal.close()
    experiment = Experiment(scheduler, Mode.MIN)

    def handle(event: Event) -> list[Command]:
        return experiment.handle(event)

    replay(journal.open(), handle)
    assert experiment.state.trials == week.experiment.state.trials
    assert not any(trial.status is TrialStatus.FAILED for trial in experiment.state.trials)


def test_the_same_seed_is_the_same_week() -> None:
    """And another one is another."""
    first, again, other = (day(MARKETS["brutal"], length_s=DAY_S / 4, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_the_ledger_agrees_with_the_world() -> None:
    """It knows the journal alone; a lost attempt ends for it when the driver hears of that. So does ``max_cost``."""
    for market in (MARKETS["brutal"], MARKETS["brutal"].with_notice(120.0)):
        week = SpotWeek(plan(market, workload=Workload()), 1)
        report, state = week.run(), week.experiment.state
        spent = report.spent
        assert report.num_lost + report.num_left > 50
        assert spent.useful == pytest.approx(1e6 * report.useful_s, rel=1e-3)
        assert spent.leased == pytest.approx(1e6 * (report.leased_s + 10.0 * report.num_lost), rel=1e-3)
        assert spent.queued < 1e-3 * spent.leased
        assert spent.useful + spent.lost + spent.queued == spent.leased
        assert state.meter.cost(state.now, {"CPU": 3600.0 * 1e6}) == pytest.approx(spent.held, rel=1e-6)


@pytest.mark.parametrize("name", ["typical", "brutal"])
def test_an_interval_that_sets_itself_wastes_little_more_than_the_best(name: str) -> None:
    """At most 10 % or 0.3 points of the time more than the best of a grid; ``benchmarks/spot.py`` does it for weeks."""
    short: dict[str, Any] = {"workload": Workload(), "num_nodes": 4, "length_s": DAY_S}
    auto = day(MARKETS[name], every_s="auto", **short).wasted
    best = min(day(MARKETS[name], every_s=every_s, **short).wasted for every_s in (60.0, 120.0, 300.0))
    assert auto <= best + max(0.1 * best, 0.003)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_interval_that_sets_itself_is_as_good_where_saves_take_a_quarter_of_a_machines_life(seed: int) -> None:
    dear: dict[str, Any] = {"workload": Workload(block_s=600.0, persist_s=60.0), "num_nodes": 4, "length_s": 2 * DAY_S}
    auto = day(MARKETS["brutal"], every_s="auto", seed=seed, **dear).wasted
    best = min(day(MARKETS["brutal"], every_s=every_s, seed=seed, **dear).wasted for every_s in (1200.0, 1800.0))
    assert auto <= 1.05 * best


def test_no_fixed_interval_is_good_everywhere() -> None:
    """What is good where machines stay costs too much where they do not, and the other way round."""
    short: dict[str, Any] = {"workload": replace(Workload(), block_s=5.0), "num_nodes": 4, "length_s": DAY_S / 2}
    for every_s, name in ((60.0, "calm"), (1200.0, "brutal")):
        auto, fixed = (day(MARKETS[name], every_s=wish, **short).wasted for wish in ("auto", every_s))
        assert auto < 0.6 * fixed
