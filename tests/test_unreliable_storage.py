"""Whole sweeps on storage that refuses, loses its replies, and hangs: what the trials compute is not touched by it."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

import tunekit as tk
from tunekit.runtime.sweep import opening
from tunekit.store import LocalStore, open_store
from tunekit.store.ops import Ops
from tunekit.store.verify import verify_folder
from tunekit.testing.faulty_store import Faults, FaultyStore
from tunekit.types import TrialStatus

LAST = 8
_T = TypeVar("_T")


class Walk(tk.Trainable):
    """A random walk."""

    moments: dict[int, threading.Event]
    """Set when a step begins, by its number."""

    def setup(self, config: dict[str, Any]) -> None:
        self.random = random.Random(config["start"])
        self.steps, self.position = 0, 0.0

    def step(self) -> dict[str, Any]:
        self.steps += 1
        if self.steps in Walk.moments:
            Walk.moments[self.steps].set()
        self.position += self.random.gauss(0, 1)
        return {"position": self.position}

    def save_checkpoint(self, path: str) -> dict[str, Any]:
        state = {"steps": self.steps, "position": self.position, "random": self.random.getstate()}
        return state | {"bulk": np.zeros(1 << 15)}  # Too much to be saved in passing.

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.steps, self.position = checkpoint["steps"], checkpoint["position"]
        self.random.setstate(checkpoint["random"])


@pytest.fixture(autouse=True)
def no_moments() -> None:
    Walk.moments = {}


def sweep(root: Path, samples: int = 2) -> tk.ResultGrid:
    tuner = tk.Tuner(
        Walk,
        param_space={"start": tk.uniform(-1, 1)},
        tune_config=tk.TuneConfig(metric="position", mode="max", num_samples=samples, seed=4),
        run_config=tk.RunConfig(
            name="walks",
            storage_path=str(root),
            stop={"training_iteration": LAST},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2),
            verbose=0,
        ),
    )
    return tk.inline(tuner)


def numbers(results: tk.ResultGrid) -> list[list[str]]:
    assert {result.status for result in results} == {TrialStatus.COMPLETED}
    return [[float(row["position"]).hex() for row in result.rows] for result in results]


def whole(root: Path) -> int:
    """Check every byte that can be seen, and return how many checkpoints that are."""
    shown = list(root.glob("walks/*/checkpoint_*"))
    for path in shown:
        verify_folder(path)
    return len(shown)


class Dice(Faults):
    """Refuses at random, for a random reason."""

    def __init__(self, chance: random.Random, odds: float) -> None:
        super().__init__()
        self.chance, self.odds, self.refused = chance, odds, 0

    def run(self, name: str, call: Callable[[], _T], part: Callable[[], object] | None = None) -> _T:
        if self.chance.random() < self.odds:
            self.refused += 1
            error = self.chance.choice([errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE, errno.EACCES])
            raise OSError(error, os.strerror(error), name)
        return call()


@pytest.mark.parametrize("seed", range(12))
def test_storage_that_refuses_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Saves are lost, and one after the other: no trial fails, and each checkpoint that can be seen is whole."""
    expected = numbers(sweep(tmp_path / "undisturbed"))
    dice = Dice(random.Random(seed), odds=(0.2, 0.4, 0.7, 1.0)[seed % 4])
    monkeypatch.setattr(opening, "open_store", lambda uri: FaultyStore(_checked(open_store(uri)), dice))
    assert numbers(sweep(tmp_path / "weak")) == expected
    assert dice.refused
    assert whole(tmp_path / "weak") <= 2 * LAST // 2
    monkeypatch.undo()
    assert numbers(sweep(tmp_path / "weak", samples=3))[:2] == expected


def _checked(store: Any) -> LocalStore:
    assert isinstance(store, LocalStore)
    return store


def test_a_save_that_hangs_does_not_hold_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first save does not return before the trial has taken two more steps: else this would not end."""
    expected = numbers(sweep(tmp_path / "undisturbed", samples=1))
    moment = Walk.moments[4] = threading.Event()
    hung: list[Path] = []

    class Hanging(Ops):
        def fsync(self, path: Path) -> None:
            if not hung and "Walk_00000.2.1" in str(path):
                hung.append(path)
                assert moment.wait(120)
            super().fsync(path)

    monkeypatch.setattr("tunekit.store.local.Ops", Hanging)
    monkeypatch.setattr("tunekit.store.checkpoint_io.Ops", Hanging)
    assert numbers(sweep(tmp_path / "weak", samples=1)) == expected
    assert hung
    assert whole(tmp_path / "weak") == LAST // 2
