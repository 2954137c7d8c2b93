"""What user code can do wrong, and how the driver is told."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tunekit as tk
from tunekit.core.codec import decode, encode
from tunekit.core.events import LaunchFailed, TrialRaised
from tunekit.errors import StorageError
from tunekit.runtime.attempt.attempt import run_attempt
from tunekit.runtime.line.spec import AttemptSpec
from tunekit.session import TrialStopped, in_trial, interrupt
from tunekit.testing.recording import RecordedTrial, RecordingChannel


def run(folder: Path, function: Any, channel: RecordingChannel | None = None, **sweep: Any) -> TrialRaised:
    trial = RecordedTrial(folder, function, {}, **sweep)
    last = trial.run(channel).events[-1]
    assert isinstance(last, TrialRaised)
    assert not trial.is_reusable
    assert not in_trial()
    return last


def test_exception_becomes_text(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        raise KeyError("missing")

    last = run(tmp_path, train)
    assert (last.error.type, last.error.message) == ("KeyError", "'missing'")
    assert 'raise KeyError("missing")' in last.error.traceback
    assert "attempt.py" not in last.error.traceback, "our own frames are noise"
    assert (last.retryable, last.fatal) == (True, False)


def test_exception_whose_str_raises(tmp_path: Path) -> None:
    class Nasty(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError("no")

        def __reduce__(self) -> Any:
            raise RuntimeError("no")

        __repr__ = __str__

    def train(config: dict[str, Any]) -> None:
        raise Nasty

    last = run(tmp_path, train)
    assert last.error.type.endswith("Nasty")
    assert "RuntimeError" in last.error.message
    assert decode(encode(last)) == last, "it travels as text"


def test_sys_exit_ends_the_trial_and_not_the_process(tmp_path: Path) -> None:
    assert "sys.exit(3)" in run(tmp_path, lambda config: sys.exit(3)).error.message


@pytest.mark.parametrize("problem", [SystemExit, KeyboardInterrupt])
def test_exception_whose_str_ends_the_process(tmp_path: Path, problem: type[BaseException]) -> None:
    class Nasty(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise problem

    def train(config: dict[str, Any]) -> None:
        raise Nasty

    last = run(tmp_path, train)
    assert last.error.type.endswith("Nasty")
    assert problem.__name__ in last.error.message


def test_sys_exit_with_something_that_cannot_be_shown(tmp_path: Path) -> None:
    class Hidden:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    last = run(tmp_path, lambda config: sys.exit(Hidden()))  # type: ignore[arg-type]
    assert last.error.type == "SystemExit"
    assert "sys.exit() with an object whose __repr__ raised RuntimeError" in last.error.message


def test_keyboard_interrupt_of_user_code_on_a_worker_is_its_own_exception(tmp_path: Path) -> None:
    """Nobody sits at a worker's keyboard."""

    def train(config: dict[str, Any]) -> None:
        raise KeyboardInterrupt("mine")

    trial, channel = RecordedTrial(tmp_path, train), RecordingChannel()
    spec = AttemptSpec(trial=0, attempt=1, trial_name="trial_00000", config={})
    assert not run_attempt(trial.sweep, spec, train, channel, trial.io, owns_process=True)
    last = channel.events[-1]
    assert isinstance(last, TrialRaised)
    assert (last.error.type, last.error.message, last.retryable) == ("KeyboardInterrupt", "mine", True)


