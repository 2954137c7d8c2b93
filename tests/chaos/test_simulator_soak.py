"""Twenty thousand simulated sweeps and one of ten thousand trials under ``--kills 30``; a taste of it with fewer."""

from __future__ import annotations

import pytest

from tunekit.schedulers import ASHA
from tunekit.testing.sim_options import Faults, SimOptions
from tunekit.testing.simulator import Simulation

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

FULL = 30
"""Kills of a full run. Seeds grow with their square, so that a short run is over in seconds."""


def test_twenty_thousand_seeds(kills: int) -> None:
    for seed in range(20_000 * kills**2 // FULL**2):
        Simulation(10_000 + seed).run()


def test_ten_thousand_trials(kills: int) -> None:
    options = SimOptions(
        num_trials=10_000 * kills**2 // FULL**2,
        iterations=10,
        scheduler=ASHA(max_t=9, reduction_factor=3),
        max_live=64,
        num_to_keep=1,
        ask_batch=256,
        crash_at=((500, "torn"),),
        faults=Faults(crash=0.01, driver=0.0001, duplicate=0.01, delay=0.5),
        calm_after=10**7,
    )
    assert Simulation(0, options).run().deaths > 0
