"""``tunekit check``: a kill, a restore, and an exit status that a script can go by."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tunekit.cli.main import cli

TRAIN = """
import neighbour
import tunekit as tk
from pathlib import Path

class Counter(tk.Trainable):
    def setup(self, config):
        self.value, self.by = 0, config.get("by", neighbour.STEP)

    def step(self):
        self.value += self.by
        return {"value": self.value}

    def save_checkpoint(self, path):
        return {"value": neighbour.Box(self.value)}

    def load_checkpoint(self, state):
        self.value = state["value"].content

    def cleanup(self):
        if "log" in self.config:
            with Path(self.config["log"]).open("a") as file:
                file.write(f"{self.value}\\n")

class Forgetful(Counter):
    def load_checkpoint(self, state):
        pass

class NoMethods(tk.Trainable):
    def step(self):
        return {}

def function(config):
    counter = Counter(config)
    tk.restore(counter)
    for _ in range(tk.get_context().iteration, 3):
        tk.report(counter.step(), checkpoint=counter)

number = 3
"""
NEIGHBOUR = """
STEP = 2

class Box:
    def __init__(self, content):
        self.content = content
"""

Check = Callable[..., Result]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("train.py").write_text(TRAIN)
    Path("neighbour.py").write_text(NEIGHBOUR)
    Path("broken.py").write_text("import tunekit\nraise RuntimeError('half a file')\n")
    before = set(sys.modules)

    def run(*arguments: str) -> Result:
        try:
            return CliRunner().invoke(cli, ["check", *arguments])
        finally:
            for name in {"train", "neighbour", "broken"} - before:
                sys.modules.pop(name, None)

    return run


def test_honest_class_is_killed_and_restored(check: Check, tmp_path: Path) -> None:
    """S003-16. Of three runs, the one that saves never comes to its end: it is killed."""
    log = tmp_path / "log.txt"
    result = check("train.py:Counter", "--config", f'{{"log": "{log}", "by": 5}}', "--steps", "2")
    assert result.exit_code == 0, result.output
    assert "✓ Counter: killed after it had saved" in result.stdout
    assert log.read_text() == "20\n20\n"


def test_function_that_ends_by_itself(check: Check) -> None:
    """It is killed although it would have ended, before twice the steps are done."""
    result = check("train.py:function")
    assert result.exit_code == 0, result.output


def test_what_differs_is_named(check: Check) -> None:
    result = check("train.py:Forgetful")
    assert result.exit_code == 1
    assert result.stderr.startswith("ValidationError: Forgetful: load_checkpoint changes nothing: restored at")
    assert "at iteration 4 the metric 'value' is 2, expected 8" in result.stderr
    assert "\n\nhint: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["train.py:NoMethods"], 1, "does not define save_checkpoint() and load_checkpoint()"),
        (["train.py:Countr"], 2, "there is no 'Countr' in train.py\n\nhint: did you mean 'Counter'?"),
        (["train.py:xyz"], 2, "it defines Counter, Forgetful, NoMethods, function"),
        (["train.py:number"], 2, "got int, which is no trainable"),
        (["train.py"], 2, "got 'train.py', but must be a file and a name in it"),
        (["nowhere.py:Counter"], 2, "the file nowhere.py does not exist"),
        ([".:Counter"], 2, "the file . is a folder"),
        (["broken.py:Counter"], 2, "raised RuntimeError when it was imported: half a file"),
        (["train.py:Counter", "--config", "{by: 2}"], 2, "--config is no JSON"),
        (["train.py:Counter", "--config", "[2]"], 2, "--config must be a JSON object, got [2]"),
        (["train.py:Counter", "--steps", "0"], 2, "0 is not in the range x>=1"),
    ],
)
def test_bad_arguments(check: Check, arguments: list[str], status: int, text: str) -> None:
    result = check(*arguments)
    assert (result.exit_code, text in result.stderr) == (status, True), result.stderr


def test_file_whose_name_is_no_name_of_a_module(check: Check) -> None:
    """What it saves names its module, which a fresh process must find."""
    Path("2nd try.py").write_text(TRAIN.replace("neighbour.Box", "Box") + NEIGHBOUR)
    result = check("2nd try.py:Counter", "--steps", "1")
    assert result.exit_code == 0, result.output
