"""On real Ray: a worker that stands still and one that says nothing are killed, one that computes is left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sweeps

from tunekit.core.commands import KillTrial, LaunchTrial

pytestmark = pytest.mark.ray

FINE, STOPS, LOOPS, COMPUTES = range(4)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with sweeps.ray_head(num_cpus=4) as address:
        yield address


@pytest.mark.timeout(300)
def test_what_hangs_is_tried_again_and_the_table_is_that_of_an_undisturbed_sweep(tmp_path: Path, address: str) -> None:
    """S003-12: a hang costs one failure of the trial and at most one interval between checkpoints."""
    (tmp_path / "fine").mkdir()
    (tmp_path / "hanging").mkdir()
    fine = sweeps.start("hanging_sweep.py", str(tmp_path / "fine"), "--fine")
    sweeps.finish(sweeps.start("hanging_sweep.py", str(tmp_path / "hanging"), address=address))
    sweeps.finish(fine)
    experiment = tmp_path / "hanging" / "walks"
    records = sweeps.journal(experiment)
    assert sorted(record.trial for record in records if isinstance(record, KillTrial)) == [STOPS, LOOPS]
    assert sweeps.attempts(experiment) == {FINE: 1, STOPS: 2, LOOPS: 2, COMPUTES: 1}
    again = [record.resume_from for record in records if isinstance(record, LaunchTrial) and record.attempt == 2]
    assert all(start in {2, 4} for start in again), again
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "fine" / "walks")


def test_a_worker_that_hangs_while_it_loads_the_code_is_found_too(tmp_path: Path, address: str) -> None:
    """Before user code runs there is no report to wait for; the start of the worker itself does not count."""
    process = sweeps.start("late_sweep.py", str(tmp_path), address=address)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1]) == {"losses": {"hung": 1}, "status": "completed", "late": "there"}
