"""A node is cut off from the network and computes on: what it does has no effect, and it ends itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import far_node
import pytest
import sweeps

from tunekit.core.events import CheckpointPublished, TrialStarted, WorkerLost
from tunekit.store import layout
from tunekit.types import LossCause

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.soak]

OPTIONS = ["--samples", "2", "--iterations", "45", "--lease-s", "8"]


def wait_until(condition: Callable[[], object], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("means", ["namespace"] if far_node.can_be_made() else [])
def test_a_node_that_is_cut_off_publishes_nothing_and_ends_its_worker(tmp_path: Path, means: str) -> None:
    """Where network namespaces cannot be made, stopped nodes that wake up again must do: ``test_chaos_nodes.py``."""
    reference = sweeps.start("torch_sweep.py", str(tmp_path / "undisturbed"), "--inline", *OPTIONS)
    experiment = tmp_path / "mlps"
    with far_node.far_node() as far:
        sweeps.finish(reference)
        process = sweeps.start("torch_sweep.py", str(tmp_path), "--step-s", "0.3", *OPTIONS, address=far.address)

        def started() -> list[TrialStarted]:
            records = sweeps.journal(experiment) if experiment.exists() else []
            return [record for record in records if isinstance(record, TrialStarted)]

        def lost() -> list[WorkerLost]:
            return [record for record in sweeps.journal(experiment) if isinstance(record, WorkerLost)]

        wait_until(lambda: process.poll() is not None or any(start.place.node_ip == far.there for start in started()))
        (zombie,) = (start for start in started() if start.place.node_ip == far.there)
        sweeps.wait_for(experiment, process, 16, beyond=sweeps.count_results(experiment))
        far.pull()
        wait_until(lost)
        assert [(loss.trial, loss.attempt, loss.cause) for loss in lost()] == [
            (zombie.trial, zombie.attempt, LossCause.NODE_LOST)
        ]
        before = staged(experiment, zombie)
        wait_until(lambda: staged(experiment, zombie) - before)  # It does not know, and saves.
        wait_until(lambda: not Path(f"/proc/{zombie.place.pid}").exists())  # The cable is still out.
        far.plug()
        sweeps.finish(process)
    undisturbed = tmp_path / "undisturbed" / "mlps"
    assert sweeps.table(experiment) == sweeps.table(undisturbed)
    assert sweeps.weights(experiment) == sweeps.weights(undisturbed)
    assert not [path for path in experiment.glob(".staging/**/*") if path.is_file()]
    records = sweeps.journal(experiment)
    end = next(index for index, record in enumerate(records) if isinstance(record, WorkerLost))
    late = [record for record in records[end:] if isinstance(record, CheckpointPublished)]
    assert not [record for record in late if (record.trial, record.attempt) == (zombie.trial, zombie.attempt)]


def staged(experiment: Path, start: TrialStarted) -> set[int]:
    """Return the iterations at which an attempt has files in the staging area."""
    keys = [layout.parse_key_name(path.name) for path in experiment.glob(".staging/*")]
    name = f"Mlp_{start.trial:05d}"
    return {key.iteration for key in keys if key and (key.trial_name, key.attempt) == (name, start.attempt)}
