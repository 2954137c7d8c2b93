"""Under ``--kills 30``: twenty thousand simulated sweeps, every crash point of twenty, and one of ten thousand trials.

With fewer kills a taste of it: seeds grow with their square. With more it is no more than that, since it must end.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from tunekit.schedulers import ASHA
from tunekit.testing.sim_drawing import draw_options
from tunekit.testing.sim_options import Faults, SimOptions
from tunekit.testing.simulator import Simulation

pytestmark = [pytest.mark.chaos, pytest.mark.soak, pytest.mark.timeout(3600)]

FULL = 30
"""Kills of a full run."""


def share(count: int, kills: int) -> int:
    """Return how many of so many a run makes."""
    return max(1, count * min(kills, FULL) ** 2 // FULL**2)


def test_more_kills_than_a_full_run_has_change_nothing() -> None:
    assert share(20_000, 100) == share(20_000, FULL) == 20_000
    assert share(20_000, 3) == 200
    assert share(1, 1) == 1


def test_twenty_thousand_seeds(kills: int) -> None:
    """Whatever is lost, up to half of all iterations and more than half of all attempts of a sweep.

    No acknowledged row is missing or there twice, no trial is missing, no checkpoint goes that is needed, each sweep
    ends: see ``tunekit.testing.simulator``, which raises otherwise.
    """
    seen = Counter[str]()
    for seed in range(share(20_000, kills)):
        report = Simulation(10_000 + seed).run()
        seen["half"] += report.attempts >= 10 and report.lost >= report.attempts / 2
        seen["storm"] += report.options.faults.crash >= 0.25
        seen["all"] += 1
    assert seen["half"] > seen["all"] // 5
    assert seen["storm"] > seen["all"] // 100


@pytest.mark.parametrize("fate", ["before", "torn", "after"])
def test_every_append_of_drawn_sweeps(kills: int, fate: str) -> None:
    """The driver dies at it, the next one takes over, and the sweep ends as one that nothing happened to."""
    for seed in range(share(20, kills)):
        options, commit = drawn(seed), 0
        while Simulation(seed, replace(options, crash_at=((commit, fate),))).run().deaths:
            commit += 1
        assert commit > 3


def test_before_every_command_of_drawn_sweeps(kills: int) -> None:
    """Of what is durable and was not carried out, a publication or a deletion too, nothing is forgotten."""
    for seed in range(share(60, kills)):
        options, command = drawn(seed), 0
        while Simulation(seed, replace(options, crash_before=command)).run().deaths:
            command += 1
        assert command > 0


def test_ten_thousand_trials(kills: int) -> None:
    options = SimOptions(
        num_trials=share(10_000, kills),
        iterations=10,
        scheduler=ASHA(max_t=9, reduction_factor=3),
        max_live=64,
        num_to_keep=1,
        ask_batch=256,
        crash_at=((share(500, kills), "torn"),),
        faults=Faults(crash=0.01, driver=0.0001, duplicate=0.01, delay=0.5),
        calm_after=10**7,
    )
    assert Simulation(0, options).run().deaths > 0


def drawn(seed: int) -> SimOptions:
    """Return a sweep with all misfortunes that were drawn for it, but for deaths of the driver by chance."""
    options = draw_options(random.Random(seed))
    return replace(options, faults=replace(options.faults, driver=0.0))
