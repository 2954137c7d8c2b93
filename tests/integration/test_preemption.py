"""On real Ray: a worker that is told to end saves the step that it is in, and its trial goes on elsewhere."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import metadata
import pytest
import sweeps

from tunekit.core.events import (
    CheckpointStaged,
    ResultReported,
    TrialPreempted,
    TrialReturned,
    TrialStarted,
    WorkerLost,
)

pytestmark = pytest.mark.ray

STEP_S = 0.4


def of(records: list[Any], kind: Any, trial: int, attempt: int) -> list[Any]:
    return [one for one in records if isinstance(one, kind) and (one.trial, one.attempt) == (trial, attempt)]


def running(experiment: Path, *, fresh: bool) -> int:
    """Wait for an attempt that runs and has come to a row, or for a fresh one; return its process."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        records = sweeps.journal(experiment)
        ended = {(one.trial, one.attempt) for one in records if isinstance(one, TrialPreempted | TrialReturned)}
        with_rows = {(one.trial, one.attempt) for one in records if isinstance(one, ResultReported)}
        for one in records:
            key = (getattr(one, "trial", -1), getattr(one, "attempt", 0))
            if isinstance(one, TrialStarted) and key not in ended and (key in with_rows) is not fresh:
                return one.place.pid
        time.sleep(0.02)
    pytest.fail("nothing runs")


@pytest.mark.timeout(300)
def test_sigterm_in_the_middle_of_a_step_costs_nothing_but_the_way(tmp_path: Path, ray_address: str) -> None:
    """S003-10: the step is saved and not computed again, no failure is charged, and every bit is the same."""
    (tmp_path / "calm").mkdir()
    (tmp_path / "told").mkdir()
    sweeps.finish(sweeps.start("walk_sweep.py", str(tmp_path / "calm"), "--samples", "3", "--inline"))
    arguments = (str(tmp_path / "told"), "--samples", "3", "--step-s", str(STEP_S))
    process = sweeps.start("walk_sweep.py", *arguments, address=ray_address)
    experiment = tmp_path / "told" / "walks"
    for count in range(2):
        assert sweeps.wait_for(experiment, process, 1)
        pid = running(experiment, fresh=count == 1)  # The second one before it has come to a row.
        time.sleep(STEP_S / 2)
        os.kill(pid, signal.SIGTERM)
    sweeps.finish(process)
    records = sweeps.journal(experiment)
    farewells = [one for one in records if isinstance(one, TrialPreempted)]
    assert len(farewells) == 2, "max_failures is 0, so a failure would have ended the trial"
    assert not [one for one in records if isinstance(one, WorkerLost)], "they ended in peace"
    for farewell in farewells:
        trial, attempt = farewell.trial, farewell.attempt
        last = of(records, ResultReported, trial, attempt)[-1].iteration
        assert of(records, CheckpointStaged, trial, attempt)[-1].iteration == last
        before, after = of(records, TrialStarted, trial, attempt)[0], of(records, TrialStarted, trial, attempt + 1)[0]
        assert after.restored_from == last
        assert after.place.pid != before.place.pid
    assert sweeps.count_results(experiment) == 3 * 9, "no row is computed twice"
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "calm" / "walks")
    assert sweeps.weights(experiment) == sweeps.weights(tmp_path / "calm" / "walks")


@pytest.mark.timeout(300)
def test_a_notice_of_the_cloud_has_all_trials_of_its_machine_saved(tmp_path: Path) -> None:
    """W17: both trials are saved at their last row, and leave; nothing is started there any more."""
    with metadata.service() as cloud:
        here = {"TUNEKIT_CLOUD": "gcp", "TUNEKIT_METADATA_ADDRESS": cloud.address}
        with sweeps.ray_head(environment=here) as address:
            arguments = (str(tmp_path), "--samples", "2", "--step-s", str(STEP_S), "--iterations", "99")
            process = sweeps.start("walk_sweep.py", *arguments, address=address)
            experiment = tmp_path / "walks"
            while len({one.trial for one in sweeps.journal(experiment) if isinstance(one, ResultReported)}) < 2:
                assert process.poll() is None
                time.sleep(0.05)
            cloud.pages[metadata.PREEMPTED] = "TRUE"
            while len([one for one in sweeps.journal(experiment) if isinstance(one, TrialPreempted)]) < 2:
                assert process.poll() is None
                time.sleep(0.05)
            time.sleep(1.0)
            records = sweeps.journal(experiment)
            sweeps.kill(process)
    assert {one.reason for one in records if isinstance(one, TrialPreempted)} == {"GCP: its machine is taken away"}
    assert len([one for one in records if isinstance(one, TrialStarted)]) == 2
    for trial in (0, 1):
        last = of(records, ResultReported, trial, 1)[-1].iteration
        assert of(records, CheckpointStaged, trial, 1)[-1].iteration == last
