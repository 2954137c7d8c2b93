"""A whole node dies in the middle of a sweep, and another one joins."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nemesis
import pytest
import sweeps

from tunekit.core.events import CheckpointStaged, ResultReported, TrialPreempted, TrialStarted, WorkerLost
from tunekit.types import LossCause

pytestmark = pytest.mark.ray


def test_a_dead_node_costs_an_interval_and_no_failure(tmp_path: Path) -> None:
    """Its trial goes on elsewhere from its checkpoint, with no failure allowed at all; a new node is put to use."""
    options = ["--samples", "6", "--step-s", "0.3", "--max-failures", "0"]
    undisturbed = sweeps.start("walk_sweep.py", str(tmp_path / "undisturbed"), *options, "--inline", "--step-s", "0")
    experiment = tmp_path / "walks"
    with nemesis.nodes(1) as cluster:
        process = sweeps.start("walk_sweep.py", str(tmp_path), *options, address=cluster.address)
        while len(set(sweeps.worker_pids(experiment))) < 2:  # One on either node.
            assert sweeps.wait_for(experiment, process, 1), "the sweep ended too early"
        assert sweeps.wait_for(experiment, process, 4), "the sweep ended too early"
        assert cluster.raylets("kill") == []
        assert sweeps.wait_for(experiment, process, 8), "the sweep ended too early"
        assert len(cluster.raylets("add")) == 1
        sweeps.finish(process)
    sweeps.finish(undisturbed)
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "undisturbed" / "walks")
    records = sweeps.journal(experiment)
    lost = [record for record in records if isinstance(record, WorkerLost)]
    assert {loss.cause for loss in lost} <= {LossCause.NODE_LOST, LossCause.NOT_STARTED}
    assert any(loss.cause is LossCause.NODE_LOST for loss in lost)
    assert any(isinstance(record, TrialStarted) and record.attempt > 1 for record in records)


def test_a_node_that_is_drained_is_left_before_it_goes(tmp_path: Path) -> None:
    """W17: with its last row saved, and at no cost. Ray's private list of such nodes is as it is taken for."""
    experiment, gate = tmp_path / "walks", tmp_path / "gate"
    arguments = (str(tmp_path), "--samples", "2", "--gate", str(gate), "--gate-at", "1")
    with nemesis.nodes(1) as cluster:
        process = sweeps.start("walk_sweep.py", *arguments, address=cluster.address)
        await_that(lambda: len(told(experiment, ResultReported)) == 2)
        cluster.raylets("drain")
        await_that(lambda: told(experiment, TrialPreempted))
        cluster.raylets("kill")  # Before its deadline.
        gate.touch()
        sweeps.finish(process)
    assert not told(experiment, WorkerLost)
    (left,) = told(experiment, TrialPreempted)
    assert left.reason == "Ray: its machine is taken away"
    about = [one for one in sweeps.journal(experiment) if getattr(one, "trial", None) == left.trial]
    before = about[: about.index(left)]
    last = max(one.iteration for one in before if isinstance(one, ResultReported))
    assert last == 2, "the step in which it was"
    assert last in {one.iteration for one in before if isinstance(one, CheckpointStaged)}
    assert sweeps.count_results(experiment) == 2 * 9, "nothing was computed twice"


def told(experiment: Path, kind: Any) -> list[Any]:
    return [one for one in sweeps.journal(experiment) if isinstance(one, kind)]


def await_that(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.soak
def test_trials_keep_away_from_the_node_on_which_they_have_failed(tmp_path: Path) -> None:
    """Each of them may fail there once and for nothing, and no other failure is allowed."""
    with nemesis.nodes(1) as cluster:
        out = sweeps.finish(sweeps.start("avoiding_sweep.py", str(tmp_path), address=cluster.address))
    found = json.loads(out.splitlines()[-1])
    assert found["errors"] == 0
    assert found["losses"]["user exception"] >= 1
