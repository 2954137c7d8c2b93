"""A whole node dies in the middle of a sweep, and another one joins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nemesis
import pytest
import sweeps

from tunekit.core.events import (
    CheckpointPublished,
    CheckpointStaged,
    ResultReported,
    TrialPreempted,
    TrialStarted,
    WorkerLost,
)
from tunekit.types import LossCause

pytestmark = pytest.mark.ray


def test_a_dead_node_costs_an_interval_and_no_failure(tmp_path: Path) -> None:
    """Its trial goes on from its checkpoint on a new node, with no failure allowed at all."""
    options = ["--samples", "4", "--max-failures", "0"]
    undisturbed = sweeps.start("walk_sweep.py", str(tmp_path / "undisturbed"), *options, "--inline", "--step-s", "0")
    experiment, gate = tmp_path / "walks", tmp_path / "gate"
    with nemesis.nodes(1) as cluster:
        arguments = (str(tmp_path), *options, "--step-s", "0.1", "--gate", str(gate))
        process = sweeps.start("walk_sweep.py", *arguments, address=cluster.address)
        # One on either node, each with a checkpoint.
        sweeps.wait_until(process, lambda: len({one.trial for one in told(experiment, CheckpointPublished)}) == 2)
        assert cluster.raylets("kill") == []
        sweeps.wait_until(process, lambda: told(experiment, WorkerLost))
        assert len(cluster.raylets("add")) == 1  # The other node is taken, by a trial that waits at the gate.
        sweeps.wait_until(process, lambda: [one for one in told(experiment, TrialStarted) if one.attempt > 1])
        sweeps.open_gate(gate)
        sweeps.finish(process)
    sweeps.finish(undisturbed)
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "undisturbed" / "walks")
    records = sweeps.journal(experiment)
    lost = [record for record in records if isinstance(record, WorkerLost)]
    assert {loss.cause for loss in lost} <= {LossCause.NODE_LOST, LossCause.NOT_STARTED}
    assert any(loss.cause is LossCause.NODE_LOST for loss in lost)
    assert any(isinstance(record, TrialStarted) and record.restored_from for record in records)


def test_a_node_that_is_drained_is_left_before_it_goes(tmp_path: Path) -> None:
    """W17: with its last row saved, and at no cost. Ray's private list of such nodes is as it is taken for."""
    experiment, gate = tmp_path / "walks", tmp_path / "gate"
    arguments = (str(tmp_path), "--samples", "2", "--gate", str(gate), "--gate-at", "1")
    with nemesis.nodes(1) as cluster:
        process = sweeps.start("walk_sweep.py", *arguments, address=cluster.address)
        sweeps.wait_until(process, lambda: len(told(experiment, ResultReported)) == 2)
        cluster.raylets("drain")
        sweeps.wait_until(process, lambda: told(experiment, TrialPreempted))
        cluster.raylets("kill")  # Before its deadline.
        sweeps.open_gate(gate)
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


@pytest.mark.soak
def test_trials_keep_away_from_the_node_on_which_they_have_failed(tmp_path: Path) -> None:
    """Each of them may fail there once and for nothing, and no other failure is allowed."""
    with nemesis.nodes(1) as cluster:
        out = sweeps.finish(sweeps.start("avoiding_sweep.py", str(tmp_path), address=cluster.address))
    found = json.loads(out.splitlines()[-1])
    assert found["errors"] == 0
    assert found["losses"]["user exception"] >= 1
