"""A pod of a Ray cluster is deleted: as the kubelet does it, to what KubeRay starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nemesis
import pytest
import sweeps
import yaml

from tunekit.core.events import CheckpointStaged, ResultReported, TrialPreempted, TrialStarted, WorkerLost

pytestmark = pytest.mark.ray

EXCERPT = Path(__file__).resolve().parents[2] / "doc_code" / "kuberay.yaml"
COMMAND = "ulimit -n 65536; ray start --address={address} --num-cpus=1 --object-store-memory=100000000 --block"
"""What KubeRay makes of ``rayStartParams``. Being the last, the command takes the place of its shell."""


class Pod:
    """One of the pods of the excerpt."""

    def __init__(self, spec: dict[str, Any], address: str) -> None:
        """Start it, and wait until its Ray is there."""
        (container,) = spec["containers"]
        self._grace_s = float(spec["terminationGracePeriodSeconds"])
        env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        env |= {one["name"]: one["value"] for one in container["env"]}
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        self._first = subprocess.Popen(
            ["/bin/bash", "-c", "--", COMMAND.format(address=address)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._first.stdout is not None
        said = []
        for line in self._first.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                return
        pytest.fail("".join(said))

    def delete(self) -> None:
        """Do as the kubelet does."""
        self._first.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._first.communicate(timeout=self._grace_s)
        self.kill()

    def kill(self) -> None:
        """End what is left of it."""
        with suppress(ProcessLookupError):
            os.killpg(self._first.pid, signal.SIGKILL)
        self._first.communicate(timeout=sweeps.PATIENCE_S)


@contextmanager
def pod(address: str) -> Iterator[Pod]:
    (spec,) = [group["template"]["spec"] for group in yaml.safe_load(EXCERPT.read_text())["spec"]["workerGroupSpecs"]]
    one = Pod(spec, address)
    try:
        yield one
    finally:
        one.kill()


def test_a_pod_that_is_deleted_saves_the_step_that_it_is_in(tmp_path: Path) -> None:
    """W17: its trial goes on elsewhere to the same end, bit for bit, and with no failure allowed."""
    calm = sweeps.start("walk_sweep.py", str(tmp_path / "calm"), "--samples", "2", "--inline", "--step-s", "0")
    experiment, gate = tmp_path / "walks", tmp_path / "gate"
    arguments = (str(tmp_path), "--samples", "2", "--gate", str(gate), "--gate-at", "1")
    with nemesis.nodes(0) as cluster, pod(cluster.address) as doomed:
        process = sweeps.start("walk_sweep.py", *arguments, address=cluster.address)
        sweeps.wait_until(process, lambda: len(told(experiment, ResultReported)) == 2)
        doomed.delete()
        sweeps.wait_until(process, lambda: told(experiment, TrialPreempted) or told(experiment, WorkerLost))
        sweeps.open_gate(gate)
        sweeps.finish(process)
    sweeps.finish(calm)
    assert not told(experiment, WorkerLost), "it ended in peace"
    (left,) = told(experiment, TrialPreempted)
    assert left.reason == "Ray: its machine is taken away"
    first, second = [one for one in told(experiment, TrialStarted) if one.trial == left.trial]
    assert second.restored_from == 2, "the step in which it was"
    assert second.place.node != first.place.node
    assert 2 in {one.iteration for one in told(experiment, CheckpointStaged) if one.trial == left.trial}
    assert sweeps.count_results(experiment) == 2 * 9, "no row is computed twice"
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "calm" / "walks")
    assert sweeps.weights(experiment) == sweeps.weights(tmp_path / "calm" / "walks")


def told(experiment: Path, kind: Any) -> list[Any]:
    return [one for one in sweeps.journal(experiment) if isinstance(one, kind)]
