"""A node joins a sweep before the storage is mounted there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import far_node
import pytest
import sweeps

from tunekit.core.events import TrialStarted, WorkerLost
from tunekit.types import LossCause

pytestmark = pytest.mark.ray


@contextmanager
def node_without(storage: Path, address: str) -> Iterator[None]:
    """Have a node join, with one CPU, in whose mount namespace the storage is an empty folder."""
    hidden = 'mount -t tmpfs none "$0" && exec "$@"'
    ip = address.partition(":")[0]
    joins = [f"--address={address}", f"--node-ip-address={ip}"]
    process = far_node.ray_start(joins, "unshare", "--mount", "sh", "-c", hidden, str(storage))
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=240)


@pytest.mark.parametrize("means", ["namespace"] if far_node.can_be_made() else [])
def test_a_node_without_the_storage_ends_nothing(tmp_path: Path, means: str) -> None:
    """What all need was there before; the others go on, and its attempts elsewhere, at no cost."""
    storage = tmp_path / "storage"
    storage.mkdir()
    options = ["--samples", "4", "--max-failures", "0"]
    undisturbed = sweeps.start("walk_sweep.py", str(tmp_path / "undisturbed"), *options, "--inline", "--step-s", "0")
    experiment, gate = storage / "walks", tmp_path / "gate"
    with sweeps.ray_head(num_cpus=1) as address:
        arguments = (str(storage), *options, "--step-s", "0.05", "--gate", str(gate))
        process = sweeps.start("walk_sweep.py", *arguments, address=address)
        sweeps.wait_until(process, lambda: sweeps.worker_pids(experiment))
        with node_without(storage, address):
            sweeps.wait_until(process, lambda: losses(experiment))
            sweeps.open_gate(gate)
            _, err = process.communicate(timeout=sweeps.PATIENCE_S)
    assert process.returncode == 0, err
    sweeps.finish(undisturbed)
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "undisturbed" / "walks")
    assert {loss.cause for loss in losses(experiment)} == {LossCause.NOT_STARTED}
    assert all("its node is passed over: " in loss.detail for loss in losses(experiment))
    assert err.count("tunekit: no trial can be loaded on node ") == 1
    assert f"{experiment} holds no experiment on " in err
    nodes = {record.place.node for record in sweeps.journal(experiment) if isinstance(record, TrialStarted)}
    assert len(nodes) == 1


def losses(experiment: Path) -> list[WorkerLost]:
    return [record for record in sweeps.journal(experiment) if isinstance(record, WorkerLost)]
