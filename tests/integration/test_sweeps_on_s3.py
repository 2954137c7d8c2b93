"""A sweep whose journal and checkpoints are in a bucket: its driver is killed, and the same script goes on."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
import sweeps

from tunekit.core.events import DriverStarted, TrialStarted
from tunekit.journal.holder import parse_holder
from tunekit.journal.lease import LEASE_NAME
from tunekit.store import open_store

pytestmark = [pytest.mark.ray, pytest.mark.s3]

SAMPLES = ["--samples", "4"]


def wait_for_results(experiment: str, process: subprocess.Popen[str], count: int) -> None:
    """Wait until so many results are in the journal."""
    end = time.monotonic() + 60
    while sweeps.count_results(experiment) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the sweep makes no progress"
        time.sleep(0.1)


def test_a_driver_on_ray_is_killed_and_the_sweep_ends_bit_for_bit_as_it_would_have(s3_uri: str, tmp_path: Path) -> None:
    """S003-2, S003-5, S003-24: nothing of the experiment is on this machine, and no trial starts over."""
    experiment = f"{s3_uri}/walks"
    undisturbed = sweeps.start("walk_sweep.py", str(tmp_path), "--inline", "--step-s", "0", *SAMPLES)
    with sweeps.ray_head() as address:
        process = sweeps.start("walk_sweep.py", s3_uri, "--step-s", "0.1", *SAMPLES, address=address)
        wait_for_results(experiment, process, 9)
        sweeps.kill(process)
        holder = parse_holder(open_store(experiment).read(LEASE_NAME))
        assert holder is not None
        assert (holder.pid, holder.released) == (process.pid, False)
        again = sweeps.start("walk_sweep.py", s3_uri, "--step-s", "0.1", *SAMPLES, address=address)
        assert json.loads(sweeps.finish(again).splitlines()[-1]) == {"trials": 4, "errors": 0}
    sweeps.finish(undisturbed)
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "walks")
    journal = sweeps.journal(experiment)
    assert [record.generation for record in journal if isinstance(record, DriverStarted)] == [1, 2]
    assert any(record.restored_from for record in journal if isinstance(record, TrialStarted))
    elsewhere = {path.name for path in tmp_path.iterdir()}
    assert elsewhere == {"walks"}
