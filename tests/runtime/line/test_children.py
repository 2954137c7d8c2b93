"""A child that user code forks ends where it leaves that code: it is no second worker, and no second driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunekit.core.events import ResultReported, TrialRaised
from tunekit.journal.log import read_records
from tunekit.runtime.line.children import Home, ending_children

SWEEP = """
import os, sys, time
import tunekit as tk

def wait(child):
    _, status = os.waitpid(child, 0)
    open("codes", "a").write(f"{os.waitstatus_to_exitcode(status)} ")

def stop(trial, row):
    return False

TRAINABLE

tuner = tk.Tuner(
    train,
    param_space={"x": tk.grid_search([1.0, 2.0])},
    run_config=tk.RunConfig(
        name="s", storage_path=".", verbose=0, stop=stop, checkpoint_config=tk.CheckpointConfig(SAVES)
    ),
)
results = tk.inline(tuner)
assert not results.num_errors, results
print("the end", len(results))
"""
FUNCTION = """
def train(config):
    for i in range(1, 4):
        if i == 2 and (child := os.fork()) == 0:
            DOES
        if i == 2:
            wait(child)
        tk.report({"loss": i * config["x"]})
"""
CLASS = """
class train(tk.Trainable):
    def step(self):
        if self.iteration == 1 and os.fork() == 0:
            return {"loss": 1e6}
        time.sleep(0.1 * (self.iteration == 1))
        return {"loss": (self.iteration + 1) * self.config["x"], "done": self.iteration == 2}

    def save_checkpoint(self, path):
        if os.fork() == 0:
            return
        time.sleep(0.1)

    def load_checkpoint(self, path):
        pass
"""


def run(folder: Path, trainable: str, saves: str = "") -> str:
    """Run a sweep, and return what its children have said; its rows must be as without them."""
    code = SWEEP.replace("TRAINABLE", trainable).replace("SAVES", saves)
    (folder / "sweep.py").write_text(code)
    ended = subprocess.run(
        [sys.executable, "sweep.py"], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("the end 2") == 1, "a child has come back"
    records = list(read_records(folder / "s" / "journal"))
    rows = [(record.trial, record.metrics["loss"]) for record in records if isinstance(record, ResultReported)]
    assert rows == [(trial, i * x) for trial, x in enumerate((1.0, 2.0)) for i in (1, 2, 3)]
    assert not [record for record in records if isinstance(record, TrialRaised)]
    return ended.stderr


@pytest.mark.parametrize(
    ("does", "code", "says"),
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit()", 0, ""),
        ("return", 0, ""),
        ("raise ValueError('in the child')", 1, "ValueError: in the child"),
        ("tk.report({'loss': -1.0})", 1, "SessionError"),
    ],
)
def test_a_child_of_a_function_ends_as_any_process_would(tmp_path: Path, does: str, code: int, says: str) -> None:
    stderr = run(tmp_path, FUNCTION.replace("DOES", does))
    assert (tmp_path / "codes").read_text() == f"{code} " * 2
    assert says in stderr


def test_a_child_that_comes_back_from_a_step_or_a_save_reports_and_saves_nothing(tmp_path: Path) -> None:
    kept = []
    for name, code in (("with", CLASS), ("without", CLASS.replace("os.fork() == 0", "False"))):
        (folder := tmp_path / name).mkdir()
        run(folder, code, saves="checkpoint_frequency=2")
        kept.append(sorted(path.relative_to(folder) for path in (folder / "s").glob("*/checkpoint_*/*")))
    assert kept[0] == kept[1] != []


def test_a_child_of_a_stop_criterion_is_no_second_driver(tmp_path: Path) -> None:
    stops = "\ndef stop(trial, row):\n    return row['training_iteration'] == 2 and os.fork() == 0 and False\n"
    run(tmp_path, FUNCTION.replace("i == 2", "False") + stops)


def child_of(block: Callable[[], None]) -> int:
    """Return how a child ends that runs this in the block, and what comes after only there."""
    if (pid := os.fork()) == 0:
        signal.alarm(60)
        try:
            with ending_children():
                if os.fork() == 0:
                    block()
                else:
                    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def leave(code: object) -> None:
    raise SystemExit(code)


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (7, 7), ("no", 1), (256, 0)])
def test_the_code_of_an_exit_is_kept(code: object, expected: int) -> None:
    assert child_of(lambda: leave(code)) == expected


def test_it_does_not_come_back_by_any_way() -> None:
    assert child_of(lambda: None) == 0
    assert child_of(lambda: os.kill(0, -1)) == 1
    home = Home()
    home.check()
    assert child_of(home.check) == 0
