"""A whole node dies in the middle of a sweep, and another one joins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sweeps

from tunekit.core.events import TrialStarted, WorkerLost
from tunekit.types import LossCause

pytestmark = pytest.mark.ray

Nodes = tuple[str, Callable[[str], None]]


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """The address of a cluster of two nodes, and how to kill and add one."""
    process = sweeps.start("two_nodes.py", address="")
    assert process.stdin is not None
    assert process.stdout is not None
    lines, answers = process.stdin, process.stdout
    address = answers.readline().strip()

    def tell(what: str) -> None:
        lines.write(f"{what}\n")
        lines.flush()
        assert answers.readline().strip() == "done"

    yield address, tell
    process.communicate(timeout=60)


def test_a_dead_node_costs_an_interval_and_no_failure(tmp_path: Path, nodes: Nodes) -> None:
    """Its trial goes on elsewhere from its checkpoint, with no failure allowed at all; a new node is put to use."""
    address, tell = nodes
    options = ["--samples", "6", "--step-s", "0.2", "--max-failures", "0"]
    sweeps.finish(sweeps.start("walk_sweep.py", str(tmp_path / "undisturbed"), *options, "--inline", "--step-s", "0"))
    experiment = tmp_path / "walks"
    process = sweeps.start("walk_sweep.py", str(tmp_path), *options, address=address)
    assert sweeps.wait_for(experiment, process, 8), "the sweep ended too early"
    tell("kill")
    assert sweeps.wait_for(experiment, process, 8), "the sweep ended too early"
    tell("add")
    sweeps.finish(process)
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "undisturbed" / "walks")
    records = sweeps.journal(experiment)
    lost = [record for record in records if isinstance(record, WorkerLost)]
    assert {loss.cause for loss in lost} <= {LossCause.NODE_LOST, LossCause.NOT_STARTED}
    assert any(loss.cause is LossCause.NODE_LOST for loss in lost)
    assert any(isinstance(record, TrialStarted) and record.attempt > 1 for record in records)
