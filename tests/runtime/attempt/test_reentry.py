"""A report inside of a report by the same thread, as from a signal handler, is refused: it would lose a row."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.config import CheckpointConfig
from tunekit.core.events import TrialRaised
from tunekit.errors import SessionError
from tunekit.testing.recording import RecordedTrial, RecordingChannel

EACH_STEP = CheckpointConfig(checkpoint_frequency=1)


class Saver:
    """Does something in the middle of a report: while it saves."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.meanwhile = meanwhile

    def save_checkpoint(self, path: str) -> None:
        Path(path, "state.txt").write_text("state")
        self.meanwhile()

    def load_checkpoint(self, path: str) -> None: ...


def run(folder: Path, function: Any) -> RecordingChannel:
    return RecordedTrial(folder, function, {}, checkpoint=EACH_STEP).run()


def test_a_saver_that_reports_is_refused(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        tk.report({"x": 1}, checkpoint=Saver(lambda: tk.report({"x": 2})))

    channel = run(tmp_path, train)
    assert [row.metrics for row in channel.rows] == [{"x": 1}]
    last = channel.events[-1]
    assert isinstance(last, TrialRaised)
    assert last.error.type == "tunekit.errors.SessionError"
    assert "inside of another report()" in last.error.message
    assert "flag" in last.error.hint
    assert not last.retryable


def test_a_signal_handler_that_reports_loses_no_row(tmp_path: Path) -> None:
    """It was numbered as the row after the one under way, and what followed was done for the wrong one of the two."""
    refusals: list[SessionError] = []

    def handle(number: int, frame: object) -> None:
        try:
            tk.report({"x": "of the handler"})
        except SessionError as error:
            refusals.append(error)

    def train(config: dict[str, Any]) -> None:
        signal.signal(signal.SIGUSR1, handle)
        saver = Saver(lambda: signal.raise_signal(signal.SIGUSR1))
        for step in range(3):
            tk.report({"x": step}, checkpoint=saver)

    channel = run(tmp_path, train)
    assert [(row.iteration, row.metrics) for row in channel.rows] == [(1, {"x": 0}), (2, {"x": 1}), (3, {"x": 2})]
    assert channel.saved == [1, 2, 3]
    assert channel.kinds[-1] == "TrialReturned"
    assert len(refusals) == 3


def test_a_saver_that_reports_after_the_returned_value_is_refused(tmp_path: Path) -> None:
    refusals: list[object] = []

    def again() -> None:
        with pytest.raises(SessionError) as caught:
            tk.report({"x": "again"})
        refusals.append(caught.value)

    def train(config: dict[str, Any]) -> dict[str, Any]:
        tk.report({"x": 1}, checkpoint=Saver(again))
        return {"x": 2}

    channel = run(tmp_path, train)
    assert [row.metrics for row in channel.rows] == [{"x": 1}, {"x": 2}]
    assert len(refusals) == 2


def test_a_signal_handler_may_report_between_two_reports(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        signal.signal(signal.SIGUSR1, lambda number, frame: tk.report({"x": "of the handler"}))
        tk.report({"x": 1})
        signal.raise_signal(signal.SIGUSR1)
        tk.report({"x": 2})

    channel = RecordedTrial(tmp_path, train, {}).run()
    assert [row.metrics["x"] for row in channel.rows] == [1, "of the handler", 2]


def test_after_a_refusal_reports_go_on(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        with pytest.raises(SessionError):
            tk.report({"x": 1}, checkpoint=Saver(lambda: tk.report({"x": 2})))
        tk.report({"x": 3}, checkpoint=Saver(lambda: None))

    assert [(row.iteration, row.metrics) for row in run(tmp_path, train).rows] == [(1, {"x": 1}), (2, {"x": 3})]
