"""The batch script for SLURM, run by bash with stand-ins for SLURM's commands and Ray's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "doc_code" / "slurm.sbatch"
SWEEP = """#!/bin/bash
trap 'echo told USR1 >> told; exit {after_notice}' USR1
trap 'echo told TERM >> told; exit 143' TERM
echo "$@" > begun.new; mv begun.new begun
while [[ ! -e end ]]; do sleep 0.02; done
exit $(cat end)
"""
STAND_INS = {
    "srun": 'echo srun "$@" >> calls\nshift\nexec "$@"',
    "ray": 'echo ray "$1" >> calls\nwhile [[ $1 != -- ]]; do shift; done\nshift\n"$@"\nexit $?',
    "scontrol": 'echo scontrol "$@" >> calls',
}


@contextmanager
def submitted(folder: Path, after_notice: int = 138) -> Iterator[subprocess.Popen[str]]:
    """Run the script as SLURM does, with a sweep that waits for a signal or for a file that says how it ends."""
    for name, code in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/bash\n{code}\n")
    (folder / "python").write_text(SWEEP.format(after_notice=after_notice))
    for name in (*STAND_INS, "python"):
        (folder / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "17", "SLURM_NNODES": "1", "SLURM_CPUS_PER_TASK": "4"}
    env = {**os.environ, **job, "PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    process = subprocess.Popen(
        ["bash", str(SCRIPT), "--samples", "3"], cwd=folder, env=env, text=True, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 240
        while not (folder / "begun").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
    finally:
        (folder / "end").write_text("0")
        process.communicate(timeout=240)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_a_sweep_whose_time_is_nearly_up_is_saved_and_queued_again(tmp_path: Path) -> None:
    """The driver hears of it, and nobody else does."""
    with submitted(tmp_path) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) == 138
    assert (tmp_path / "told").read_text() == "told USR1\n"
    assert calls(tmp_path)[-1] == "scontrol requeue 17"


def test_a_job_that_is_cancelled_is_saved_and_stays_cancelled(tmp_path: Path) -> None:
    """``scontrol requeue`` would bring it back, as it does with any job."""
    with submitted(tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert (tmp_path / "told").read_text() == "told TERM\n"
    assert not [call for call in calls(tmp_path) if call.startswith("scontrol")]


def test_the_script_is_what_the_page_shows_and_starts_ray_on_each_node(tmp_path: Path) -> None:
    assert f"```bash\n{SCRIPT.read_text()}```" in (ROOT / "docs" / "slurm.md").read_text()
    with submitted(tmp_path):
        assert (tmp_path / "begun").read_text() == "sweep.py --samples 3\n"
        srun, ray = calls(tmp_path)
    assert srun.startswith("srun --cpus-per-task=4 ray symmetric-run --address ")
    assert ":6379 --min-nodes 1 --num-cpus 4 -- bash -c " in srun
    assert ray == "ray symmetric-run"


@pytest.mark.parametrize("code", [0, 1])
def test_a_sweep_that_ends_by_itself_is_not_queued_again(tmp_path: Path, code: int) -> None:
    """An error would only come again."""
    with submitted(tmp_path) as process:
        (tmp_path / "end").write_text(str(code))
        assert process.wait(60) == code
    assert not [call for call in calls(tmp_path) if call.startswith("scontrol")]


def test_a_sweep_that_was_done_when_it_was_told_is_done(tmp_path: Path) -> None:
    with submitted(tmp_path, after_notice=0) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) == 0
    assert not [call for call in calls(tmp_path) if call.startswith("scontrol")]
