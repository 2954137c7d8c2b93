"""A sweep whose journal and checkpoints are in a bucket: its driver is killed, and the same script goes on."""

from __future__ import annotations

import json
import random
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import sweeps

from tunekit.core.events import DriverStarted, TrialStarted
from tunekit.journal.holder import parse_holder
from tunekit.journal.lease import LEASE_NAME
from tunekit.store import open_store

pytestmark = [pytest.mark.ray, pytest.mark.s3]

SAMPLES = ["--samples", "4"]
INLINE = ["--inline", "--step-s", "0.02", "--samples", "8"]


def test_a_driver_on_ray_is_killed_and_the_sweep_ends_bit_for_bit_as_it_would_have(
    s3_uri: str, tmp_path: Path, ray_address_s3: str
) -> None:
    """S003-2, S003-5, S003-24: nothing of the experiment is on this machine, and no trial starts over."""
    experiment = f"{s3_uri}/walks"
    undisturbed = sweeps.start("walk_sweep.py", str(tmp_path), "--inline", "--step-s", "0", *SAMPLES)
    gate = tmp_path / "gate"
    options = ["--step-s", "0.1", *SAMPLES, "--gate", str(gate)]
    process = sweeps.start("walk_sweep.py", s3_uri, *options, address=ray_address_s3)
    sweeps.wait_for(experiment, process, 9)
    sweeps.kill(process)
    holder = parse_holder(open_store(experiment).read(LEASE_NAME))
    assert holder is not None
    assert (holder.pid, holder.released) == (process.pid, False)
    sweeps.open_gate(gate)
    again = sweeps.start("walk_sweep.py", s3_uri, *options, address=ray_address_s3)
    assert json.loads(sweeps.finish(again).splitlines()[-1]) == {"trials": 4, "errors": 0}
    sweeps.finish(undisturbed)
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "walks")
    journal = sweeps.journal(experiment)
    assert [record.generation for record in journal if isinstance(record, DriverStarted)] == [1, 2]
    assert any(record.restored_from for record in journal if isinstance(record, TrialStarted))
    elsewhere = {path.name for path in tmp_path.iterdir()}
    assert elsewhere == {"walks", "gate"}


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_a_driver_in_one_process_is_killed_at_random_moments(s3_uri: str, tmp_path: Path, kills: int) -> None:
    """Promises 1 and 2: also in the middle of a put, of taking the lease, of looking at what is there."""
    chance, gate = random.Random(kills), tmp_path / "gate"
    undisturbed = sweeps.start("walk_sweep.py", str(tmp_path), *INLINE)
    options = [*INLINE, "--gate", str(gate)]
    for killed in range(kills):
        sweeps.open_gate(gate, below=8 * killed // kills)
        process = sweeps.start("walk_sweep.py", s3_uri, *options)
        sweeps.wait_until(process, partial(drives, f"{s3_uri}/walks", process))
        time.sleep(chance.random() * 0.5)
        sweeps.kill(process)
    sweeps.open_gate(gate)
    sweeps.finish(sweeps.start("walk_sweep.py", s3_uri, *options))
    sweeps.finish(undisturbed)
    assert sweeps.table(f"{s3_uri}/walks") == sweeps.table(tmp_path / "walks")


def drives(experiment: str, process: subprocess.Popen[str]) -> bool:
    """Return whether the process holds the lease."""
    try:
        holder = parse_holder(open_store(experiment).read(LEASE_NAME))
    except FileNotFoundError:
        return False
    return holder is not None and holder.pid == process.pid
