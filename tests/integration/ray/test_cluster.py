"""Ray is started quietly when it is not running, joined when it is, and left as it was found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from tunekit.runtime.cluster import Cluster

pytestmark = pytest.mark.ray

_SCRIPT = """
import queue, sys
import ray
import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import TrialReturned
from tunekit.runtime.ray_executor import RayExecutor
from tunekit.runtime.spec import AttemptSpec, SweepSpec

def train(config):
    tk.report({"x": config["x"]})

inbox = queue.SimpleQueue()
executor = RayExecutor(
    sweep=SweepSpec(experiment="e", path=sys.argv[1], seed=0),
    trainable=train,
    spec_of=lambda launch: AttemptSpec(trial=0, attempt=1, trial_name="t_00000", config={"x": 1}),
    inbox=inbox,
)
executor.execute([LaunchTrial(trial=0, attempt=1)])
while not any(isinstance(event, TrialReturned) for event in inbox.get(timeout=60).events):
    pass
print(ray.get_runtime_context().get_session_name(), flush=True)
executor.close()
assert not ray.is_initialized()
"""


def test_a_cluster_of_ours_is_quiet_and_ends_with_us(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["RAY_ADDRESS"] = "local"  # Whatever else runs on this machine.
    done = subprocess.run(  # noqa: PLW1510 - looked at below, with what it said
        [sys.executable, "-c", _SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=100, env=environment
    )
    assert done.returncode == 0, done.stderr
    session = done.stdout.strip()
    assert session.startswith("session_"), "nothing else is printed"
    assert done.stderr == ""
    assert not [pid for pid in _processes() if session in _command(pid)]


def test_a_cluster_that_was_there_is_left_as_it_was_found(rig: Callable[..., Any], reporter: Any) -> None:
    before = ray.get_runtime_context().get_session_name()
    rig(reporter).executor.close()
    assert ray.is_initialized()
    assert ray.get_runtime_context().get_session_name() == before


def test_the_nodes_of_a_cluster_and_what_they_offer(cluster: None) -> None:
    joined = Cluster()
    assert joined.is_joined
    (node,) = joined.nodes()
    assert node.id == joined.here
    assert node.resources["CPU"] == 2.0
    assert joined.growth() == []


def _processes() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
