"""The functions that user code calls: outside of a trial, inside one, and in processes that only look like one."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.session import Saver, TrialStopped, activate, get_context, in_trial, interrupt
from tunekit.testing.recording import RecordedTrial


class Nobody:
    """A session that records what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def report(self, metrics: Any, checkpoint: Any) -> None:
        self.asked.append((metrics, checkpoint))

    def get_checkpoint(self) -> None:
        return None

    def restore(self, saver: Any) -> bool:
        return False

    def context(self) -> Any:
        return None

    def interrupt(self, trial: int, attempt: int) -> None:
        raise TrialStopped


CALLS: list[Callable[[], Any]] = [
    lambda: tk.report({"x": 1}),
    tk.get_checkpoint,
    tk.get_context,
    lambda: tk.restore(None),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("call", CALLS)
def test_outside_of_a_trial(call: Callable[[], Any]) -> None:
    with pytest.raises(tk.SessionError, match="outside of a trial") as caught:
        call()
    assert "fit()" in caught.value.hint


def test_sessions_nest_and_end() -> None:
    outer, inner = Nobody(), Nobody()
    with activate(outer):
        with activate(inner):
            tk.report({"x": 1})
        tk.report({"x": 2})
    assert (inner.asked, outer.asked) == ([({"x": 1}, None)], [({"x": 2}, None)])
    assert not in_trial()


def test_session_ends_after_an_exception() -> None:
    with pytest.raises(ValueError, match="mine"), activate(Nobody()):
        raise ValueError("mine")
    assert not in_trial()


@pytest.mark.parametrize("call", [*CALLS, in_trial, lambda: interrupt(0, 1)])
def test_a_trial_may_end_while_a_thread_looks_for_it(call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends between two instructions: the thread has found it, or learns that there is none."""
    trial = ExitStack()
    trial.enter_context(activate(Nobody()))
    pid = os.getpid()

    def end() -> int:
        trial.close()
        return pid

    monkeypatch.setattr(os, "getpid", end)
    with suppress(tk.SessionError, TrialStopped):
        call()
    assert not in_trial()


def test_interrupt_without_a_trial_does_nothing() -> None:
    interrupt(0, 1)
    with pytest.raises(TrialStopped), activate(Nobody()):
        interrupt(0, 1)


def test_stop_is_no_exception_that_user_code_catches_by_accident() -> None:
    assert not issubclass(TrialStopped, Exception)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_child_process_is_refused() -> None:
    def child(answers: Any) -> None:
        try:
            tk.report({"x": 1})
        except tk.SessionError as error:
            answers.send(str(error))

    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    with activate(Nobody()):
        process = fork.Process(target=child, args=(theirs,))
        process.start()
        assert ours.poll(120)
        assert "child process" in ours.recv()
        process.join()


def test_saver_is_known_by_its_methods() -> None:
    class Half:
        def save_checkpoint(self, path: str) -> None: ...

    class Whole(Half):
        def load_checkpoint(self, checkpoint: Any) -> None: ...

    assert isinstance(Whole(), Saver)
    assert not isinstance(Half(), Saver)


def test_restore_refuses_what_cannot_load(tmp_path: Path) -> None:
    channel = RecordedTrial(tmp_path, lambda config: tk.restore(3)).run()  # type: ignore[arg-type]
    assert "TrainableError" in channel.events[-1].error.type  # type: ignore[union-attr]


def test_context(tmp_path: Path) -> None:
    """S003-4: the trial's folder is its name below the experiment's."""
    seen = []

    def train(config: dict[str, Any]) -> None:
        seen.append(get_context())
        tk.report({"x": 1})
        seen.append(get_context())

    RecordedTrial(tmp_path, train).run(resources={"CPU": 2.0})
    first, second = seen
    assert (first.trial_name, first.trial_index, first.attempt, first.experiment_name) == (
        "trial_00000",
        0,
        1,
        "experiment",
    )
    assert (first.iteration, second.iteration) == (0, 1)
    assert first.get_trial_name() == first.get_trial_id() == first.trial_id == "trial_00000"
    assert first.get_experiment_name() == "experiment"
    assert first.get_trial_resources() == {"CPU": 2.0}
    assert first.get_trial_dir() == str(tmp_path / "trial_00000")
    assert not (tmp_path / "trial_00000").exists(), "a trial that saves and prints nothing leaves no folder"


def test_context_of_a_class_has_no_folder_to_give(tmp_path: Path) -> None:
    class Asks(tk.Trainable):
        def step(self) -> dict[str, Any]:
            tk.get_context().checkpoint_dir()
            return {}

    channel = RecordedTrial(tmp_path, Asks).run()
    assert "SessionError" in channel.events[-1].error.type  # type: ignore[union-attr]


def test_context_is_frozen(tmp_path: Path) -> None:
    seen: list[Any] = []
    RecordedTrial(tmp_path, lambda config: seen.append(get_context())).run()
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen[0].iteration = 3
