"""The sweep in this process: what its user's functions of the space and of resources do wrong is a trial's failure."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np

import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import CheckpointStaged, ResultReported, TrialReturned
from tunekit.journal.log import read_records
from tunekit.runtime.line.spec import Delivery
from tunekit.runtime.sweep.inline import InlineChannel, InlineExecutor
from tunekit.types import TrialStatus


def train(config: dict[str, Any]) -> None:
    tk.report({"n": config["n"]})


def run(tmp_path: Path, trainable: Any) -> list[TrialStatus]:
    tuner = tk.Tuner(
        trainable,
        param_space={"n": tk.grid_search([1, 2, 3])},
        tune_config=tk.TuneConfig(seed=1),
        run_config=tk.RunConfig(
            name="exp", storage_path=str(tmp_path), failure_config=tk.FailureConfig(max_failures=-1), verbose=0
        ),
    )
    return [result.status for result in tk.inline(tuner)]


def test_a_function_of_resources_that_raises_fails_its_trial_once(tmp_path: Path) -> None:
    trainable = tk.with_resources(train, lambda config: {"cpu": 1 / (config["n"] - 2)} if config["n"] == 2 else {})
    assert run(tmp_path, trainable) == [TrialStatus.COMPLETED, TrialStatus.FAILED, TrialStatus.COMPLETED]
    launches = [record for record in read_records(tmp_path / "exp" / "journal") if isinstance(record, LaunchTrial)]
    assert len(launches) == 3, "it would raise again, whatever the budget"


def test_resources_that_cannot_be_fail_their_trial_once(tmp_path: Path) -> None:
    trainable = tk.with_resources(train, lambda config: {"cpu": -1 if config["n"] == 3 else 1})
    assert run(tmp_path, trainable) == [TrialStatus.COMPLETED, TrialStatus.COMPLETED, TrialStatus.FAILED]


class Weighted(tk.Trainable):
    def setup(self, config: dict[str, Any], weights: list[float]) -> None:
        self.value = weights[0] * config["n"]

    def step(self) -> dict[str, Any]:
        return {"n": self.value, "done": True}


def test_a_class_may_require_a_parameter(tmp_path: Path) -> None:
    assert run(tmp_path, tk.with_parameters(Weighted, weights=[2.0])) == [TrialStatus.COMPLETED] * 3


def greedy(config: dict[str, Any], bag: list[int], array: Any) -> dict[str, float]:
    """Changes in place what it was given, where it can."""
    bag.append(config["n"])
    return {"size": len(bag), "is_shared": float(not array.flags.writeable), "total": float(array.sum())}


def test_each_attempt_has_its_own_parameters(tmp_path: Path) -> None:
    """As on Ray, where the trials that a process happens to run would see what others of them have changed."""
    bag, array = [0], np.ones(3)
    tuner = tk.Tuner(
        tk.with_parameters(greedy, bag=bag, array=array),
        param_space={"n": tk.grid_search([1, 2, 3])},
        run_config=tk.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0),
    )
    rows = [result.rows[-1] for result in tk.inline(tuner)]
    assert [(row["size"], row["is_shared"], row["total"]) for row in rows] == [(2, 1.0, 3.0)] * 3
    assert (bag, array.flags.writeable) == ([0], True)


def test_a_parameter_that_no_longer_loads_fails_its_trials_alone(tmp_path: Path) -> None:
    once = Once()
    assert run(tmp_path, tk.with_parameters(taking, once=once)) == [
        TrialStatus.COMPLETED,
        TrialStatus.FAILED,
        TrialStatus.FAILED,
    ]


class Once:
    """Can be unpickled twice: when it is tried, and for the first attempt."""

    loads = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return load_once, ()


def load_once() -> Once:
    Once.loads += 1
    if Once.loads > 2:
        raise OSError("gone")
    return Once()


def taking(config: dict[str, Any], once: Once) -> None:
    tk.report({"n": config["n"]})


class TurnTaker:
    """Stands for the driver: notes what it was given, and whether two turns were taken at once."""

    def __init__(self) -> None:
        self.turns: list[list[str]] = []
        self.is_taking = False
        self.overlapped = False

    def take(self, deliveries: list[Delivery]) -> None:
        self.overlapped = self.overlapped or self.is_taking
        self.is_taking = True
        self.turns.append([type(event).__name__ for delivery in deliveries for event in delivery.events])

    def take_pending(self) -> None:
        threading.Event().wait(0.001)
        self.is_taking = False


def test_word_of_a_checkpoint_from_behind_is_a_turn_of_its_own() -> None:
    """Until the driver has heard of it, a checkpoint is nothing; so it does not wait for the trial's next report."""
    inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    executor = InlineExecutor(inbox)
    inbox.get()
    driver = TurnTaker()
    channel = InlineChannel(driver, executor, inbox)  # type: ignore[arg-type]
    staged = CheckpointStaged(trial=0, attempt=1, iteration=1, manifest={})
    channel.send(ResultReported(trial=0, attempt=1, iteration=1, metrics={}))
    threads = [threading.Thread(target=channel.send, args=[staged]) for _ in range(5)]
    for thread in threads:
        thread.start()
    channel.send(staged)
    for thread in threads:
        thread.join()
    assert not driver.overlapped
    assert driver.turns[0][0] == "ResultReported"
    assert [kind for turn in driver.turns for kind in turn].count("CheckpointStaged") == 6
    channel.send(TrialReturned(trial=0, attempt=1))
    assert driver.turns[-1] == ["TrialReturned"]
