"""Deterministic mode on real Ray: one worker or two, one of them killed, or none: the same sweep, bit for bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import sweeps

from tunekit.core.events import ResultReported, WorkerLost
from tunekit.core.trial import TrialState
from tunekit.schedulers import ASHA

pytestmark = pytest.mark.ray

SLOTS = 4
OPTIONS = ("--scheduler", "asha", "--samples", "8", "--slots", str(SLOTS), "--max-failures", "3", "--iterations", "8")
SCHEDULER = ASHA(max_t=8, reduction_factor=2)


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inline")
    sweeps.finish(sweeps.start("walk_sweep.py", str(folder), *OPTIONS, "--inline", "--step-s", "0"))
    return folder / "walks"


def ends(experiment: Path) -> list[tuple[str, str]]:
    def end(trial: TrialState) -> tuple[str, str]:
        return str(trial.status), trial.reason

    return [end(trial) for trial in sweeps.replayed(experiment, SCHEDULER).state.trials]


@pytest.mark.parametrize("cpus", [1, 2], ids=["two workers", "one worker"])
def test_a_killed_worker_and_the_number_of_workers_change_nothing(
    tmp_path: Path, ray_address: str, inline: Path, cpus: int
) -> None:
    """Promise 1, for a scheduler that decides by comparison."""
    experiment = tmp_path / "walks"
    gate = tmp_path / "gate"
    options = [*OPTIONS, "--cpus", str(cpus), "--step-s", "0.02", "--gate", str(gate)]
    process = sweeps.start("walk_sweep.py", str(tmp_path), *options, address=ray_address)
    sweeps.wait_for(experiment, process, 6)
    os.kill(sweeps.worker_pids(experiment)[-1], signal.SIGKILL)
    sweeps.wait_until(process, lambda: any(isinstance(one, WorkerLost) for one in sweeps.journal(experiment)))
    sweeps.open_gate(gate)
    sweeps.finish(process)
    assert sweeps.table(experiment, SCHEDULER) == sweeps.table(inline, SCHEDULER)
    assert ends(experiment) == ends(inline)
    assert len({record.attempt for record in sweeps.journal(experiment) if isinstance(record, ResultReported)}) > 1
