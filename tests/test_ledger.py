"""The ledger of whole sweeps, over several runs of the script, and the lines with which they end."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trainables import Counter, Make, maker

import tunekit as tk
from tunekit.core.codec import Record
from tunekit.errors import ExperimentNotFoundError, StorageError
from tunekit.journal.folder import LocalExperiment
from tunekit.runtime.driver.signals import SweepInterrupted


class Slow(Counter):
    """Takes its time, so that there is something to lose."""

    def step(self) -> dict[str, Any]:
        time.sleep(0.02)
        return super().step()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


def sweep(make: Make, folder: Path, trainable: Any = Slow, **run: Any) -> tk.Tuner:
    settings = {
        "stop": {"training_iteration": 6},
        "checkpoint_config": tk.CheckpointConfig(checkpoint_frequency=2),
        "failure_config": tk.FailureConfig(max_failures=1),
        **run,
    }
    return make(trainable, {"flags": folder, "fail_at": 4}, run=settings, num_samples=2, metric=None, mode=None)


def test_a_sweep_ends_with_what_was_useful_and_what_was_lost(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tk.inline(sweep(make, tmp_path, verbose=1))
    *_, useful, lost = capsys.readouterr().err.splitlines()
    assert useful.startswith("  useful  ")
    assert lost.startswith("  lost    ")
    assert "recomputed" in lost
    assert "[user exception" in lost
    ledger = results.ledger
    assert results.ledger is ledger, "the journal is read once"
    assert list(ledger.by_trial) == ["Slow_00000", "Slow_00001"]
    assert set(ledger.by_cause) == {"no loss", "user exception"}
    assert 0 < ledger.total.lost_s < ledger.total.leased_s == pytest.approx(sum(ledger.total.by_kind().values()))
    assert sweep(make, tmp_path).get_results().ledger.to_dict() == ledger.to_dict()
    tk.inline(sweep(make, tmp_path, verbose=1))
    assert "useful" not in capsys.readouterr().err, "nothing was spent in this run"
    (tmp_path / "exp").rename(tmp_path / "elsewhere")
    assert results.ledger is ledger
    with pytest.raises(ExperimentNotFoundError, match="no longer at"):
        _ = sweep_results_without_reading(make, tmp_path).ledger


def sweep_results_without_reading(make: Make, tmp_path: Path) -> tk.ResultGrid:
    """Return results whose folder is moved away before anybody asks."""
    (tmp_path / "elsewhere").rename(tmp_path / "exp")
    results = sweep(make, tmp_path).get_results()
    (tmp_path / "exp").rename(tmp_path / "elsewhere")
    return results


def test_what_a_trial_occupies_is_asked_of_the_script_and_by_its_configuration(make: Make, tmp_path: Path) -> None:
    occupied = tk.with_resources(Counter, lambda config: {"cpu": config["fail_at"] / 2})
    ledger = tk.inline(sweep(make, tmp_path, occupied)).ledger
    assert ledger.cost({"CPU": 3600.0}).total == pytest.approx(2 * ledger.total.held_s)


def test_the_prices_of_the_script_hold_where_none_are_given(make: Make, tmp_path: Path) -> None:
    tuner = make(Counter, {}, run={"stop": {"training_iteration": 2}}, num_samples=1, prices={"cpu": 7200.0})
    ledger = tk.inline(tuner).ledger
    assert ledger.cost().total == pytest.approx(2 * ledger.total.held_s) == ledger.cost({"CPU": 7200}).total


# -- when the journal cannot be read, or has gone on -------------------------------------------------------------------


class Terminated(Slow):
    """Is told to end, as is the whole process, at its second step."""

    def step(self) -> dict[str, Any]:
        if self.count == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().step()


def unreadable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the journal, once it was replayed, refuse to be read; return the places where somebody tried."""
    tried: list[str] = []

    read = LocalExperiment.records

    def records(self: LocalExperiment, *, holding: bytes = b"") -> Iterator[Record]:
        if holding:
            return read(self, holding=holding)
        tried.append(self.path)
        raise StorageError(f"{self.path}: no route to host")

    monkeypatch.setattr(LocalExperiment, "records", records)
    return tried


def test_a_journal_that_cannot_be_read_at_the_end_costs_one_warning_and_no_results(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    tried = unreadable(monkeypatch)
    results = tk.inline(sweep(make, tmp_path, verbose=1))
    assert [result.metrics["count"] for result in results] == [6, 6]
    assert len(tried) == 1, "one pass for rows and seconds"
    [warning] = [one.getMessage() for one in caplog.records if "to sum the sweep up" in one.getMessage()]
    assert warning.endswith("no route to host")
    assert "useful" not in capsys.readouterr().err


def test_the_error_that_ended_a_sweep_is_raised_although_its_journal_cannot_be_read(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch)
    failing = {"verbose": 1, "failure_config": tk.FailureConfig(max_failures=0, fail_fast="raise")}
    with pytest.raises(tk.errors.TrialError, match="once"):
        tk.inline(sweep(make, tmp_path, **failing))


def test_whoever_is_told_to_end_does_not_read_the_journal_first(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be long, in a bucket, and the process has only so many seconds."""
    tried = unreadable(monkeypatch)
    with pytest.raises(SweepInterrupted):
        tk.inline(sweep(make, tmp_path, Terminated, verbose=1))
    assert tried == []


def test_the_ledger_is_of_the_moment_of_its_results_although_the_sweep_goes_on(make: Make, tmp_path: Path) -> None:
    """Trials that are made later are none of its own: it cannot even tell what they occupy."""
    occupied = tk.with_resources(Slow, lambda config: {"cpu": config["fail_at"] / 2})
    results = tk.inline(sweep(make, tmp_path, occupied))
    shutil.copytree(tmp_path / "exp", tmp_path / "then" / "exp")
    seen = sweep(make, tmp_path, occupied).get_results()
    longer = {"stop": {"training_iteration": 6}, "failure_config": tk.FailureConfig(max_failures=1)}
    more = make(occupied, {"flags": tmp_path, "fail_at": 4}, run=longer, num_samples=4, metric=None, mode=None)
    assert len(tk.inline(more).ledger.by_trial) == 4
    then = sweep(make, tmp_path, occupied, storage_path=tmp_path / "then").get_results().ledger
    for found in (results.ledger, seen.ledger):
        assert found.to_dict() == then.to_dict()
        assert found.cost({"CPU": 3600.0}).total == pytest.approx(2 * then.total.held_s)
    assert len(seen[0].metrics_dataframe) == 6
