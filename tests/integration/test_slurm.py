"""The batch script of the documentation, on a real SLURM of one node."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import slurm
import sweeps

from tunekit.core.events import CheckpointStaged, DriverStarted, WorkerLost

pytestmark = [pytest.mark.soak, pytest.mark.ray]

SCRIPT = Path(__file__).resolve().parents[2] / "doc_code" / "slurm.sbatch"


@pytest.mark.timeout(600)
def test_a_job_whose_time_is_nearly_up_saves_is_queued_again_and_comes_to_the_same_end(
    tmp_path: Path,
) -> None:
    """S003-10: bit for bit, and with no failure allowed."""
    (tmp_path / "sweep.py").symlink_to(sweeps.SCRIPTS / "walk_sweep.py")
    arguments = (str(tmp_path), "--samples", "2", "--step-s", "0.5", "--gate", str(tmp_path / "gate"))
    calm = sweeps.start("walk_sweep.py", str(tmp_path / "calm"), "--samples", "2", "--inline")
    experiment = tmp_path / "walks"
    short = tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True)
    with short as folder, slurm.running(tmp_path / "slurm", RAY_TMPDIR=folder, RAY_AUTH_MODE="disabled") as cluster:
        options = ("--parsable", "--nodes=1", "--cpus-per-task=2", f"--chdir={tmp_path}", f"--output={tmp_path}/out")
        job = cluster("sbatch", *options, str(SCRIPT), *arguments).strip()
        slurm.until(lambda: sweeps.count_results(experiment) >= 5)
        cluster("scancel", "--batch", "--signal=USR1", job)  # As --signal=B:USR1@180 does, when that is left.
        slurm.until(lambda: cluster.job(job)["Restarts"] == "1")
        (tmp_path / "gate").touch()
        slurm.until(lambda: cluster.job(job)["JobState"] in {"COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL"})
        ended = cluster.job(job)
    out = (tmp_path / "out").read_text()
    assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), out[-2000:]
    sweeps.finish(calm)
    assert "return code 138" in out
    assert len(told(experiment, DriverStarted)) == 2
    assert not told(experiment, WorkerLost)
    assert [one.manifest["reason"] for one in told(experiment, CheckpointStaged)].count("pause") == 2
    assert sweeps.count_results(experiment) == 2 * 9, "no row is computed twice"
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "calm" / "walks")
    assert sweeps.weights(experiment) == sweeps.weights(tmp_path / "calm" / "walks")


def told(experiment: Path, kind: Any) -> list[Any]:
    return [one for one in sweeps.journal(experiment) if isinstance(one, kind)]