def test_ctrl_c_passes_through(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RecordedTrial(tmp_path, train).run()
    assert not in_trial()


@pytest.mark.parametrize("metrics", [None, 3, [("loss", 1)], "loss"])
def test_metrics_that_are_no_dict(tmp_path: Path, metrics: Any) -> None:
    last = run(tmp_path, lambda config: tk.report(metrics))
    assert last.error.type == "tunekit.errors.ReportError"
    assert type(metrics).__name__ in last.error.message
    assert not last.retryable


def test_missing_metric_lists_what_there_is(tmp_path: Path) -> None:
    last = run(tmp_path, lambda config: tk.report({"val": {"loss": 1}, "acc": 2}), metric="val/los")
    assert last.error.type == "tunekit.errors.MetricNotFoundError"
    assert "'acc', 'val/loss'" in last.error.message
    assert "did you mean 'val/loss'" in last.error.hint
    assert not last.retryable


def test_metric_may_be_missing_later(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        tk.report({"loss": float("nan")})
        tk.report({})

    assert len(RecordedTrial(tmp_path, train, metric="loss").run().rows) == 2


@pytest.mark.parametrize("field", ["metric", "score"])
def test_metric_that_is_no_number(tmp_path: Path, field: str) -> None:
    """S003-20: a score that is no number is an error at the first report."""
    score = tk.CheckpointConfig(checkpoint_score_attribute="loss")
    sweep = {"metric": "loss"} if field == "metric" else {"checkpoint": score}
    last = run(tmp_path, lambda config: tk.report({"loss": "0.5"}), **sweep)
    assert "'loss'" in last.error.message
    assert "must be a number" in last.error.message


def test_record_cannot_be_changed_afterwards(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        metrics = {"x": 1, "inner": {"y": [1]}}
        tk.report(metrics)
        metrics["x"] = 2
        metrics["inner"]["y"].append(2)  # type: ignore[index]

    assert RecordedTrial(tmp_path, train).run().rows[0].metrics == {"x": 1, "inner": {"y": [1]}}


def test_attempts_of_a_trial_draw_the_same_numbers(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        tk.report({"x": random.random(), "y": np.random.rand(), "z": torch.rand(1)})  # noqa: NPY002

    trial = RecordedTrial(tmp_path, train)
    first, second, other = trial.run(), trial.run(), trial.run(trial=1)
    assert first.rows[0].metrics == second.rows[0].metrics
    assert first.rows[0].metrics.items().isdisjoint(other.rows[0].metrics.items())


@pytest.mark.parametrize(("cpus", "threads"), [(3.0, 3), (0.5, 1), (None, 1)])
def test_threads_of_torch_are_the_processors_of_the_trial(tmp_path: Path, cpus: float | None, threads: int) -> None:
    resources = {"GPU": 1.0} if cpus is None else {"CPU": cpus}
    trial = RecordedTrial(tmp_path, lambda config: {"x": torch.get_num_threads()})
    assert trial.run(resources=resources).rows[0].metrics == {"x": threads}


def test_storage_that_fails_while_restoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = RecordedTrial(tmp_path, lambda config: None)

    def fail(*arguments: Any) -> Path:
        raise StorageError("unreachable")

    monkeypatch.setattr(trial.io, "verify", fail)
    channel = trial.run(resume_from=3)
    assert isinstance(channel.events[0], LaunchFailed)
    assert len(channel.events) == 1
    assert trial.is_reusable


def test_report_from_a_thread(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        thread = threading.Thread(target=tk.report, args=({"x": 1},))
        thread.start()
        thread.join()
        tk.report({"x": 2})

    assert [row.metrics["x"] for row in RecordedTrial(tmp_path, train).run().rows] == [1, 2]


def test_thread_of_an_earlier_trial_cannot_report(tmp_path: Path) -> None:
    go, errors = threading.Event(), []

    def late() -> None:
        go.wait(120)
        try:
            tk.report({"x": "of the first"})
        except tk.SessionError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=late)]

    def first(config: dict[str, Any]) -> None:
        threads[0].start()

    def second(config: dict[str, Any]) -> None:
        go.set()
        threads[0].join()
        tk.report({"x": "of the second"})

    RecordedTrial(tmp_path, first).run()
    assert [row.metrics["x"] for row in RecordedTrial(tmp_path, second).run().rows] == ["of the second"]
    assert "earlier trial" in errors[0]


class SlowSaver:
    """Takes a while to save, and says when it has begun."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()

    def save_checkpoint(self, path: str) -> None:
        self.has_begun.set()
        time.sleep(0.1)
        (Path(path) / "model").write_bytes(b"weights")

    def load_checkpoint(self, path: str) -> None: ...


@pytest.mark.parametrize("raises", [False, True])
def test_a_report_under_way_in_a_thread_is_finished_before_the_trial_ends(
    tmp_path: Path,
    raises: bool,  # noqa: FBT001 - a parameter
) -> None:
    def train(config: dict[str, Any]) -> None:
        saver = SlowSaver()
        threading.Thread(target=tk.report, args=({"x": 1},), kwargs={"checkpoint": saver}).start()
        saver.has_begun.wait(120)
        if raises:
            raise ValueError

    trial = RecordedTrial(tmp_path, train, checkpoint=tk.CheckpointConfig(checkpoint_frequency=1))
    last = "TrialRaised" if raises else "TrialReturned"
    assert trial.run().kinds == ["TrialStarted", "ResultReported 1", "CheckpointStaged 1", last]


def test_a_thread_that_reports_all_the_time_ends_with_its_trial(tmp_path: Path) -> None:
    """Its process is not used again: the thread may be anywhere."""
    ended, go, over = threading.Event(), threading.Event(), threading.Event()

    def report_for_ever() -> None:
        try:
            while True:
                tk.report({"x": 1})
                go.set()
        except (TrialStopped, tk.SessionError):
            over.wait(120)  # It is still there when the trial has ended.
            ended.set()

    thread = threading.Thread(target=report_for_ever)

    def train(config: dict[str, Any]) -> None:
        thread.start()
        go.wait(120)

    trial = RecordedTrial(tmp_path, train)
    channel = trial.run()
    assert not trial.is_reusable
    over.set()
    thread.join(120)
    assert ended.is_set()
    assert channel.kinds[-1] == "TrialReturned"


# -- interruption ------------------------------------------------------------------------------------------------------


@pytest.fixture
def usr1() -> Any:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: interrupt(0, 1))
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("usr1")
def test_interrupt_reaches_code_that_does_not_report(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        tk.report({"x": 1})
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        time.sleep(200)

    trial = RecordedTrial(tmp_path, train)
    assert trial.run().kinds == ["TrialStarted", "ResultReported 1", "TrialHalted"]
    assert not trial.is_reusable


@pytest.mark.usefixtures("usr1")
def test_interrupt_waits_for_the_end_of_a_save(tmp_path: Path) -> None:
    saved = []

    class Slow:
        def save_checkpoint(self, path: str) -> None:
            signal.raise_signal(signal.SIGUSR1)
            saved.append(path)

        def load_checkpoint(self, path: str) -> None: ...

    def train(config: dict[str, Any]) -> None:
        tk.report({"x": 1}, checkpoint=Slow())
        raise AssertionError("went on")

    trial = RecordedTrial(tmp_path, train, checkpoint=tk.CheckpointConfig(checkpoint_frequency=1))
    assert trial.run().kinds == ["TrialStarted", "ResultReported 1", "CheckpointStaged 1", "TrialHalted"]
    assert len(saved) == 1


@pytest.mark.usefixtures("usr1")
def test_interrupt_waits_for_the_save_of_another_thread(tmp_path: Path) -> None:
    saver, has_ended = SlowSaver(), threading.Event()

    def interrupt_until_the_end() -> None:
        saver.has_begun.wait(120)
        while not has_ended.wait(0.05):
            os.kill(os.getpid(), signal.SIGUSR1)

    reporter = threading.Thread(target=tk.report, args=({"x": 1},), kwargs={"checkpoint": saver})
    interrupter = threading.Thread(target=interrupt_until_the_end)

    def train(config: dict[str, Any]) -> None:
        reporter.start()
        interrupter.start()
        try:
            time.sleep(200)
        finally:
            has_ended.set()

    trial = RecordedTrial(tmp_path, train, checkpoint=tk.CheckpointConfig(checkpoint_frequency=1))
    channel = trial.run()
    reporter.join()
    interrupter.join()
    assert channel.kinds == ["TrialStarted", "ResultReported 1", "CheckpointStaged 1", "TrialHalted"]
    assert not list((tmp_path / ".staging").iterdir())


@pytest.mark.usefixtures("usr1")
def test_interrupt_of_another_attempt_is_ignored(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        signal.raise_signal(signal.SIGUSR1)
        tk.report({"x": 1})

    trial = RecordedTrial(tmp_path, train)
    channel = RecordingChannel()
    spec = AttemptSpec(trial=0, attempt=2, trial_name="trial_00000", config={})
    assert run_attempt(trial.sweep, spec, train, channel, trial.io)
    assert channel.kinds == ["TrialStarted", "ResultReported 1", "TrialReturned"]


@pytest.mark.usefixtures("usr1")
def test_interrupt_of_cleanup_undoes_nothing(tmp_path: Path) -> None:
    class Hangs(tk.Trainable):
        def step(self) -> dict[str, Any]:
            return {"done": True}

        def cleanup(self) -> None:
            signal.raise_signal(signal.SIGUSR1)

    assert RecordedTrial(tmp_path, Hangs).run().kinds[-1] == "TrialReturned"
