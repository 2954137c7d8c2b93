"""Reading a journal that another process is writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunekit.cli.demo_watch import read_progress


def write(folder: Path, *records: dict[str, Any], torn: str = "") -> Path:
    lines = [json.dumps(["0" * 16, record]) for record in records]
    (folder / "journal").mkdir()
    (folder / "journal" / "000000000001.jsonl").write_text("\n".join([*lines, torn]))
    return folder


def started(trial: int, attempt: int, pid: int) -> dict[str, Any]:
    return {"kind": "trial_started", "trial": trial, "attempt": attempt, "place": {"pid": pid}}


def result(trial: int, iteration: int) -> dict[str, Any]:
    return {"kind": "result", "trial": trial, "attempt": 1, "iteration": iteration, "metrics": {}}


def test_no_journal_yet_is_no_progress(tmp_path: Path) -> None:
    assert read_progress(tmp_path).num_results == 0


def test_workers_are_known_while_their_trials_run(tmp_path: Path) -> None:
    lost = {"kind": "worker_lost", "trial": 1, "attempt": 1, "cause": "crashed"}
    progress = read_progress(write(tmp_path, started(0, 1, 11), started(1, 1, 12), lost))
    assert progress.running == {0: 11}


def test_a_new_driver_has_no_workers(tmp_path: Path) -> None:
    progress = read_progress(write(tmp_path, started(0, 1, 11), {"kind": "driver_started", "generation": 2}))
    assert progress.running == {}


def test_iterations_computed_again_are_counted(tmp_path: Path) -> None:
    progress = read_progress(write(tmp_path, *(result(0, iteration) for iteration in (1, 2, 3, 3, 4))))
    assert (progress.num_results, progress.num_repeated) == (4, 1)


@pytest.mark.parametrize("torn", ['["00', '["0000000000000000"]', "\0\0\0"])
def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path, torn: str) -> None:
    assert read_progress(write(tmp_path, result(0, 1), torn=torn)).num_results == 1
