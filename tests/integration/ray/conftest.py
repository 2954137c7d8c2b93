"""A small cluster, and a driver without a core: it acknowledges whatever comes, and does what a test tells it."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
from sweeps import ancestors

import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import CapacityChanged, Event, TrialStarted
from tunekit.runtime.executor import pool
from tunekit.runtime.executor.ray_executor import RayExecutor
from tunekit.runtime.line.spec import AttemptSpec, Delivery, ExecutorCommand, SweepSpec


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray with two CPUs, in the way in which a user would start it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class Rig:
    """An executor and what came of it."""

    def __init__(self, folder: Path, trainable: Any, **options: Any) -> None:
        self.configs: dict[int, dict[str, Any]] = {}
        self.resources: Mapping[str, float] = {"CPU": 1.0}
        self.events: list[Event] = []
        self._next_trial = 100
        self.inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        sweep = SweepSpec(experiment="rig", path=str(folder), seed=1, **options.pop("sweep", {}))
        self.executor = RayExecutor(
            sweep=sweep, trainable=trainable, spec_of=self._spec_of, inbox=self.inbox, **options
        )

    def _spec_of(self, launch: LaunchTrial) -> AttemptSpec:
        return AttemptSpec(
            trial=launch.trial,
            attempt=launch.attempt,
            trial_name=f"t_{launch.trial:05d}",
            config=self.configs.get(launch.trial, {}),
            until=launch.until,
            resources=self.resources,
        )

    def fresh(self) -> int:
        """Return a trial that no other test has used, nor the one after it."""
        self._next_trial += 2
        return self._next_trial

    def do(self, *commands: ExecutorCommand) -> None:
        self.executor.execute(list(commands))

    def launch(self, trial: int, *, attempt: int = 1, until: int | None = None, **config: Any) -> None:
        self.configs[trial] = config
        self.do(LaunchTrial(trial=trial, attempt=attempt, until=until))

    def take(self, timeout_s: float) -> None:
        """Wait for one delivery, note it and acknowledge it."""
        delivery = self.inbox.get(timeout=timeout_s)
        self.events += delivery.events
        if delivery.token is not None:
            self.executor.acknowledge([delivery.token])

    def until(self, condition: Callable[[], Any], timeout_s: float = 240.0) -> Any:
        """Take deliveries until the condition holds, and return what it returned."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            try:
                self.take(max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"nothing more came; so far: {self.events}")
        return value

    def await_event(self, kind: type[Any], trial: int = 0, attempt: int = 1) -> Any:
        return self.until(lambda: next(iter(self.of(trial, attempt, kind)), None))

    def of(self, trial: int, attempt: int = 1, kind: Any = object) -> list[Any]:
        """Return the events of one attempt, in the order in which they came."""
        return [
            event
            for event in self.events
            if (getattr(event, "trial", None), getattr(event, "attempt", None)) == (trial, attempt)
            and isinstance(event, kind)
        ]

    def pid(self, trial: int = 0, attempt: int = 1) -> int:
        """Wait until an attempt runs, and return its process."""
        return int(self.await_event(TrialStarted, trial, attempt).place.pid)

    def until_gone(self, pid: int) -> None:
        """Wait until a process has ended."""
        deadline = time.monotonic() + 240
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @property
    def capacity(self) -> int:
        return [event.max_live for event in self.events if isinstance(event, CapacityChanged)][-1]


@pytest.fixture
def rig(cluster: None, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Make an executor for a trainable; it is closed at the end."""
    made: list[Rig] = []

    def make(trainable: Any, **options: Any) -> Rig:
        made.append(Rig(tmp_path, trainable, **options))
        return made[-1]

    yield make
    for each in made:
        each.executor.close()


def make_reporter() -> Callable[[dict[str, Any]], None]:
    """Return a function by value: workers cannot import a test's file."""

    def reporter(config: dict[str, Any]) -> None:
        if "begun" in config:
            Path(config["begun"]).touch()
        while "gate" in config and not Path(config["gate"]).exists():
            time.sleep(0.01)
        for i in range(config.get("rows", 0)):
            tk.report({"i": i})
            time.sleep(config.get("pause_s", 0.0))
        while "told" in config and not Path(config["told"]).exists():
            time.sleep(0.01)
            if tk.preempted():  # This thread has handled the signal when it comes to the next line.
                Path(config["told"]).touch()
        time.sleep(config.get("sleep_s", 0.0))

    return reporter


@pytest.fixture(scope="module")
def shared_rig(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One executor with one worker at a time for many tests, which take care to leave it idle."""
    rig = Rig(tmp_path_factory.mktemp("rig"), make_reporter(), max_concurrent_trials=1)
    yield rig
    rig.executor.close()


@pytest.fixture
def all_are_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have trials wait at a worker behind another one, however slow this machine is."""
    monkeypatch.setattr(pool, "BRIEF_S", 1000.0)
    monkeypatch.setattr(pool, "LONG_S", 1000.0)


@pytest.fixture
def reporter() -> Callable[[dict[str, Any]], None]:
    """A function that does what its config says.

    It notes its begin, waits for a file, reports ``rows`` rows, waits until its process is told to end and notes that,
    and sleeps.
    """
    return make_reporter()


def processes_of_this_test(name: str) -> list[int]:
    """Return the processes of our own cluster whose title begins with ``name``; nobody else's."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_named = (folder / "cmdline").read_bytes().startswith(name.encode())
        except OSError:
            continue
        if is_named and os.getpid() in ancestors(int(folder.name)):
            found.append(int(folder.name))
    return found


@pytest.fixture
def find_processes() -> Callable[[str], list[int]]:
    """See ``processes_of_this_test``."""
    return processes_of_this_test
