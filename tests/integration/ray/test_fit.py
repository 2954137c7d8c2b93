"""Whole sweeps on Ray: how they end when they are told to, when the executor breaks, and beside each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import sweeps

import tunekit as tk
from tunekit.core.events import StopRequested
from tunekit.errors import ExperimentError
from tunekit.runtime.line.mailbox import Mailbox
from tunekit.types import TrialStatus

pytestmark = pytest.mark.ray

_TWO = """
import os, signal, sys, threading
import ray  # It sets a variable of its own when it is imported.
import tunekit as tk

def train(config):
    tk.report({"session": ray.get_runtime_context().get_session_name()})

def fit(name, num_trials):
    tuner = tk.Tuner(
        train,
        param_space={"i": tk.grid_search(list(range(num_trials)))},
        tune_config=tk.TuneConfig(seed=1, max_concurrent_trials=1),
        run_config=tk.RunConfig(name=name, storage_path=sys.argv[1], verbose=0),
    )
    done = tuner.fit()
    sessions.update(result.metrics["session"] for result in done)
    results.append((name, len(done), done.num_errors))

results = []
sessions = set()
before = dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
thread = threading.Thread(target=fit, args=("short", 2))
thread.start()
fit("long", 20)
thread.join()
assert not ray.is_initialized()
print(sorted(results))
print(*sessions)
assert (dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
"""

_JOIN = """
import sys
import ray
from tunekit.runtime.executor.cluster import Cluster

class Actor:
    def answer(self):
        return 42

cluster = Cluster()
actor = ray.remote(num_cpus=0)(Actor).remote()
answer = actor.answer.remote()
assert "pyarrow" not in sys.modules, "asking for an actor loads what serializes objects"
assert ray.get(answer) == 42
assert ray.get(ray.put({"a": [actor]}))["a"]
assert "pyarrow" in sys.modules, "this test sees nothing"
print(cluster.is_joined, ray.get_runtime_context().get_session_name())
cluster.leave()
"""

_OTHERS = "trials have waited", "Found multiple active Ray instances"
"""What is said on a machine that is slow, or on which somebody else has a Ray."""


def python(code: str, *arguments: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=sweeps.PATIENCE_S,
        env=kept | environment,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not any(text in line for text in _OTHERS)]
    assert (done.returncode, said) == (0, [])
    return done.stdout


def command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def make_tuner(folder: Path) -> Any:
    def train(config: dict[str, Any]) -> None:
        tk.report({"i": config["i"]})

    return tk.Tuner(
        train,
        param_space={"i": tk.grid_search([1, 2, 3])},
        tune_config=tk.TuneConfig(seed=1, max_concurrent_trials=1),
        run_config=tk.RunConfig(name="exp", storage_path=str(folder), verbose=0),
    )


def test_sigterm_ends_a_sweep_cleanly_and_the_same_script_goes_on(tmp_path: Path) -> None:
    """Also where tunekit starts Ray itself, which would handle the signal in its own way."""
    experiment = tmp_path / "walks"
    gate = tmp_path / "gate"
    options = ["--step-s", "0.05", "--gate", str(gate)]
    process = sweeps.start("walk_sweep.py", str(tmp_path), *options, address="local")
    sweeps.wait_for(experiment, process, 4)
    process.send_signal(signal.SIGTERM)
    sweeps.wait_until_stopping(experiment, process)
    sweeps.open_gate(gate)
    _, err = process.communicate(timeout=sweeps.PATIENCE_S)
    assert process.returncode == 143, err
    assert "Run the same script again" in err
    assert [record.reason for record in sweeps.journal(experiment) if isinstance(record, StopRequested)] == ["SIGTERM"]
    sweeps.finish(sweeps.start("walk_sweep.py", str(tmp_path), *options, "--inline"))
    assert len(sweeps.table(experiment)) == 6 * 9
    assert sweeps.count_results(experiment) <= 6 * 9 + 2, "what was saved is not computed again"


def test_sweeps_in_threads_share_ray_and_the_last_one_ends_it(tmp_path: Path) -> None:
    """It is started quietly and leaves nothing behind: no process, and neither environment nor signal handlers."""
    out = python(_TWO, str(tmp_path), RAY_ADDRESS="local")
    results, session = out.splitlines()
    assert results == "[('long', 20, 0), ('short', 2, 0)]"
    assert session.startswith("session_")
    assert " " not in session, "they shared it"
    deadline = time.monotonic() + sweeps.PATIENCE_S
    while left := [folder for folder in Path("/proc").glob("[0-9]*") if session in command(folder)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_a_cluster_that_ray_start_left_running_is_joined(cluster: None, tmp_path: Path) -> None:
    """And its first actor is asked for before Ray has loaded what serializes objects."""
    folder = tmp_path / "ray"
    folder.mkdir()
    (folder / "ray_current_cluster").write_text(ray.get_runtime_context().gcs_address)
    out = python(_JOIN, RAY_TMPDIR=str(tmp_path))
    assert out.split() == ["False", ray.get_runtime_context().get_session_name()]
    assert ray.is_initialized()


def test_a_broken_executor_ends_the_run_and_costs_no_trial(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def drain(mailbox: Mailbox, wait_s: float) -> Any:
        raise MemoryError("no room for letters")

    with monkeypatch.context() as patch:
        patch.setattr(Mailbox, "drain", drain)
        with pytest.raises(ExperimentError, match="no room for letters"):
            make_tuner(tmp_path).fit()
    assert "MemoryError" in capfd.readouterr().err
    assert [result.status for result in make_tuner(tmp_path).fit()] == [TrialStatus.COMPLETED] * 3
