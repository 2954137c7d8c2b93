"""The worker that is asked for before the experiment is open: hired if it fits, and never in anybody's way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

import tunekit as tk
from tunekit.core.events import TrialReturned
from tunekit.errors import ExperimentExistsError, ResourcesError
from tunekit.journal.folder import experiment_folder
from tunekit.runtime.executor import first_worker as module
from tunekit.runtime.executor.first_worker import FirstWorker, first_worker
from tunekit.runtime.line.shapes import shape_of

pytestmark = pytest.mark.ray

Make = Callable[..., Any]
ONE_CPU = shape_of({"CPU": 1.0})


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have none of them ended because it was not hired for seconds: on a slow machine it takes as long to start."""
    monkeypatch.setattr(module, "PATIENCE_S", 240.0)


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive() -> set[str]:
    """The actors of the cluster that have not ended."""
    actors: dict[str, Any] = ray._private.state.actors()
    return {actor for actor, described in actors.items() if described["State"] != "DEAD"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[FirstWorker]:
    """All first workers that were asked for."""
    made: list[FirstWorker] = []

    class Watched(FirstWorker):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.was_taken = False
            made.append(self)

        def take(self, options: dict[str, Any]) -> Any:
            actor = super().take(options)
            self.was_taken |= actor is not None
            return actor

    monkeypatch.setattr(module, "FirstWorker", Watched)
    return made


def tuner(folder: Path, trainable: Any, **config: Any) -> tk.Tuner:
    space = {"rows": 1, **config}
    return tk.Tuner(trainable, param_space=space, run_config=tk.RunConfig(name="one", storage_path=folder, verbose=0))


def test_the_first_trial_of_a_sweep_runs_in_it(cluster: None, tmp_path: Path, reporter: Any, asked: list[Any]) -> None:
    """Whatever the trainable needs, as long as all trials need the same."""
    before = alive()
    assert tuner(tmp_path, tk.with_resources(reporter, {"CPU": 0.5})).fit()[0].metrics["i"] == 0
    assert [each.was_taken for each in asked] == [True]
    tuner(tmp_path, tk.with_resources(reporter, {"CPU": 0.5})).fit()
    assert len(asked) == 1, "a finished sweep needs none"
    eventually(lambda: not alive() - before)


def test_none_is_asked_for_where_trials_differ(cluster: None, tmp_path: Path, reporter: Any, asked: list[Any]) -> None:
    sized = tk.with_resources(reporter, lambda config: {"CPU": config["cpus"]})
    assert tuner(tmp_path, sized, cpus=1).fit()[0].metrics["i"] == 0
    assert asked == []


@pytest.fixture
def new_worker(find_processes: Callable[[str], list[int]]) -> Callable[[], int]:
    """Wait for a worker that was not there at the beginning of the test, and return its process."""
    before = set(find_processes("ray::Worker"))

    def wait() -> int:
        eventually(lambda: set(find_processes("ray::Worker")) - before)
        (pid,) = set(find_processes("ray::Worker")) - before
        return pid

    return wait


def test_one_worker_is_enough_for_one_trial(rig: Make, reporter: Any, new_worker: Callable[[], int]) -> None:
    sweep = rig(reporter, first=first_worker(ONE_CPU), max_concurrent_trials=1)
    pid = new_worker()
    sweep.launch(0, rows=1)
    sweep.await_event(TrialReturned)
    assert sweep.pid() == pid


def test_one_that_is_not_as_wanted_gives_its_place_free(rig: Make, reporter: Any, asked: list[Any]) -> None:
    before = alive()
    first = first_worker(shape_of({"CPU": 2.0}))
    eventually(lambda: alive() - before)
    unwanted = alive() - before
    sweep = rig(reporter, first=first)
    sweep.launch(0, rows=1)
    sweep.await_event(TrialReturned)
    assert not asked[0].was_taken
    eventually(lambda: not alive() & unwanted)


def test_one_that_has_died_costs_a_worker_and_no_trial(rig: Make, reporter: Any, new_worker: Callable[[], int]) -> None:
    sweep = rig(reporter, first=first_worker(ONE_CPU), max_concurrent_trials=1)
    killed = new_worker()
    os.kill(killed, signal.SIGKILL)
    sweep.launch(0, rows=1)
    sweep.await_event(TrialReturned)
    assert sweep.pid() != killed


def test_one_that_nobody_hires_is_ended_with_the_executor(rig: Make, reporter: Any) -> None:
    before = alive()
    first = first_worker(ONE_CPU)
    eventually(lambda: alive() - before)
    rig(reporter, first=first).executor.close()
    eventually(lambda: not alive() - before)
    assert ray.is_initialized()


def test_one_that_nobody_hires_for_long_keeps_no_place(
    rig: Make, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that waits for its retry may wait for minutes."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    before = alive()
    first = first_worker(ONE_CPU)
    eventually(lambda: alive() - before)
    sweep = rig(reporter, first=first)
    eventually(lambda: not alive() - before)
    sweep.launch(0, rows=1)
    sweep.await_event(TrialReturned)


def test_one_for_which_there_is_no_node_is_refused_with_its_trial(
    cluster: None, tmp_path: Path, reporter: Any, asked: list[Any]
) -> None:
    with pytest.raises(ResourcesError, match="CPU=99"):
        tuner(tmp_path, tk.with_resources(reporter, {"CPU": 99})).fit()
    assert len(asked) == 1
    assert ray.is_initialized()


def test_a_sweep_that_is_refused_leaves_none_behind(
    cluster: None, tmp_path: Path, reporter: Any, asked: list[Any]
) -> None:
    before = alive()
    with experiment_folder(str(tmp_path / "one")).taken(), pytest.raises(ExperimentExistsError):
        tuner(tmp_path, reporter).fit()
    assert [each.was_taken for each in asked] == [False]
    time.sleep(0.5)  # Until Ray knows of it.
    eventually(lambda: not alive() - before)
    assert ray.is_initialized()
