"""Trainables that come back as they were saved: none of them is suspected."""

from __future__ import annotations

import json
import math
import pickle
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import tunekit as tk

cloudpickle.register_pickle_by_value(sys.modules[__name__])


class WithDict(tk.Trainable):
    """Every random generator, a list, nested values, NaN."""

    def setup(self, config: dict[str, Any]) -> None:
        self.value = config["start"]
        self.history: list[float] = []
        self.noise = np.random.default_rng(3)

    def step(self) -> dict[str, Any]:
        self.value += random.random() + float(np.random.random()) + float(self.noise.random())  # noqa: NPY002
        self.history.append(self.value)
        return {"value": self.value, "nothing": math.nan, "nested": {"n": len(self.history)}}

    def save_checkpoint(self, path: str) -> Any:
        return {
            "value": self.value,
            "history": self.history,
            "generators": (random.getstate(), np.random.get_state(), self.noise),  # noqa: NPY002
        }

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value, self.history = checkpoint["value"], checkpoint["history"]
        first, second, self.noise = checkpoint["generators"]
        random.setstate(first)
        np.random.set_state(second)  # noqa: NPY002


def test_dict() -> None:
    """S003-16."""
    assert tk.validate_save_restore(WithDict, {"start": 2.0}) is True


class WithWeights(WithDict):
    """What with_parameters gives has no default, and a run changes what it was given."""

    def setup(self, config: dict[str, Any], weights: list[float], offsets: Any) -> None:  # type: ignore[override]
        super().setup(config)
        self.weights, self.offsets = weights, offsets
        self.weights[0] *= 2.0
        assert not offsets.flags.writeable

    def step(self) -> dict[str, Any]:
        row = super().step()
        return {**row, "value": row["value"] * self.weights[0] + float(self.offsets.sum())}


def test_required_parameters() -> None:
    trainable = tk.with_parameters(WithWeights, weights=[2.0], offsets=np.ones(3))
    assert tk.validate_save_restore(trainable, {"start": 2.0}) is True


class InFolder(tk.Trainable):
    """Files in the folder; also what differs from run to run and means nothing."""

    def setup(self, config: dict[str, Any]) -> None:
        self.weights = np.zeros(3)

    def step(self) -> dict[str, Any]:
        self.weights += [1.0, 0.1, 0.01]
        return {"sum": float(self.weights.sum()), "time_spent_s": time.perf_counter(), "date": time.ctime()}

    def save_checkpoint(self, path: str) -> Any:
        np.savez(Path(path, "weights.npz"), weights=self.weights)
        about = {"folder": path, "time_of_save": time.time(), "timestamp": time.time()}
        Path(path, "about.json").write_text(json.dumps(about))
        return self.returned(path)

    def returned(self, path: str) -> Any:
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        with np.load(Path(checkpoint, "weights.npz")) as loaded:
            self.weights = loaded["weights"]


class ReturningPath(InFolder):
    def returned(self, path: str) -> Any:
        return path


@pytest.mark.parametrize("trainable", [InFolder, ReturningPath])
def test_folder(trainable: Any) -> None:
    """S003-16: with None and with the path as what is returned."""
    assert tk.validate_save_restore(trainable, steps=2) is True


class WithTorch(tk.Trainable):
    """A network, its optimiser, its schedule and dropout, in a dict whose tensors training goes on to change."""

    def setup(self, config: dict[str, Any]) -> None:
        import torch

        self.model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=2)

    def step(self) -> dict[str, Any]:
        import torch

        data = torch.randn(16, 4)
        self.optimizer.zero_grad()
        loss = ((self.model(data).squeeze(1) - data.sum(1)) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return {"loss": loss}

    def save_checkpoint(self, path: str) -> Any:
        import torch

        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": torch.get_rng_state(),
        }

    def load_checkpoint(self, checkpoint: Any) -> None:
        import torch

        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.schedule.load_state_dict(checkpoint["schedule"])
        torch.set_rng_state(checkpoint["generator"])


def test_torch() -> None:
    """S003-16."""
    assert tk.validate_save_restore(WithTorch, steps=2) is True


class WithSklearn(tk.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        from sklearn.linear_model import SGDClassifier

        self.model = SGDClassifier(random_state=np.random.RandomState(5))
        self.data = np.random.default_rng(0)

    def step(self) -> dict[str, Any]:
        inputs = self.data.normal(size=(20, 3))
        labels = (inputs.sum(axis=1) > 0).astype(int)
        self.model.partial_fit(inputs, labels, classes=[0, 1])
        return {"accuracy": self.model.score(inputs, labels), "weight": self.model.coef_[0, 0]}

    def save_checkpoint(self, path: str) -> Any:
        with Path(path, "model.pkl").open("wb") as file:
            pickle.dump((self.model, self.data), file)

    def load_checkpoint(self, checkpoint: Any) -> None:
        with Path(checkpoint, "model.pkl").open("rb") as file:
            self.model, self.data = pickle.load(file)


def test_sklearn() -> None:
    """S003-16."""
    assert tk.validate_save_restore(WithSklearn, steps=2) is True


class State:
    def __init__(self) -> None:
        self.value = 1.0

    def save_checkpoint(self, path: str) -> Any:
        Path(path, "value.txt").write_text(repr(self.value))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value = float(Path(checkpoint, "value.txt").read_text())


def with_saver(config: dict[str, Any], factor: float) -> None:
    state = State()
    tk.restore(state)
    for epoch in range(tk.get_context().iteration, 4):
        state.value *= factor
        tk.report({"value": state.value, "epoch": epoch}, checkpoint=state)


def with_folders(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Saves every second epoch, as it likes."""
    value, first = 1.0, 0
    checkpoint = tk.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            first, value = json.loads(Path(folder, "state.json").read_text())
    for epoch in range(first + 1, 100):
        value *= 1.5
        if epoch % 2:
            tk.report({"value": value})
        else:
            folder = str(tk.get_context().checkpoint_dir())
            Path(folder, "state.json").write_text(json.dumps([epoch, value]))
            tk.report({"value": value}, checkpoint=tk.Checkpoint.from_directory(folder))
    yield {"value": 0.0}


def test_function_with_a_saver() -> None:
    """S003-16, S003-2: it ends by itself, after fewer iterations than twice the steps."""
    assert tk.validate_save_restore(tk.with_parameters(with_saver, factor=1.5)) is True


def test_function_with_folders() -> None:
    """S003-2: checkpoints are made by the function's own rule."""
    assert tk.validate_save_restore(with_folders) is True


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert tk.validate_save_restore(with_folders) is True
    assert not list(tmp_path.iterdir())
