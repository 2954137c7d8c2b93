"""``checkpoint_every_s="auto"`` in whole sweeps in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trainables import Counter, Make, maker

import tunekit as tk
from tunekit import session
from tunekit.core.cadence import Outlook
from tunekit.core.commands import LaunchTrial, TellOutlook
from tunekit.core.events import CheckpointStaged
from tunekit.journal.log import read_records
from tunekit.types import TrialStatus


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


def count(config: dict[str, Any]) -> None:
    """Do what ``Counter`` does, as a function."""
    saver = Counter(config)
    tk.restore(saver)
    while True:
        tk.report(saver.step(), checkpoint=saver)


def run_of(name: str, every: Any, **run: Any) -> dict[str, Any]:
    config = tk.CheckpointConfig(checkpoint_every_s=every, num_to_keep=1, checkpoint_at_end=False)
    failures = tk.FailureConfig(max_failures=1)
    stop = {"training_iteration": 6}
    return {"name": name, "stop": stop, "checkpoint_config": config, "failure_config": failures, **run}


def records(tmp_path: Path, name: str, kind: Any) -> list[Any]:
    return [record for record in read_records(tmp_path / name / "journal") if isinstance(record, kind)]


def test_a_sweep_finds_its_interval_and_says_so_in_one_line(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first trial finds out what a save costs; those after it know, and after a loss go on from what it saved."""
    tuner = make(Counter, {"fail_at": 4, "flags": tmp_path}, run=run_of("exp", "auto", verbose=1), num_samples=2)
    results = tk.inline(tuner)
    assert [result.status for result in results] == [TrialStatus.COMPLETED] * 2
    launches = records(tmp_path, "exp", LaunchTrial)
    assert [(launch.trial, launch.resume_from) for launch in launches] == [
        (0, None), (0, 1), (1, None), (1, None)
    ]  # fmt: skip
    (staged,) = records(tmp_path, "exp", CheckpointStaged)
    assert 0 < staged.blocked_s <= staged.took_s
    assert launches[0].outlook == Outlook()
    assert [launch.outlook.losses for launch in launches] == [0, 1, 1, 2]
    assert all(launch.outlook.blocked_s == staged.blocked_s for launch in launches[1:])
    (told,) = records(tmp_path, "exp", TellOutlook)
    assert (told.trial, told.outlook.blocked_s) == (0, staged.blocked_s)
    lines = [line for line in capsys.readouterr().err.splitlines() if "checkpoint every" in line]
    assert len(lines) == 1
    assert "one loss in 4 h is expected (seen: 0 in " in lines[0]
    assert len(tk.inline(tuner)) == 2, "a second run replays what was told, to the last digit"


def test_a_trial_is_told_after_each_save(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        saver = Counter(config)
        saving = session._active.session._run.saving  # type: ignore[union-attr]
        for _ in range(3):
            saver.step()
            tk.report({"count": saving.pace.outlook.blocked_s, "should_checkpoint": True}, checkpoint=saver)
            saving.settle()

    (result,) = tk.inline(make(train, {}, run=run_of("exp", "auto")))
    told = [record.outlook.blocked_s for record in records(tmp_path, "exp", TellOutlook)]
    assert len(told) == 3
    assert [row["count"] for row in result.rows] == [0.0, 0.0, told[0]], "it hears of it at its next report"


@pytest.mark.parametrize("trainable", [Counter, count])
def test_results_do_not_depend_on_it(make: Make, tmp_path: Path, trainable: Any) -> None:
    """Promise 1, with a loss in the middle."""
    tables = []
    for every in (None, "auto"):
        (flags := tmp_path / f"flags {every}").mkdir()
        fails = {"fail_at": 3, "flags": flags} if trainable is Counter else {}
        (result,) = tk.inline(make(trainable, fails, run=run_of(str(every), every)))
        tables.append([(row["training_iteration"], row["count"]) for row in result.rows])
    assert tables[0] == tables[1] == [(i, i) for i in range(1, 7)]


def test_it_may_be_turned_on_and_off_from_run_to_run(make: Make, tmp_path: Path) -> None:
    """S003-18: the cadence is free to change; what was seen before counts."""
    fails = {"fail_at": 3, "flags": tmp_path}
    for every, num_samples in ((None, 1), ("auto", 2), (60, 3), ("auto", 4)):
        results = tk.inline(make(Counter, fails, run=run_of("exp", every), num_samples=num_samples))
        assert len(results) == num_samples
    told = [launch.outlook for launch in records(tmp_path, "exp", LaunchTrial)]
    assert [outlook and outlook.losses for outlook in told] == [None, None, 1, 2, None, None, 3, 4]
