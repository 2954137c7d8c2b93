"""Processes that trials start and leave behind end with the worker, however it ends and however they have hidden."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.types import TrialStatus

pytestmark = pytest.mark.ray


def make_parent() -> Any:
    """Return a function by value: workers cannot import a test's file."""

    def parent(config: dict[str, Any]) -> None:
        import os
        import signal
        import subprocess
        import sys

        note = f"{config['notes']}/{config['i']}.{tk.get_context().attempt}"
        dies = (config["i"], tk.get_context().attempt) == (0, 1)
        sleeper = (
            "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            "os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), f'{os.getpid()} '.encode());"
            "time.sleep(900)"
        )
        middle = "import subprocess, sys, time; subprocess.Popen(sys.argv[2:]); time.sleep(float(sys.argv[1]))"
        run = [sys.executable, "-c"]
        subprocess.Popen([*run, sleeper, note])
        if not dies:
            subprocess.Popen([*run, sleeper, note], start_new_session=True)
        subprocess.Popen([*run, middle, "900", *run, sleeper, note])
        subprocess.Popen([*run, middle, "0", *run, sleeper, note])
        before = Path(f"{config['notes']}/ended.{os.getpid()}")
        defunct = (
            [pid for pid in before.read_text().split() if Path(f"/proc/{pid}").exists()] if before.exists() else []
        )
        ended = []
        for _ in range(100):
            if (pid := os.fork()) == 0:
                os._exit(0)  # and nobody waits for it
            ended.append(pid)
        for pid in ended:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # It has ended, and is still defunct.
        before.write_text(" ".join(map(str, ended)))
        while not Path(note).exists() or len(Path(note).read_text().split()) < 4 - dies:
            time.sleep(0.02)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        tk.report({"worker": os.getpid(), "defunct": len(defunct)})

    return parent


def is_running(pid: int) -> bool:
    """Return whether a process can still do something; one that has ended may wait for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_nothing_that_a_trial_has_started_survives(cluster: None, tmp_path: Path) -> None:
    """Children, their children, those that left their group or lost their parent, and a hundred that nobody reaped.

    One worker is killed in the middle, the other serves all trials and leaves at the end; the cluster goes on living.
    (Only what is in a session of its own when its worker is killed is beyond the reach of Ray, which does the work
    here.) The children of a trial that nobody has reaped are gone when the next one begins in the same worker.
    """
    tuner = tk.Tuner(
        make_parent(),
        param_space={"i": tk.grid_search([0, 1, 2]), "notes": str(tmp_path)},
        tune_config=tk.TuneConfig(max_concurrent_trials=1),
        run_config=tk.RunConfig(
            name="parents", storage_path=tmp_path, verbose=0, failure_config=tk.FailureConfig(max_failures=1)
        ),
    )
    results = tuner.fit()
    assert [result.status for result in results] == [TrialStatus.COMPLETED] * 3
    assert len({result.metrics["worker"] for result in results}) < 3, "a worker is used again"
    assert [result.metrics["defunct"] for result in results] == [0, 0, 0]
    pids = [int(pid) for note in tmp_path.glob("[012].*") for pid in note.read_text().split()]
    assert len(pids) == 3 + 4 + 4 + 4
    deadline = time.monotonic() + 240
    ended = [int(pid) for note in tmp_path.glob("ended.*") for pid in note.read_text().split()]
    assert len(ended) >= 100 + 100
    while left := [pid for pid in pids if is_running(pid)] + [pid for pid in ended if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def make_forking() -> type[tk.Trainable]:
    class Forking(tk.Trainable):
        def step(self) -> dict[str, Any]:
            import os

            if self.iteration == 1:
                if (child := os.fork()) == 0:
                    return {"loss": 1e6}
                os.waitpid(child, 0)
            return {"loss": (self.iteration + 1) * self.config["x"], "done": self.iteration == 2}

    return Forking


def test_a_child_that_comes_back_from_a_step_is_no_second_worker(cluster: None, tmp_path: Path) -> None:
    """It would report in the name of its parent, and take the next trial."""
    tuner = tk.Tuner(
        make_forking(),
        param_space={"x": tk.grid_search([1.0, 2.0, 3.0])},
        tune_config=tk.TuneConfig(max_concurrent_trials=1),
        run_config=tk.RunConfig(name="forking", storage_path=tmp_path, verbose=0),
    )
    results = tuner.fit()
    rows = [[row["loss"] for row in result.rows] for result in results]
    assert rows == [[x, 2 * x, 3 * x] for x in (1.0, 2.0, 3.0)]
    assert not results.losses
