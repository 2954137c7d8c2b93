"""Twenty thousand simulated sweeps, and a large one."""

from __future__ import annotations

import pytest

from tunekit.schedulers import ASHA
from tunekit.testing.sim_options import Faults, SimOptions
from tunekit.testing.simulator import Simulation

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("block", range(20))
def test_twenty_thousand_seeds(block: int) -> None:
    for seed in range(1000 * block, 1000 * (block + 1)):
        Simulation(seed).run()


def test_ten_thousand_trials() -> None:
    options = SimOptions(
        num_trials=10_000,
        iterations=10,
        scheduler=ASHA(max_t=9, reduction_factor=3),
        max_live=64,
        num_to_keep=1,
        ask_batch=256,
        faults=Faults(crash=0.01, driver=0.0001, duplicate=0.01, delay=0.5),
        calm_after=10**7,
    )
    assert Simulation(0, options).run().boots > 2
