"""Callbacks of whole sweeps: told what the journal holds, once, though the driver is killed again and again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.core.metrics import is_of_clock_or_place
from tunekit.journal.log import read_records

SCRIPT = """
import os, random, signal, sqlite3, sys, threading, time
import tunekit as tk

folder, logs, kill_after_s = sys.argv[1], sys.argv[2], float(sys.argv[3])


class Walk(tk.Trainable):
    def setup(self, config):
        self.random, self.x = random.Random(config["seed"]), 0.0

    def step(self):
        time.sleep(0.004)
        self.x += self.random.gauss(0, 1)
        if self.iteration == 9 and self.random.random() < 0.3:
            raise RuntimeError("bad luck")
        return {"loss": self.x, "done": self.iteration == 11 + self.config["seed"]}

    def save_checkpoint(self, path):
        return {"x": self.x, "random": repr(self.random.getstate())}

    def load_checkpoint(self, state):
        self.x = state["x"]
        self.random.setstate(eval(state["random"]))


class Calls(tk.Callback):
    # Each call in a table, which is committed together with the number that it goes up to.
    def setup(self, **info):
        if kill_after_s:
            threading.Timer(kill_after_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
        self.db = sqlite3.connect(logs + "/calls.db", check_same_thread=False)
        self.db.execute("create table if not exists calls (number, name, trial, iteration)")
        self.db.execute("create table if not exists position (number)")
        self.db.commit()

    def position(self):
        (number,) = self.db.execute("select max(number) from position").fetchone()
        return number or 0

    def put(self, number, name, trial, iteration):
        self.db.execute("insert into calls values (?, ?, ?, ?)", (number, name, trial.trial_id, iteration))

    def on_trial_result(self, iteration, trial, result, **info):
        self.put(iteration, "result", trial, result["training_iteration"])

    def on_checkpoint(self, iteration, trial, checkpoint, training_iteration, **info):
        self.put(iteration, "checkpoint", trial, training_iteration)

    def on_trial_complete(self, iteration, trial, **info):
        self.put(iteration, "complete", trial, trial.iteration)

    def flush(self, number):
        self.db.execute("insert into position values (?)", (number,))
        self.db.commit()


tk.inline(tk.Tuner(
    Walk,
    param_space={"seed": tk.grid_search([1, 2, 3, 4, 5])},
    tune_config=tk.TuneConfig(metric="loss", mode="min", seed=1),
    run_config=tk.RunConfig(
        name="walk", storage_path=folder, verbose=0, callbacks=[tk.JsonlLogger(logs), Calls()],
        checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=3, num_to_keep=2),
        failure_config=tk.FailureConfig(max_failures=-1),
    ),
))
"""


def run(folder: Path, kill_after_s: float = 0.0) -> int:
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(folder), str(folder / "logs"), str(kill_after_s)]
    return subprocess.run(command, check=False, timeout=240).returncode


def logged(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.name: [
            {key: value for key, value in json.loads(line).items() if not is_of_clock_or_place(key)}
            for line in path.read_text().splitlines()
        ]
        for path in sorted((folder / "logs").glob("*.jsonl"))
    }


def called(folder: Path) -> list[tuple[Any, ...]]:
    import sqlite3

    with sqlite3.connect(folder / "logs" / "calls.db") as db:
        found = list(db.execute("select number, name, trial, iteration from calls order by rowid"))
    db.close()
    return found


def recorded(folder: Path) -> Counter[tuple[str, str, int]]:
    """Return what the journal holds of rows and checkpoints, each under the name of its trial."""
    kinds = {"ResultReported": "result", "CheckpointPublished": "checkpoint"}
    return Counter(
        (kinds[type(record).__name__], f"Walk_{record.trial:05d}", record.iteration)  # type: ignore[union-attr]
        for record in read_records(folder / "walk" / "journal")
        if type(record).__name__ in kinds
    )


def test_a_logger_holds_each_iteration_once_though_its_driver_is_killed(tmp_path: Path, kills: int) -> None:
    """Promise 2, for observers, over SIGKILL at any moment: the files of a logger are those of an undisturbed run.

    And one that commits the number together with what it was told is told of each record of the journal once.
    """
    assert run(tmp_path / "calm") == 0
    rng = random.Random(7)
    codes = [run(tmp_path / "storm", rng.uniform(0.01, 0.25)) for _ in range(kills)]
    assert codes.count(-signal.SIGKILL) > 0
    assert run(tmp_path / "storm") == 0
    assert logged(tmp_path / "storm") == logged(tmp_path / "calm")
    assert [len(rows) for rows in logged(tmp_path / "calm").values()] == [12 + seed for seed in range(1, 6)]
    calls = called(tmp_path / "storm")
    assert [number for number, *_ in calls] == sorted({number for number, *_ in calls})
    told = Counter((name, trial, iteration) for _, name, trial, iteration in calls if name != "complete")
    assert told == recorded(tmp_path / "storm")


@pytest.mark.parametrize("method", ["on_trial_result", "on_checkpoint", "flush", "on_experiment_end"])
def test_a_callback_that_raises_changes_nothing(tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture) -> None:
    def train(config: dict[str, Any]) -> None:
        for step in range(3):
            tk.report({"loss": config["x"] / (step + 1)})

    def fail(*args: Any, **info: Any) -> None:
        raise ValueError("broken")

    def sweep(name: str, callbacks: list[tk.Callback]) -> list[list[dict[str, Any]]]:
        tuner = tk.Tuner(
            train,
            param_space={"x": tk.uniform(0, 1)},
            tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=3, seed=1),
            run_config=tk.RunConfig(name=name, storage_path=tmp_path, verbose=0, callbacks=callbacks),
        )
        return [
            [{key: value for key, value in row.items() if not is_of_clock_or_place(key)} for row in result.rows]
            for result in tk.inline(tuner)
        ]

    broken = type("Broken", (Lists,), {method: fail})()
    assert sweep("one", [broken, tk.JsonlLogger(tmp_path / "logs")]) == sweep("other", [])
    assert len(list((tmp_path / "logs").glob("*.jsonl"))) == 3
    assert caplog.text.count("ValueError: broken") == (method != "on_checkpoint")  # There is none.


class Lists(tk.Callback):
    """Notes the names of its calls."""

    def __init__(self, position: int | None = None) -> None:
        self.names: list[str] = []
        self.at = position
        self.info: dict[str, Any] = {}

    def setup(self, *args: Any, **info: Any) -> None:
        self.info = info

    def position(self) -> int | None:
        return self.at

    def on_restore(self, iteration: int, trials: Any, **info: Any) -> None:
        self.names.append(f"restore {[(trial.status.value, trial.iteration) for trial in trials]}")

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.names.append(f"start {trial.config}")

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.names.append(f"result {result['training_iteration']}")

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        self.names.append("end")


def test_a_later_run_tells_where_things_stand_and_the_past_to_who_asks(tmp_path: Path) -> None:
    def sweep(callback: tk.Callback, num_samples: int) -> None:
        tk.inline(
            tk.Tuner(
                lambda config: {"loss": config["x"]},
                param_space={"x": tk.choice([3])},
                tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=num_samples, seed=1),
                run_config=tk.RunConfig(name="e", storage_path=tmp_path, verbose=0, callbacks=[callback]),
            )
        )

    first, second, third = Lists(), Lists(), Lists(0)
    sweep(first, 1)
    assert first.names == ["start {'x': 3}", "result 1", "end"]
    assert {"name": "e", "metric": "loss", "mode": "min", "path": str(tmp_path / "e")}.items() <= first.info.items()
    sweep(second, 2)
    assert second.names == ["restore [('completed', 1)]", *first.names]
    assert second.info["experiment_id"] == first.info["experiment_id"]
    sweep(third, 2)
    both = "restore [('completed', 1), ('completed', 1)]"
    assert third.names == [*first.names[:-1], *second.names[:-1], both, "end"]


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [
        (tk.Callback(), "callbacks: got"),
        ([tk.Callback], r"callbacks\[0\]: got .*must be an instance of a tunekit.Callback"),
        ([tk.Callback(), print], r"callbacks\[1\]: got"),
    ],
)
def test_what_is_no_callback_is_refused(callbacks: Any, said: str) -> None:
    with pytest.raises(tk.ConfigError, match=said):
        tk.RunConfig(callbacks=callbacks)
    with pytest.raises(tk.ConfigError, match="given once"):
        tk.RunConfig(callbacks=[callback := tk.Callback(), callback])
