"""What only a worker can tell of a trial's seconds: saves that it waited for, its checkpoint, what came before it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.core import codec
from tunekit.core.events import CheckpointStaged, RestoreFailed, ResultReported, TrialReturned, TrialStarted
from tunekit.runtime.attempt.attempt import run_attempt
from tunekit.runtime.attempt.stopwatch import Stopwatch
from tunekit.runtime.line.spec import AttemptSpec
from tunekit.testing.recording import RecordedTrial, RecordingChannel

LONG_S = 0.05
"""How long saving and loading take here at least."""


class Slow(tk.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.count = 0

    def step(self) -> dict[str, Any]:
        self.count += 1
        return {"count": self.count}

    def save_checkpoint(self, path: Any) -> None:
        time.sleep(LONG_S)
        (Path(path) / "count").write_text(str(self.count))

    def load_checkpoint(self, path: Any) -> None:
        time.sleep(LONG_S)
        self.count = int((Path(path) / "count").read_text())


def slow(config: dict[str, Any]) -> None:
    saver = Slow.__new__(Slow)
    saver.count = 0
    tk.restore(saver)
    while True:
        tk.report(saver.step(), checkpoint=saver)


def ticks() -> Iterator[float]:
    return (float(tick) for tick in count())


def test_seconds_are_taken_once() -> None:
    clock = ticks()
    watch = Stopwatch(lambda: next(clock))
    for _ in range(2):
        with watch.blocking():
            pass
    with watch.loading():
        pass
    assert watch.take_blocked() == {"blocked_s": 2.0}
    assert watch.take_loaded() == {"loaded_s": 1.0}
    assert (watch.take_blocked(), watch.take_loaded()) == ({}, {})


def test_a_line_of_the_journal_holds_no_zeros() -> None:
    watch = Stopwatch(lambda: 0.0)
    row = ResultReported(trial=0, attempt=1, iteration=1, metrics={}, **watch.take_blocked(), **watch.take_loaded())
    assert codec.encode(row) == b'{"kind":"result","trial":0,"attempt":1,"iteration":1,"metrics":{}}'


@pytest.mark.parametrize("trainable", [Slow, slow])
def test_rows_say_what_came_before_them_and_the_end_what_came_after(tmp_path: Path, trainable: Any) -> None:
    trial = RecordedTrial(
        tmp_path,
        trainable,
        stop={"training_iteration": 3},
        checkpoint=tk.CheckpointConfig(checkpoint_frequency=2, checkpoint_at_end=True),
    )
    channel = trial.run()
    assert [row.blocked_s >= LONG_S for row in channel.rows] == [False, False, True]
    assert channel.rows[1].blocked_s == channel.rows[0].loaded_s == 0
    assert isinstance(channel.events[-1], TrialReturned)
    assert channel.events[-1].blocked_s >= LONG_S
    again = trial.run(resume_from=2)
    [row] = again.rows
    assert row.loaded_s >= LONG_S
    assert row.time_this_iter_s >= row.loaded_s


def test_the_worker_says_how_long_it_prepared_the_attempt(tmp_path: Path) -> None:
    trial = RecordedTrial(tmp_path, Slow, stop={"training_iteration": 1})
    spec = AttemptSpec(trial=0, attempt=1, trial_name="trial_00000", config={})
    channel = RecordingChannel()
    run_attempt(trial.sweep, spec, Slow, channel, trial.io, given_at=time.monotonic() - 100)
    started, *rest = channel.events
    assert isinstance(started, TrialStarted)
    assert started.took_s >= 100
    assert [type(event) for event in rest if not isinstance(event, CheckpointStaged)][:1] == [ResultReported]


def test_it_says_so_too_of_a_checkpoint_that_it_could_not_use(tmp_path: Path) -> None:
    trial = RecordedTrial(tmp_path, Slow)
    spec = AttemptSpec(trial=0, attempt=2, trial_name="trial_00000", config={}, resume_from=7)
    channel = RecordingChannel()
    run_attempt(trial.sweep, spec, Slow, channel, trial.io, given_at=time.monotonic() - 100)
    [failed] = channel.events
    assert isinstance(failed, RestoreFailed)
    assert failed.took_s >= 100
