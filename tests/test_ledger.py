"""The ledger of whole sweeps, over several runs of the script, and the lines with which they end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from trainables import Counter, Make, maker

import tunekit as tk
from tunekit.errors import ExperimentNotFoundError


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
