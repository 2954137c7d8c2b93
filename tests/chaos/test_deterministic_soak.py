"""Deterministic mode at length: under ``--kills 30``, a hundred shufflings and storms of each sweep."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

FULL = 30
"""Kills of a full run."""


def load() -> ModuleType:
    """Return the sweeps of the short test."""
    path = Path(__file__).parents[1] / "testing" / "test_deterministic.py"
    spec = importlib.util.spec_from_file_location("deterministic_sweeps", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_hundred_shufflings_and_storms(kills: int) -> None:
    short = load()
    for options in short.SWEEPS.values():
        reference = short.outcome(0, options)
        for workers in short.WORKERS:
            for seed in range(1, 1 + max(1, 100 * min(kills, FULL) // FULL)):
                for faults in (short.SHUFFLED, replace(short.STORMY, crash=0.5 * (seed % 10) / 9)):
                    how = replace(options, max_live=workers, hang_timeout_s=25.0, faults=faults)
                    disturbed = short.outcome(seed, how)
                    assert not short.differences(reference, disturbed), (seed, workers, faults)
