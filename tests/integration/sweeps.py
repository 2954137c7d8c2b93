"""What integration and chaos tests share: a Ray head of their own, sweeps to kill, and tables to compare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunekit.core.commands import ContinueTrial, LaunchTrial, StopTrial
from tunekit.core.events import ResultReported, StopRequested, TrialStarted
from tunekit.core.experiment import Experiment
from tunekit.core.invariants import check
from tunekit.core.policies import Scheduler
from tunekit.core.rows import RowTable
from tunekit.journal.folder import experiment_folder
from tunekit.journal.replay import replay
from tunekit.schedulers import FIFO
from tunekit.store import CheckpointIO, layout, open_store
from tunekit.testing.sim_accounts import check_accounts
from tunekit.types import Mode

SCRIPTS = Path(__file__).parent / "scripts"
PATIENCE_S = 240.0
"""What is not there by then never comes, on whatever machine, with whatever else it has to do."""


@contextmanager
def ray_head(num_cpus: int = 2, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a Ray head of our own, and yield its address: drivers that are killed and run again find it living."""
    # What is just starting or ending there may still make a file while the folder is removed.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        code = (
            "import ray, sys, time\n"
            f"c = ray.init(address='local', num_cpus={num_cpus}, include_dashboard=False, _temp_dir={folder!r})\n"
            "print(c.address_info['gcs_address'], flush=True)\n"
            "sys.stdin.read()\n"
        )
        env = {**os.environ, "RAY_AUTH_MODE": "disabled", **(environment or {})}
        head = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert head.stdout is not None
            yield head.stdout.readline().strip()
        finally:
            head.communicate("", timeout=PATIENCE_S)


def start(script: str, *arguments: str, address: str | None = None, **environment: str) -> subprocess.Popen[str]:
    """Start a script as a process group of its own.

    Args:
        script: Its name.
        arguments: What it is given.
        address: The Ray cluster to join; empty: none is there, but one may be started; None: Ray is not needed.
        environment: What else it finds in its environment.
    """
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    if address is not None:
        env |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    if address:
        env["RAY_ADDRESS"] = address
    env |= environment
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a sweep to end well, and return what it printed."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    """Kill a driver, and reap it."""
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)


def open_gate(gate: Path, below: int | None = None) -> None:
    """Let the trials of ``walk_sweep.py`` end, all or those below an index."""
    new = gate.with_suffix(".new")
    new.write_text("" if below is None else str(below))
    new.replace(gate)  # At once: what is half written would let all pass.


def journal(experiment: Path | str) -> list[Any]:
    """Return every record of an experiment in a folder or at a URI; none if it has not come that far."""
    return list(experiment_folder(experiment).records())


def wait_for(experiment: Path | str, process: subprocess.Popen[str], num_results: int, beyond: int = 0) -> None:
    """Wait until so many results are journalled. Whoever then wants to find it running holds it.

    Args:
        experiment: Where.
        process: The sweep.
        num_results: How many.
        beyond: How many there were before it was started. To count them later might leave too few to come: a sweep that
            is held makes so many and no more, and may have made them by the time that somebody looks.
    """
    wait_until(process, lambda: count_results(experiment) >= beyond + num_results)


def wait_until(process: subprocess.Popen[str], condition: Callable[[], object]) -> None:
    """Wait for something that happens while a sweep runs."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


def wait_until_stopping(experiment: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a driver that was sent a signal has heard it. It may end at any moment then."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and not any(isinstance(record, StopRequested) for record in journal(experiment)):
        assert time.monotonic() < deadline, "the signal is not heard"
        time.sleep(0.05)


def count_results(experiment: Path | str) -> int:
    """Return how many rows are journalled, superseded ones included."""
    return sum(isinstance(record, ResultReported) for record in journal(experiment))


def worker_pids(experiment: Path | str) -> list[int]:
    """Return the processes in which trials have started, the newest last."""
    return [record.place.pid for record in journal(experiment) if isinstance(record, TrialStarted)]


def replayed(experiment: Path | str, scheduler: Scheduler) -> Experiment:
    """Fold an experiment's journal through a fresh core; its recorded decisions are compared with the new ones."""
    core = Experiment(scheduler, Mode.MAX)
    replay(journal(experiment), core.handle)
    check(core)
    return core


def table(experiment: Path | str, scheduler: Scheduler | None = None) -> dict[tuple[int, int], dict[str, str]]:
    """Return the metrics of every (trial, iteration) that counts, each number in all its bits.

    The seconds of the sweep must add up, too: whatever has happened to it.
    """
    records = journal(experiment)
    assert not list(check_accounts(records, Experiment(scheduler or FIFO(), Mode.MAX)))
    rows = RowTable(records)
    trials = replayed(experiment, scheduler or FIFO()).state.trials
    return {
        (row.trial, row.iteration): {key: float(value).hex() for key, value in row.metrics.items()}
        for trial in trials
        for row in rows.rows(trial)
    }


def weights(experiment: Path) -> dict[str, bytes]:
    """Return every byte of every checkpoint that is left, after finding each as its manifest says."""
    found = {}
    io = CheckpointIO(open_store(str(experiment), create=False))
    for manifest in experiment.glob(f"*/*/{layout.MANIFEST}"):
        iteration = layout.parse_checkpoint_name(manifest.parent.name)
        assert iteration is not None
        io.verify(manifest.parent.parent.name, iteration)
        for path in manifest.parent.rglob("*"):
            if path.is_file() and path.name != layout.MANIFEST:
                found[str(path.relative_to(experiment))] = path.read_bytes()
    return found


def attempts(experiment: Path | str) -> Counter[int]:
    """Return how many attempts each trial took."""
    return Counter(record.trial for record in journal(experiment) if isinstance(record, LaunchTrial))


def decisions(records: Sequence[Any]) -> list[Any]:
    """Return the decisions among these records, in order."""
    return [record for record in records if isinstance(record, ContinueTrial | StopTrial)]


def ancestors(pid: int) -> list[int]:
    """Return the line of parents of a process."""
    line = []
    while pid > 1:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
        line.append(pid)
    return line
