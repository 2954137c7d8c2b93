"""What an attempt saves when user code raises, and that its exception is never hidden by it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from timed_attempts import Saver, World, patched

import tunekit as tk
from tunekit.core.events import TrialRaised, TrialReturned
from tunekit.runtime.saving.saving import Row, Saving
from tunekit.testing.recording import RecordedTrial, RecordingChannel

ON_FAILURE = tk.CheckpointConfig(checkpoint_on_failure=True, checkpoint_frequency=2, checkpoint_at_end=False)


@pytest.fixture
def world() -> Iterator[World]:
    with patched() as world:
        yield world


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note for which iterations a failure was to be saved, and do not save."""
    asked: list[int] = []

    def note(saving: Saving, write: Callable[[str], Any], row: Row) -> None:
        del saving, write
        asked.append(row.iteration)

    monkeypatch.setattr(Saving, "save_failed", note)
    return asked


class Breaking(tk.Trainable):
    """Raises where its configuration says so."""

    calls: list[str]

    def setup(self, config: dict[str, Any]) -> None:
        self.calls = config.setdefault("calls", [])
        self.fail("setup")

    def fail(self, place: str) -> None:
        if self.config.get("place") == place:
            raise self.config.get("error", ValueError)("mine")

    def step(self) -> dict[str, Any]:
        self.fail(f"step {self.iteration + 1}")
        return {}

    def save_checkpoint(self, path: str) -> None:
        self.calls.append("save")
        Saver().save_checkpoint(path)
        self.fail("save")

    def load_checkpoint(self, path: Any) -> None:
        self.calls.append("load")

    def cleanup(self) -> None:
        self.calls.append("cleanup")


def raised(channel: RecordingChannel) -> TrialRaised:
    last = channel.events[-1]
    assert isinstance(last, TrialRaised)
    return last


@pytest.mark.parametrize(
    ("place", "iterations"), [("setup", []), ("step 1", [0]), ("step 4", [3]), ("save", [2]), ("step 99", [])]
)
def test_where_a_class_raises(tmp_path: Path, asked: list[int], place: str, iterations: list[int]) -> None:
    """An instance that was never set up holds nothing; a stop is no failure."""
    made = RecordedTrial(tmp_path, Breaking, {"place": place}, checkpoint=ON_FAILURE)
    made.run(RecordingChannel(stop_at=6))
    assert asked == iterations


@pytest.mark.parametrize("error", [ValueError, SystemExit, MemoryError, tk.ConfigError])
def test_any_exception_is_a_failure(tmp_path: Path, asked: list[int], error: type[BaseException]) -> None:
    made = RecordedTrial(tmp_path, Breaking, {"place": "step 2", "error": error}, checkpoint=ON_FAILURE)
    assert raised(made.run()).error.type.endswith(error.__name__)
    assert asked == [1]


def test_ctrl_c_is_none(tmp_path: Path, asked: list[int]) -> None:
    made = RecordedTrial(tmp_path, Breaking, {"place": "step 2", "error": KeyboardInterrupt}, checkpoint=ON_FAILURE)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert asked == []


def test_off_means_off(tmp_path: Path, asked: list[int]) -> None:
    RecordedTrial(tmp_path, Breaking, {"place": "step 2"}).run()
    assert asked == []


def test_a_restored_attempt_fails_at_the_iteration_it_was_restored_to(tmp_path: Path, asked: list[int]) -> None:
    config = {"place": "step 4"}
    made = RecordedTrial(tmp_path, Breaking, config, checkpoint=ON_FAILURE)
    made.run()
    made.config["place"] = "step 3"
    made.resume()
    assert asked == [3, 2]


def test_a_function_with_a_saver(tmp_path: Path, asked: list[int]) -> None:
    def train(config: dict[str, Any]) -> None:
        tk.report({}, checkpoint=Saver())
        raise ValueError("mine")

    assert raised(RecordedTrial(tmp_path, train, checkpoint=ON_FAILURE).run()).error.message == "mine"
    assert asked == [1]


def test_a_function_that_raises_on_its_way_out_has_not_failed(tmp_path: Path, asked: list[int]) -> None:
    def train(config: dict[str, Any]) -> None:
        try:
            tk.report({"x": 1}, checkpoint=Saver())
        finally:
            raise ValueError("mine")

    channel = RecordedTrial(tmp_path, train, stop={"x": 1}, checkpoint=ON_FAILURE).run()
    assert isinstance(channel.events[-1], TrialReturned)
    assert asked == []


def test_a_function_without_a_saver_is_told_once(
    tmp_path: Path, asked: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    def train(config: dict[str, Any]) -> None:
        for _ in range(3):
            tk.report({})
        raise ValueError("mine")

    config = tk.CheckpointConfig(checkpoint_on_failure=True)
    with caplog.at_level(logging.WARNING, logger="tunekit"):
        assert raised(RecordedTrial(tmp_path, train, checkpoint=config).run()).error.message == "mine"
    assert caplog.text.count("checkpoint_on_failure") == 1
    assert asked == []


@pytest.mark.parametrize("trouble", [OSError("disk"), SystemExit(3), RuntimeError("tunekit's own")])
def test_trouble_never_hides_the_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def save_failed(*_: Any) -> None:
        raise trouble

    monkeypatch.setattr(Saving, "save_failed", save_failed)
    made = RecordedTrial(tmp_path, Breaking, {"place": "step 3"}, checkpoint=ON_FAILURE)
    last = raised(made.run())
    assert (last.error.type, last.error.message) == ("ValueError", "mine")
    assert last.retryable
    assert "could not save" in caplog.text


def test_it_is_saved_before_cleanup_and_told_before_the_error(tmp_path: Path) -> None:
    """Beside the checkpoints, not among them: marked as inexact, with the row that was reached."""
    made = RecordedTrial(tmp_path, Breaking, {"place": "step 4"}, checkpoint=ON_FAILURE)
    channel = made.run()
    staged = channel.staged
    assert made.config["calls"] == ["save", "save", "cleanup"]
    assert [(event.iteration, event.exact) for event in staged] == [(2, True), (3, False)]
    assert staged[-1].manifest["reason"] == "failure"
    folders = sorted(path.name for path in (tmp_path / "trial_00000").iterdir() if path.is_dir())
    assert folders == ["checkpoint_000002", "failure_000003_1"]
    assert raised(channel).error.message == "mine"


def test_a_save_that_raises_too_changes_nothing(tmp_path: Path) -> None:
    made = RecordedTrial(tmp_path, Breaking, {"place": "save"}, checkpoint=ON_FAILURE)
    last = raised(made.run())
    assert (last.error.type, last.error.message) == ("ValueError", "mine")
    assert list(tmp_path.glob(".staging/*")) == []
