"""A sweep on real Ray that is moved from a disk to a bucket and back while it is under way."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import sweeps

from tunekit.core.events import CheckpointPublished, DriverStarted, TrialStarted
from tunekit.upkeep.copying import copy
from tunekit.upkeep.verifying import verify

pytestmark = [pytest.mark.ray, pytest.mark.s3]

SWEEP = ["--step-s", "0.05", "--samples", "4"]


def has_saved(experiment: str) -> bool:
    return any(isinstance(record, CheckpointPublished) for record in sweeps.journal(experiment))


def test_a_sweep_on_ray_moves_to_a_bucket_and_back_and_ends_bit_for_bit(
    s3_uri: str, tmp_path: Path, ray_address_s3: str
) -> None:
    """S003-5, S003-24, promise 5: its driver is killed at each place, and it goes on at the next one."""
    undisturbed = sweeps.start("walk_sweep.py", str(tmp_path / "undisturbed"), "--inline", *SWEEP)
    gate = tmp_path / "gate"
    sweep = [*SWEEP, "--gate", str(gate)]
    places = [str(tmp_path / "here"), s3_uri, str(tmp_path / "back")]
    for old, new in pairwise(places):
        before = sweeps.count_results(f"{old}/walks")
        process = sweeps.start("walk_sweep.py", old, *sweep, address=ray_address_s3)
        sweeps.wait_for(f"{old}/walks", process, 3, beyond=before)
        sweeps.wait_until(process, partial(has_saved, f"{old}/walks"))  # Three rows may be those of two trials.
        sweeps.kill(process)
        assert copy(f"{old}/walks", f"{new}/walks", verify=True).verified
    sweeps.open_gate(gate)
    last = sweeps.start("walk_sweep.py", places[-1], *sweep, address=ray_address_s3)
    assert json.loads(sweeps.finish(last).splitlines()[-1]) == {"trials": 4, "errors": 0}
    sweeps.finish(undisturbed)
    end = tmp_path / "back" / "walks"
    assert sweeps.table(end) == sweeps.table(tmp_path / "undisturbed" / "walks")
    assert verify(end).is_clean
    journal = sweeps.journal(end)
    assert [record.generation for record in journal if isinstance(record, DriverStarted)] == [1, 2, 3]
    assert any(record.restored_from for record in journal if isinstance(record, TrialStarted))
