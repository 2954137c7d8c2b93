"""The sweep in this process: what its user's functions of the space and of resources do wrong is a trial's failure."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import CheckpointStaged, ResultReported, TrialReturned
from tunekit.journal.log import read_records
from tunekit.runtime.inline import InlineChannel, InlineExecutor
from tunekit.runtime.spec import Delivery
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


class TurnTaker:
    """Stands for the driver: notes what it was given, and on which thread."""

    def __init__(self) -> None:
        self.turns: list[tuple[list[str], bool]] = []

    def take(self, deliveries: list[Delivery]) -> None:
        kinds = [type(event).__name__ for delivery in deliveries for event in delivery.events]
        self.turns.append((kinds, threading.current_thread() is threading.main_thread()))

    def take_pending(self) -> None:
        """Nothing is pending."""


def test_word_of_a_checkpoint_from_behind_waits_for_the_trials_own() -> None:
    """The driver takes its turns on the thread that reports, and misses nothing."""
    inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    executor = InlineExecutor(inbox)
    inbox.get()
    driver = TurnTaker()
    channel = InlineChannel(driver, executor, inbox)  # type: ignore[arg-type]
    row = ResultReported(trial=0, attempt=1, iteration=1, metrics={})
    channel.send(row)
    staged = CheckpointStaged(trial=0, attempt=1, iteration=1, manifest={})
    thread = threading.Thread(target=channel.send, args=[staged])
    thread.start()
    thread.join()
    assert driver.turns == []
    assert channel.pending_stop() is None
    assert driver.turns == [(["ResultReported", "CheckpointStaged"], True)]
    assert channel.pending_stop() is None
    assert len(driver.turns) == 1
    channel.send(staged)
    channel.send(TrialReturned(trial=0, attempt=1))
    assert driver.turns[1:] == [(["CheckpointStaged", "TrialReturned"], True)]
