"""Trainables that do not come back as they were saved: each is refused, for its own reason."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from honest import Honest

import tunekit as tk

Refused = Callable[..., tk.ValidationError]
# Fresh processes cannot import a module of tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


# -- S003-16: what is not restored -------------------------------------------------------------------------------------


class NoOpLoad(Honest):
    def load_checkpoint(self, checkpoint: Any) -> None:
        pass


def test_no_op_load(refused: Refused) -> None:
    """S003-16, R9: Ray's validator says True here."""
    error = refused(NoOpLoad, "no-op load", "load_checkpoint changes nothing: restored at iteration 3")
    assert (error.fields["step"], error.fields["key"]) == (4, "value")
    assert (error.fields["expected"], error.fields["found"]) == ("2.54755", "1.45")


class PartialLoad(Honest):
    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value = checkpoint["value"]


def test_partial_load_names_what_is_missing(refused: Refused) -> None:
    """S003-16."""
    error = refused(PartialLoad, "partial load", "not everything is restored", "speed is 0.5, was 0.3645")
    assert error.fields["attributes"] == ["speed"]
    assert (error.fields["step"], error.fields["key"]) == (4, "value")


class SilentPartialLoad(Honest):
    """No metric tells: only what it saves next does."""

    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        self.best = 0.0

    def step(self) -> dict[str, Any]:
        row = super().step()
        self.best = max(self.best, 10.0 - abs(self.value - 1.8))
        return row

    def save_checkpoint(self, path: str) -> Any:
        return {**super().save_checkpoint(path), "best": self.best}


def test_partial_load_that_no_metric_shows(refused: Refused) -> None:
    """S003-16: states are compared, not only results."""
    error = refused(SilentPartialLoad, "partial load", "'best' in the saved state")
    assert error.fields["attributes"] == ["best"]


class ForgottenEpoch(Honest):
    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        self.epoch = 0

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        return {**super().step(), "rate": 0.1**self.epoch}


def test_iteration_count_is_forgotten(refused: Refused) -> None:
    refused(ForgottenEpoch, "forgotten iteration", "self.epoch begins again", "'rate'")


# -- S003-16: random generators ----------------------------------------------------------------------------------------


class NoisyRandom(Honest):
    def step(self) -> dict[str, Any]:
        self.value += random.random()
        return {"value": self.value}


class NoisyNumpy(Honest):
    def step(self) -> dict[str, Any]:
        random.random()  # It is not to blame: nothing depends on it.
        self.value += float(np.random.random())  # noqa: NPY002 - the generator that is forgotten
        return {"value": self.value}


class NoisyTorch(Honest):
    def step(self) -> dict[str, Any]:
        import torch

        self.value += float(torch.rand(()))
        return {"value": self.value}


@pytest.mark.parametrize(
    ("trainable", "name"),
    [(NoisyRandom, "Python's random"), (NoisyNumpy, "numpy.random"), (NoisyTorch, "torch")],
)
def test_missing_generator_is_named(refused: Refused, trainable: Any, name: str) -> None:
    """S003-16: which generator is missing, and which merely happens to be used."""
    error = refused(trainable, "missing random generator", f"generator of {name} is not restored", "get")
    assert error.fields["generators"] == [name]


class OwnGenerator(Honest):
    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        self.noise = np.random.default_rng(7)

    def step(self) -> dict[str, Any]:
        return {"value": super().step()["value"] + float(self.noise.random())}


def test_missing_generator_of_its_own(refused: Refused) -> None:
    """S003-16."""
    refused(OwnGenerator, "missing random generator", "self.noise")


# -- S003-16: state in wrong places ------------------------------------------------------------------------------------


class SharedState(tk.Trainable):
    total = 0

    def step(self) -> dict[str, Any]:
        type(self).total += 1
        return {"total": self.total}

    def save_checkpoint(self, path: str) -> Any:
        return {"total": self.total}

    def load_checkpoint(self, checkpoint: Any) -> None:
        type(self).total = checkpoint["total"]


def test_state_shared_between_instances(refused: Refused) -> None:
    """S003-16: it survives a fresh process, and spoils the next trial of the same worker."""
    error = refused(SharedState, "shared state", "SharedState.total went from 0 to 6")
    assert error.fields["attributes"] == ["SharedState.total"]


class RemembersPath(Honest):
    def save_checkpoint(self, path: str) -> Any:
        Path(path, "value.txt").write_text(f"{self.value!r} {self.speed!r}")
        Path(path, "where.txt").write_text(path)

    def load_checkpoint(self, checkpoint: Any) -> None:
        where = Path(checkpoint, "where.txt").read_text()
        self.value, self.speed = map(float, Path(where, "value.txt").read_text().split())


class RemembersFolder(Honest):
    """Keeps its state in the folder of its trial."""

    def save_checkpoint(self, path: str) -> Any:
        Path(str(self.logdir)).mkdir(exist_ok=True)
        Path(str(self.logdir), "value.txt").write_text(f"{self.value!r} {self.speed!r}")
        return {"where": self.logdir}

    def load_checkpoint(self, checkpoint: Any) -> None:
        where = checkpoint["where"]
        self.value, self.speed = map(float, Path(where, "value.txt").read_text().split())


class RemembersPathQuietly(RemembersPath):
    def load_checkpoint(self, checkpoint: Any) -> None:
        where = Path(checkpoint, "where.txt").read_text()
        if Path(where).exists():
            super().load_checkpoint(checkpoint)


class WritesElsewhere(Honest):
    def save_checkpoint(self, path: str) -> Any:
        Path(self.config["file"]).write_text(f"{self.value!r} {self.speed!r}")
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value, self.speed = map(float, Path(self.config["file"]).read_text().split())


@pytest.mark.parametrize("trainable", [RemembersPath, RemembersFolder])
def test_remembered_path(refused: Refused, trainable: Any) -> None:
    """S003-16, S003-5: checkpoints are moved."""
    error = refused(trainable, "absolute path", "remembers an absolute path", "value.txt", "FileNotFoundError")
    assert "Path(where" in error.fields["traceback"]


def test_remembered_path_that_is_given_up_quietly(refused: Refused) -> None:
    """S003-16."""
    refused(RemembersPathQuietly, "absolute path", "'value'")


class ForgetsFile(Honest):
    def save_checkpoint(self, path: str) -> None:
        (Path(path) / "other.txt").write_text(f"{self.value} {self.speed}")

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value, self.speed = map(float, (Path(checkpoint) / "value.txt").read_text().split())


def test_a_file_that_was_never_saved_is_no_remembered_path(refused: Refused) -> None:
    """The path in the message is the one that it was given."""
    refused(ForgetsFile, "exception", "load_checkpoint() raised", "FileNotFoundError", "value.txt")


def test_state_beside_the_checkpoint(refused: Refused, tmp_path: Path) -> None:
    """The file is there after the restore, but it is that of a later iteration."""
    file = str(tmp_path / "state.txt")
    refused(WritesElsewhere, "absolute path", file, config={"file": file})


class MutatesDict(tk.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.state = {"count": 0}

    def step(self) -> dict[str, Any]:
        self.state["count"] += 1
        return {"count": self.state["count"]}

    def save_checkpoint(self, path: str) -> Any:
        return self.state

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.state = checkpoint


def test_dict_changed_after_it_was_returned(refused: Refused) -> None:
    """S003-16."""
    error = refused(MutatesDict, "mutated dict", "at iteration 1 was changed afterwards", "'count' went from 1 to 2")
    assert (error.fields["expected"], error.fields["found"]) == ("1", "2")
