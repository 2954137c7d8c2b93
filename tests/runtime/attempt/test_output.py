"""The log file of a trial, and that nobody else notices it."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.runtime.attempt.output import LOG_NAME, TrialLog, captured
from tunekit.testing.recording import RecordedTrial


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trial_00000"


def test_output_goes_to_both(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with captured(folder):
        print("to stdout")
        print("to stderr", file=sys.stderr)
    print("after")
    assert (folder / LOG_NAME).read_text() == "to stdout\nto stderr\n"
    assert capsys.readouterr() == ("to stdout\nafter\n", "to stderr\n")


def test_silence_makes_no_file(folder: Path) -> None:
    with captured(folder):
        sys.stdout.write("")
        sys.stdout.flush()
    assert not folder.exists()


def test_attempts_append(folder: Path) -> None:
    for attempt in (1, 2):
        with captured(folder):
            print("attempt", attempt)
    assert (folder / LOG_NAME).read_text() == "attempt 1\nattempt 2\n"


def test_no_folder_changes_nothing() -> None:
    before = sys.stdout, sys.stderr
    with captured(None) as log:
        assert (sys.stdout, sys.stderr) == before
    assert log is None


def test_streams_come_back_after_an_exception(folder: Path) -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError, match="mine"), captured(folder):
        raise ValueError("mine")
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("captures", [True, False])
def test_streams_that_the_trial_replaced_come_back(folder: Path, captures: bool) -> None:  # noqa: FBT001 - a parameter
    """A trial that leaves a closed stream behind would have the next one fail at its first print."""
    before = sys.stdout, sys.stderr
    with captured(folder if captures else None):
        sys.stdout = io.StringIO()
        sys.stderr = io.StringIO()
        sys.stdout.close()
    assert (sys.stdout, sys.stderr) == before


def test_a_flood_ends_in_a_line_that_says_so(folder: Path) -> None:
    log = TrialLog(folder / LOG_NAME, max_bytes=100)
    for _ in range(50):
        log.write("ääää\n")
    log.write("more\n")
    log.close()
    lines = (folder / LOG_NAME).read_text().splitlines()
    assert lines[:-1] == ["ääää"] * 11 + [""]
    assert "printed 100 bytes" in lines[-1]


def test_each_attempt_may_fill_its_own_share(folder: Path) -> None:
    for _ in range(2):
        log = TrialLog(folder / LOG_NAME, max_bytes=4)
        log.write("ab\n")
        log.write("cdef\n")
        log.write("ghi\n")
        log.close()
    lines = (folder / LOG_NAME).read_text().splitlines()
    assert len(lines) == 6
    assert lines[:2] == lines[3:5] == ["ab", "c"]


def test_a_kept_stream_outlives_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that one trial made and the next one uses writes to the log of the one that runs."""
    original = io.StringIO()
    monkeypatch.setattr(sys, "stderr", original)
    with captured(tmp_path / "a"):
        kept = sys.stderr
        print("one", file=kept)
    print("between", file=kept)
    with captured(tmp_path / "b"):
        print("two", file=kept)
    assert (tmp_path / "a" / LOG_NAME).read_text() == "one\n"
    assert (tmp_path / "b" / LOG_NAME).read_text() == "two\n"
    assert original.getvalue() == "one\nbetween\ntwo\n"


def test_handler_made_before_the_trial_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = io.StringIO()
    monkeypatch.setattr(sys, "stderr", original)
    handler = logging.StreamHandler(original)
    monkeypatch.setattr(logging.root, "handlers", [handler])
    with captured(folder):
        logging.getLogger("mine").error("in the trial")
    logging.getLogger("mine").error("after it")
    assert (folder / LOG_NAME).read_text() == "in the trial\n"
    assert original.getvalue() == "in the trial\nafter it\n"
    assert handler.stream is original


def test_stream_keeps_its_other_abilities(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = io.StringIO()
    monkeypatch.setattr(sys, "stdout", original)
    with captured(folder):
        sys.stdout.writelines(["a", "b\n"])
        assert not sys.stdout.isatty()
        assert sys.stdout.getvalue() == "ab\n"  # type: ignore[union-attr]
    assert (folder / LOG_NAME).read_text() == "ab\n"


def test_a_log_that_cannot_be_written_harms_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    with captured(tmp_path / "file"):
        print("still printed")
    assert capsys.readouterr().out == "still printed\n"


def test_half_characters_are_written_somehow(folder: Path) -> None:
    log = TrialLog(folder / LOG_NAME)
    log.write("\ud800\n")
    log.close()
    log.write("too late")
    assert (folder / LOG_NAME).read_text() == "\\ud800\n"


@pytest.mark.parametrize("capture_output", [True, False])
def test_log_of_a_trial_holds_prints_and_the_traceback(
    tmp_path: Path, capture_output: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(config: dict[str, Any]) -> None:
        print("step 1")
        tk.report({"x": 1})
        raise ValueError("mine")

    RecordedTrial(tmp_path, train, capture_output=capture_output).run()
    log = tmp_path / "trial_00000" / LOG_NAME
    assert log.exists() is capture_output
    if capture_output:
        assert log.read_text().startswith("step 1\nTraceback")
        assert log.read_text().endswith("ValueError: mine\n")
    assert "step 1" in capsys.readouterr().out
