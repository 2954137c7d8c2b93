"""A node joins a sweep that can run none of its trials."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import far_node
import pytest
import sweeps

import tunekit
from tunekit.core.events import TrialStarted, WorkerLost
from tunekit.types import LossCause

OPTIONS = ["--samples", "4", "--max-failures", "0"]

pytestmark = pytest.mark.ray


@contextmanager
def node_without(folders: Sequence[Path], address: str) -> Iterator[None]:
    """Have a node join, with one CPU, in whose mount namespace these folders are empty."""
    hidden = 'for each in $HIDDEN; do mount -t tmpfs none "$each" || exit; done; exec "$@"'
    joins = [f"--address={address}", f"--node-ip-address={address.partition(':')[0]}"]
    before = ["unshare", "--mount", "sh", "-c", hidden, "sh"]
    process = far_node.ray_start(joins, *before, HIDDEN=" ".join(map(str, folders)))
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=240)


def run_beside(hidden: Sequence[Path], folder: Path, *, kills: int = 0) -> tuple[Path, str]:
    """Run a sweep that a node joins on which folders are empty. Return its own, and what was said, once it has ended.

    Args:
        hidden: Those folders.
        folder: Where everything is.
        kills: How often the driver is killed once it has met that node.
    """
    experiment, gate = folder / "storage" / "walks", folder / "gate"
    arguments = (str(experiment.parent), *OPTIONS, "--step-s", "0.05", "--gate", str(gate))
    with sweeps.ray_head(num_cpus=1) as address:
        process = sweeps.start("walk_sweep.py", *arguments, address=address)
        sweeps.wait_until(process, lambda: sweeps.count_results(experiment))
        with node_without(hidden, address):
            heard = await_complaint(process)
            for _ in range(kills):
                sweeps.kill(process)
                process = sweeps.start("walk_sweep.py", *arguments, address=address)
                heard = await_complaint(process)
            sweeps.open_gate(gate)
            heard += process.communicate(timeout=sweeps.PATIENCE_S)[1]
    assert process.returncode == 0, heard
    assert heard.count("can run no trial") == 1
    assert sweeps.table(experiment) == sweeps.table(folder / "undisturbed" / "walks")
    started = [record for record in sweeps.journal(experiment) if isinstance(record, TrialStarted)]
    assert len({record.place.node for record in started}) == 1
    return experiment, heard


def await_complaint(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    lines = []
    while "can run no trial" not in (line := process.stderr.readline()):
        lines.append(line)
        assert line, "".join(lines)
    return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the same sweep has run undisturbed."""
    (tmp_path / "storage").mkdir()
    sweeps.finish(sweeps.start("walk_sweep.py", str(tmp_path / "undisturbed"), *OPTIONS, "--inline", "--step-s", "0"))
    return tmp_path


@pytest.mark.parametrize("kills", [1] if far_node.can_be_made() else [])
def test_a_node_without_the_storage_ends_nothing(folder: Path, kills: int) -> None:
    """What all need was there before; the others go on, and its attempts elsewhere, at no cost.

    Also when the driver is killed, and the next one finds that node there from the start.
    """
    experiment, heard = run_beside([folder / "storage"], folder, kills=kills)
    assert f"{experiment} holds no experiment on " in heard
    lost = [record for record in sweeps.journal(experiment) if isinstance(record, WorkerLost)]
    assert {loss.cause for loss in lost} <= {LossCause.NOT_STARTED, LossCause.DRIVER_LOST}
    assert sum("its node is passed over: " in loss.detail for loss in lost) >= 1


@pytest.mark.soak
@pytest.mark.parametrize("means", ["namespace"] if far_node.can_be_made() else [])
def test_a_node_without_tunekit_ends_nothing(folder: Path, means: str) -> None:
    """Its workers die before their first word, and Ray knows where they were."""
    installed = json.loads(metadata.distribution("tunekit").read_text("direct_url.json") or "{}")
    places = {Path(tunekit.__file__).parent, Path(installed["url"].removeprefix("file://")) / "tunekit"}
    experiment, heard = run_beside([*places], folder)
    assert "tried again in 60 s: ModuleNotFoundError: No module named 'tunekit" in heard
    assert set(sweeps.attempts(experiment).values()) == {1}
