"""On real Ray: a worker that is told to end saves the step that it is in, and its trial goes on elsewhere."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import metadata
import nemesis
import pytest
import sweeps

from tunekit.core.commands import DeleteCheckpoint
from tunekit.core.events import (
    CheckpointStaged,
    ResultReported,
    TrialPreempted,
    TrialStarted,
    WorkerLost,
)

pytestmark = pytest.mark.ray

STEP_S = 0.4
ITERATIONS = 60
"""More than are made before the last signal, however slow the one who sends it."""
CLOUDS: Final = {"aws": "AWS", "gcp": "GCP", "azure": "Azure"}  # How they are named in the environment, and in notices.


def of(records: list[Any], kind: Any, trial: int, attempt: int) -> list[Any]:
    return [one for one in records if isinstance(one, kind) and (one.trial, one.attempt) == (trial, attempt)]


def test_sigterm_in_the_middle_of_a_step_costs_nothing_but_the_way(tmp_path: Path, ray_address: str) -> None:
    """S003-10: the step is saved and not computed again, no failure is charged, and every bit is the same."""
    (tmp_path / "calm").mkdir()
    (tmp_path / "told").mkdir()
    options, gate = ("--samples", "2", "--iterations", str(ITERATIONS)), tmp_path / "gate"
    calm = sweeps.start("walk_sweep.py", str(tmp_path / "calm"), *options, "--inline", "--step-s", "0")
    arguments = (str(tmp_path / "told"), *options, "--step-s", str(STEP_S), "--gate", str(gate))
    process = sweeps.start("walk_sweep.py", *arguments, address=ray_address)
    experiment = tmp_path / "told" / "walks"
    sweeps.wait_for(experiment, process, 1)
    for attempt in (1, 2):  # The second one before it has come to a row.
        sweeps.wait_until(process, lambda: of(told(experiment, TrialStarted), TrialStarted, 0, attempt))  # noqa: B023
        time.sleep(STEP_S / 2)
        os.kill(of(told(experiment, TrialStarted), TrialStarted, 0, attempt)[0].place.pid, signal.SIGTERM)
        sweeps.wait_until(process, lambda: len(told(experiment, TrialPreempted)) >= attempt)  # noqa: B023
    sweeps.open_gate(gate)
    sweeps.finish(process)
    sweeps.finish(calm)
    records = sweeps.journal(experiment)
    farewells = told(experiment, TrialPreempted)
    assert len(farewells) == 2, "max_failures is 0, so a failure would have ended the trial"
    assert not [one for one in records if isinstance(one, WorkerLost)], "they ended in peace"
    for farewell in farewells:
        trial, attempt = farewell.trial, farewell.attempt
        last = of(records, ResultReported, trial, attempt)[-1].iteration
        assert of(records, CheckpointStaged, trial, attempt)[-1].iteration == last
        before, after = of(records, TrialStarted, trial, attempt)[0], of(records, TrialStarted, trial, attempt + 1)[0]
        assert after.restored_from == last
        assert after.place.pid != before.place.pid
    assert sweeps.count_results(experiment) == 2 * ITERATIONS, "no row is computed twice"
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "calm" / "walks")
    assert sweeps.weights(experiment) == sweeps.weights(tmp_path / "calm" / "walks")


def test_each_cloud_is_heard_and_its_machine_left_with_the_last_row_saved(tmp_path: Path) -> None:
    """W17: a machine of AWS, one of Google and one of Azure go. Their trials end on the one that is left."""
    calm = sweeps.start("walk_sweep.py", str(tmp_path / "calm"), "--samples", "4", "--inline")
    experiment, gate = tmp_path / "told" / "walks", tmp_path / "gate"
    options = ("--samples", "4", "--at-once", "4", "--gate", str(gate), "--gate-at", "1")
    with metadata.service() as service:
        here = {"TUNEKIT_CLOUD": "none", "TUNEKIT_METADATA_ADDRESS": service.address}
        with nemesis.nodes(0, *CLOUDS, **here) as cluster:
            process = sweeps.start("walk_sweep.py", str(tmp_path / "told"), *options, address=cluster.address)
            sweeps.wait_until(process, lambda: len({one.trial for one in told(experiment, ResultReported)}) == 4)
            for cloud in CLOUDS:
                service.give_notice(cloud)
            sweeps.wait_until(process, lambda: len(told(experiment, TrialPreempted)) == len(CLOUDS))
            sweeps.open_gate(gate)
            sweeps.finish(process)
    sweeps.finish(calm)
    farewells = told(experiment, TrialPreempted)
    assert {one.reason for one in farewells} == {f"{cloud}: its machine is taken away" for cloud in CLOUDS.values()}
    assert not told(experiment, WorkerLost), "max_failures is 0, so a failure would have ended the trial"
    records = sweeps.journal(experiment)
    for farewell in farewells:
        last = of(records, ResultReported, farewell.trial, 1)[-1].iteration
        assert last == 2, "the step in which it was"
        (saved,) = of(records, CheckpointStaged, farewell.trial, 1)
        assert (saved.iteration, saved.manifest["reason"]) == (last, "preemption")
        assert of(records, TrialStarted, farewell.trial, 2)[0].restored_from == last
    nodes = {one.place.node for one in told(experiment, TrialStarted) if one.attempt == 2}
    assert len(nodes) == 1, "the one that stays"
    assert sweeps.count_results(experiment) == 4 * 9, "no row is computed twice"
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "calm" / "walks")
    assert sweeps.weights(experiment) == sweeps.weights(tmp_path / "calm" / "walks")


def told(experiment: Path, kind: Any) -> list[Any]:
    return [one for one in sweeps.journal(experiment) if isinstance(one, kind)]


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_machine_with_time_left_is_used_almost_to_the_end(tmp_path: Path) -> None:
    """There is no other place: its trial is saved at once, trains on, and leaves with its last row saved."""
    experiment = tmp_path / "walks"
    options = ("--samples", "2", "--step-s", "0.5", "--iterations", "400")
    with metadata.service() as service:
        here = {"TUNEKIT_CLOUD": "none", "TUNEKIT_METADATA_ADDRESS": service.address}
        with nemesis.nodes(0, "aws", **here) as cluster:
            process = sweeps.start("walk_sweep.py", str(tmp_path), *options, address=cluster.address)
            sweeps.wait_until(process, lambda: len({one.trial for one in told(experiment, ResultReported)}) == 2)
            service.give_notice("aws", after_s=80.0)
            sweeps.wait_until(process, lambda: told(experiment, TrialPreempted))
            sweeps.kill(process)
    records = sweeps.journal(experiment)
    (left,) = told(experiment, TrialPreempted)
    rows, saves = of(records, ResultReported, left.trial, 1), of(records, CheckpointStaged, left.trial, 1)
    assert saves[-1].iteration == rows[-1].iteration > 40, "twenty seconds of steps, and more"
    interim = [one.iteration for one in saves if one.interim]
    assert len(interim) <= 2, "less if that row is saved for its number"
    assert not told(experiment, WorkerLost)
    gone = told(experiment, DeleteCheckpoint)
    assert {one.iteration for one in gone if one.trial == left.trial} >= set(interim[:1]) - {rows[-1].iteration}
