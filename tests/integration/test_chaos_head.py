"""The head of the cluster dies, and with it everything that Ray knew: the sweep goes on with another cluster."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import nemesis
import pytest
import sweeps

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.soak]

PATIENCE = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
"""Seconds after which Ray gives up a head, instead of a minute."""


@pytest.mark.timeout(600)
def test_another_cluster_takes_over(tmp_path: Path) -> None:
    """The driver ends with an error, or is ended by Ray; run again where there is a cluster, it loses nothing."""
    sweeps.finish(sweeps.start("torch_sweep.py", str(tmp_path / "undisturbed"), "--inline"))
    experiment = tmp_path / "mlps"
    with nemesis.nodes(1, **PATIENCE) as cluster:
        process = sweeps.start("torch_sweep.py", str(tmp_path), "--step-s", "1.5", address=cluster.address, **PATIENCE)
        sweeps.wait_for(experiment, process, 8)
        (head,) = cluster.named("gcs_server")
        os.kill(head, signal.SIGKILL)
        process.communicate(timeout=240)
        assert process.returncode != 0
        before = sweeps.table(experiment)
    assert 8 <= len(before) < 6 * 12
    with nemesis.nodes(1) as cluster:
        sweeps.finish(sweeps.start("torch_sweep.py", str(tmp_path), "--step-s", "1.5", address=cluster.address))
    undisturbed = tmp_path / "undisturbed" / "mlps"
    assert sweeps.table(experiment) == sweeps.table(undisturbed)
    assert before.items() <= sweeps.table(experiment).items()
    assert sweeps.weights(experiment) == sweeps.weights(undisturbed)
