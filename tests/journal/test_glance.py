"""Whether an experiment seems to be over is seen at the end of its journal, and nothing is believed for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.core.codec import encode
from tunekit.core.commands import EndExperiment
from tunekit.journal.framing import seal
from tunekit.journal.glance import may_have_work
from tunekit.types import Outcome


def train(config: dict[str, Any]) -> None:
    tk.report({"x": 1.0})


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a sweep that has come to its end."""
    tk.inline(
        tk.Tuner(train, param_space={"a": 1}, run_config=tk.RunConfig(name="one", storage_path=tmp_path, verbose=0))
    )
    return tmp_path / "one"


def end_with(folder: Path, outcome: Outcome, text: str) -> None:
    lines, _ = seal([encode(EndExperiment(outcome=outcome, error=text))], 0)
    with newest(folder).open("ab") as file:
        file.write(lines)


def name_journal(folder: Path, name: str) -> None:
    header = folder / "experiment.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"journal": name}))


def newest(folder: Path) -> Path:
    return max((folder / "journal").iterdir())


def test_a_finished_sweep_is_over(finished: Path) -> None:
    assert not may_have_work(finished)


def test_one_that_has_not_begun_is_not(tmp_path: Path) -> None:
    assert may_have_work(tmp_path / "none")


def test_one_whose_driver_died_is_not(finished: Path) -> None:
    content = newest(finished).read_bytes()
    for lines in range(1, content.count(b"\n")):
        newest(finished).write_bytes(b"\n".join(content.split(b"\n")[:lines]) + b"\n")
        assert may_have_work(finished)
    newest(finished).unlink()
    assert may_have_work(finished)


def test_one_whose_end_was_torn_is_not(finished: Path) -> None:
    content = newest(finished).read_bytes()
    newest(finished).write_bytes(content[:-5])
    assert may_have_work(finished)


@pytest.mark.parametrize("text", ["", "long " * 100, "longer " * 2_000])
@pytest.mark.parametrize("outcome", Outcome)
def test_one_that_was_interrupted_is_not(finished: Path, outcome: Outcome, text: str) -> None:
    """Every other end is an end until the script asks for more, whatever the error says."""
    end_with(finished, outcome, text)
    assert may_have_work(finished) == (outcome is Outcome.INTERRUPTED)


def test_a_line_that_is_too_long_to_look_at_is_taken_for_an_end(finished: Path) -> None:
    """Who waits for a cluster in vain loses more than a head start."""
    end_with(finished, Outcome.ERROR, "as long as no error is " * 100_000)
    assert not may_have_work(finished)


def test_the_newest_segment_counts(finished: Path) -> None:
    (finished / "journal" / "000000000002.jsonl").write_bytes(b'["0123456789abcdef",{"kind":"segment"},1]\n')
    assert may_have_work(finished)


def test_a_long_line_that_is_no_end_is_none(finished: Path) -> None:
    with newest(finished).open("ab") as file:
        file.write(b'["0123456789abcdef",{"kind":"error","text":"' + b"x" * 10_000 + b'"},1]\n')
    assert may_have_work(finished)


def test_a_journal_of_another_name_is_found(finished: Path) -> None:
    name_journal(finished, "journal-2")
    assert may_have_work(finished)
    (finished / "journal").rename(finished / "journal-2")
    assert not may_have_work(finished)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"journal":7}', b"\xff" * 9, b"[" * 200_000])
def test_nothing_is_begun_for_what_is_no_experiment(finished: Path, content: bytes) -> None:
    """Opening it says what is wrong."""
    (finished / "experiment.json").write_bytes(content)
    assert not may_have_work(finished)


@pytest.mark.parametrize("name", ["../journal-3", "..", ".", "", "/etc"])
def test_a_name_leads_nowhere_else(finished: Path, name: str) -> None:
    """Reading an experiment that came from elsewhere stays in its folder."""
    lines = newest(finished).read_bytes()
    newest(finished).unlink()
    assert may_have_work(finished)
    for folder in (finished, finished.parent, finished.parent / "journal-3"):
        folder.mkdir(exist_ok=True)
        (folder / "000000000001.jsonl").write_bytes(lines.rpartition(b'["')[0])  # It would go on.
    name_journal(finished, name)
    assert not may_have_work(finished)
