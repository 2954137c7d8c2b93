"""A whole node dies in the middle of a sweep, and another one joins."""

from __future__ import annotations

from pathlib import Path

import nemesis
import pytest
import sweeps

from tunekit.core.events import TrialStarted, WorkerLost
from tunekit.types import LossCause

pytestmark = pytest.mark.ray


def test_a_dead_node_costs_an_interval_and_no_failure(tmp_path: Path) -> None:
    """Its trial goes on elsewhere from its checkpoint, with no failure allowed at all; a new node is put to use."""
    options = ["--samples", "6", "--step-s", "0.2", "--max-failures", "0"]
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
