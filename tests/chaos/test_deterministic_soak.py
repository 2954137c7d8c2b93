"""Deterministic mode at length: under ``--kills 30``, a hundred shufflings and storms of each sweep."""

from __future__ import annotations

from dataclasses import replace

import pytest
from modules import module_at

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

FULL = 30
"""Kills of a full run."""


def test_a_hundred_shufflings_and_storms(kills: int) -> None:
    short = module_at("tests/testing/test_deterministic.py", "deterministic_sweeps")
    for options in short.SWEEPS.values():
        reference = short.outcome(0, options)
        for workers in short.WORKERS:
            for seed in range(1, 1 + max(1, 100 * min(kills, FULL) // FULL)):
                for faults in (short.SHUFFLED, replace(short.STORMY, crash=0.5 * (seed % 10) / 9)):
                    how = replace(options, max_live=workers, hang_timeout_s=25.0, faults=faults)
                    disturbed = short.outcome(seed, how)
                    assert not short.differences(reference, disturbed), (seed, workers, faults)
