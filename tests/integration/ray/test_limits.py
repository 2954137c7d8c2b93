"""Limits of cost and of the clock, on Ray: they end a sweep, save its trials, and the next run goes on from there."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sweeps

import tunekit as tk
from tunekit.core.events import TimerFired
from tunekit.types import Outcome, TrialStatus

pytestmark = pytest.mark.ray

PRICES = {"CPU": 3600.0}
"""A second of a CPU costs 1."""
FIRST = 1.0
"""What the first run may cost."""
HELD, LAST = 4, 300
"""The row before which trials wait until the limit has been reached, and the one that is their last.

So the order to stop has half a minute: that the limit is reached can be read while the driver still waits for its disk.
"""


def make_walk() -> type[tk.Trainable]:
    """Return a class by value: workers cannot import a test's file."""

    class Walk(tk.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.position, self.count = config["start"], 0

        def step(self) -> dict[str, Any]:
            self.count += 1
            while self.count == HELD and not Path(self.config["gate"]).exists():
                time.sleep(0.01)
            if self.count > HELD and not Path(self.config["hurry"]).exists():
                time.sleep(0.1)  # The order to stop is on its way.
            self.position = self.position * 1.5 + self.count
            return {"position": self.position}

        def save_checkpoint(self, path: str) -> dict[str, Any]:
            return {"position": self.position, "count": self.count}

        def load_checkpoint(self, state: Any) -> None:
            self.position, self.count = state["position"], state["count"]

    return Walk


def make_tuner(folder: Path, gate: Path, **limits: Any) -> tk.Tuner:
    hurry = gate.with_name("hurry")
    return tk.Tuner(
        make_walk(),
        param_space={"start": tk.grid_search([0.25, 0.5, 0.75]), "gate": str(gate), "hurry": str(hurry)},
        tune_config=tk.TuneConfig(seed=1, **limits),
        run_config=tk.RunConfig(
            name="walks",
            storage_path=str(folder),
            verbose=0,
            stop_grace_s=sweeps.PATIENCE_S,  # To be held at the gate is no refusal to stop.
            stop={"training_iteration": LAST},
            checkpoint_config=tk.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def open_when_told_to_stop(experiment: Path, gate: Path) -> None:
    """Let trials go on as soon as the limit is reached. The order to stop is journalled only with what follows it."""
    deadline = time.monotonic() + sweeps.PATIENCE_S
    while not any(isinstance(record, TimerFired) for record in sweeps.journal(experiment)):
        assert time.monotonic() < deadline, "the limit is not seen"
        time.sleep(0.05)
    gate.touch()


def test_a_cost_ends_a_sweep_with_its_trials_saved_and_a_larger_one_comes_to_the_same_table(
    cluster: None, tmp_path: Path
) -> None:
    """S004-11. What is paid for is what the ledger has; the same limit launches nothing, nor does one of the clock."""
    experiment, gate = tmp_path / "walks", tmp_path / "gate"
    experiment.mkdir()
    watching = threading.Thread(target=open_when_told_to_stop, args=(experiment, gate))
    watching.start()
    first = make_tuner(tmp_path, gate, max_cost=FIRST, prices=PRICES).fit()
    watching.join()
    (tmp_path / "hurry").touch()
    assert first.outcome is Outcome.MAX_COST
    begun = [result for result in first if result.rows]
    assert begun
    for result in begun:
        assert result.status is TrialStatus.PAUSED
        assert len(result.rows) < LAST, "it ends at its next report"
        assert result.checkpoint is not None
        assert Path(result.checkpoint.path).name == f"checkpoint_{len(result.rows):06d}"

    ledger = first.ledger
    cost, total = ledger.cost(), ledger.total
    assert cost.total >= FIRST
    assert cost.total == pytest.approx(total.held_s), "each trial occupies one CPU"
    for parts in (cost.by_kind, cost.by_cause, cost.by_trial, {"useful": cost.useful, "lost": cost.lost}):
        assert sum(parts.values()) == pytest.approx(cost.total)
    assert cost.by_kind["queued"] == 0.0

    past = datetime.now(UTC) - timedelta(seconds=9)
    for limits, outcome in (
        ({"max_cost": FIRST, "prices": PRICES}, Outcome.MAX_COST),
        ({"max_cost": 1e6, "prices": PRICES, "deadline": past}, Outcome.DEADLINE),
    ):
        attempts = sweeps.attempts(experiment)
        again = make_tuner(tmp_path, gate, **limits).fit()
        assert again.outcome is outcome
        assert sweeps.attempts(experiment) == attempts, "nothing is launched"
        assert again.ledger.cost().total == pytest.approx(cost.total)

    last = make_tuner(tmp_path, gate, max_cost=1e6, prices=PRICES).fit()
    assert (last.outcome, [result.status for result in last]) == (Outcome.FINISHED, [TrialStatus.COMPLETED] * 3)
    assert last.ledger.cost().total > cost.total
    tk.inline(make_tuner(tmp_path / "undisturbed", gate))
    table = sweeps.table(experiment)
    assert table == sweeps.table(tmp_path / "undisturbed" / "walks")
    assert len(table) == 3 * LAST
    assert sweeps.count_results(experiment) == len(table), "nothing is computed again"
