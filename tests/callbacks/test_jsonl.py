"""The logger's files hold what the results hold, wherever it was killed and however far its position lags behind."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tunekit as tk
from tunekit.callbacks import jsonl

Call = tuple[str, dict[str, Any]]


def result(trial: str, at: int, value: float) -> Call:
    row = {"loss": value, "training_iteration": at}
    return "on_trial_result", {"trial": SimpleNamespace(trial_id=trial), "result": row}


def complete(trial: str, at: int) -> Call:
    return "on_trial_complete", {"trial": SimpleNamespace(trial_id=trial, iteration=at)}


def error(trial: str) -> Call:
    return "on_trial_error", {"trial": SimpleNamespace(trial_id=trial)}


STORY: list[Call] = [
    result("a", 1, 0.1),
    result("b", 1, 1.1),
    result("a", 2, 0.2),
    result("a", 3, 0.3),
    result("b", 2, 1.2),
    result("b", 3, 1.3),
    result("b", 4, 1.4),
    result("a", 2, 0.2),  # a has gone back to 1
    result("b", 3, 1.35),  # b has gone back to 2, and is not deterministic
    result("a", 3, 0.3),
    result("a", 4, 0.4),
    complete("a", 4),
    complete("b", 3),
    result("c", 1, float("nan")),
    result("c", 2, 2.2),
    result("c", 1, float("inf")),
    error("c"),
]
EXPECTED = {
    "a": [0.1, 0.2, 0.3, 0.4],
    "b": [1.1, 1.2, 1.35],
    "c": [float("inf"), 2.2],
}


def tell(logger: tk.JsonlLogger, calls: Iterable[tuple[int, Call]], *, batch: int = 1) -> None:
    number = 0
    for number, (method, arguments) in calls:
        getattr(logger, method)(iteration=number, trials=(), **arguments)
        if number % batch == 0:
            logger.flush(number)
    if number:
        logger.flush(number)


def begin(folder: Path, experiment: str = "e-1") -> tk.JsonlLogger:
    logger = tk.JsonlLogger(folder)
    logger.setup(experiment_id=experiment)
    return logger


def values(folder: Path) -> dict[str, list[float]]:
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["training_iteration"] for row in rows] == list(range(1, len(rows) + 1))
        found[path.stem] = [row["loss"] for row in rows]
    return found


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_each_iteration_is_there_once(tmp_path: Path, batch: int) -> None:
    logger = begin(tmp_path)
    tell(logger, enumerate(STORY, 1), batch=batch)
    logger.on_experiment_end(())
    assert values(tmp_path) == EXPECTED
    assert begin(tmp_path).position() == len(STORY)


@pytest.mark.parametrize("seed", range(16))
def test_wherever_it_is_killed_the_files_come_to_the_same(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again and again, with a position that is anywhere behind, a torn line and a draft left over."""
    chance = random.Random(seed)
    monkeypatch.setattr(jsonl, "_POSITION_S", chance.choice([0.0, 1e9]))
    for _ in range(4):
        logger = begin(tmp_path)
        start = logger.position()
        end = chance.randint(start, len(STORY))
        tell(logger, list(enumerate(STORY, 1))[start:end], batch=chance.choice([1, 3]))
        if chance.random() < 0.3:
            logger._store()
        for path in tmp_path.glob("*.jsonl"):
            if path in logger._unsynced and chance.random() < 0.5:
                with path.open("a") as file:
                    file.write('{"loss": 9.9, "training_iter')
        (tmp_path / ".a.jsonl.1.draft").write_text("half of")
    logger = begin(tmp_path)
    tell(logger, list(enumerate(STORY, 1))[logger.position() :])
    assert values(tmp_path) == EXPECTED
    assert list(tmp_path.glob(".*draft")) == []


def test_what_is_told_again_writes_nothing(tmp_path: Path) -> None:
    calls = list(enumerate([result("a", at, at / 10) for at in (1, 2, 3)], 1))
    tell(begin(tmp_path), calls)
    before = (tmp_path / "a.jsonl").stat()
    again = begin(tmp_path)
    tell(again, calls)
    after = (tmp_path / "a.jsonl").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_folder_of_another_experiment_is_refused(tmp_path: Path) -> None:
    logger = begin(tmp_path)
    tell(logger, enumerate(STORY, 1))
    logger.on_experiment_end(())
    with pytest.raises(tk.ConfigError, match=r"holds the rows of the experiment e-1, and this one is e-2") as raised:
        begin(tmp_path, "e-2")
    assert "folder of its own" in raised.value.hint


def test_the_position_is_never_ahead_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are synced before the position says so."""
    monkeypatch.setattr(jsonl, "_POSITION_S", 0.0)
    order: list[str] = []

    def note(path: Path, data: bytes) -> None:
        order.append(path.name)
        path.write_bytes(data)

    monkeypatch.setattr(os, "fsync", lambda fd: order.append("sync"))
    monkeypatch.setattr(jsonl, "replace_file", note)
    logger = begin(tmp_path)
    tell(logger, [(1, result("a", 1, 0.1))])
    assert order.index("sync") < order.index("position.json")
