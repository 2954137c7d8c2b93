"""Trainables that do not come back as they were saved: each is refused, for its own reason."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import tunekit as tk
from tunekit.errors import ValidationError

# Fresh processes cannot import a module of tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Honest(tk.Trainable):
    """Everything that it needs is in its dict; adversaries spoil one thing each."""

    def setup(self, config: dict[str, Any]) -> None:
        self.value = 1.0
        self.speed = 0.5

    def step(self) -> dict[str, Any]:
        self.speed *= 0.9
        self.value += self.speed
        return {"value": self.value}

    def save_checkpoint(self, path: str) -> Any:
        return {"value": self.value, "speed": self.speed}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value, self.speed = checkpoint["value"], checkpoint["speed"]


def refused(trainable: Any, problem: str, *texts: str, **settings: Any) -> ValidationError:
    """Return the error, whose kind and words are as they should be."""
    with pytest.raises(ValidationError) as caught:
        tk.validate_save_restore(trainable, **settings)
    error = caught.value
    assert error.fields["problem"] == problem, str(error)
    for text in texts:
        assert text in str(error)
    assert error.hint
    return error


# -- S003-16: what is not restored -------------------------------------------------------------------------------------


class NoOpLoad(Honest):
    def load_checkpoint(self, checkpoint: Any) -> None:
        pass


def test_no_op_load() -> None:
    """S003-16, R9: Ray's validator says True here."""
    error = refused(NoOpLoad, "no-op load", "load_checkpoint changes nothing: restored at iteration 3")
    assert (error.fields["step"], error.fields["key"]) == (4, "value")
    assert (error.fields["expected"], error.fields["found"]) == ("2.54755", "1.45")


class PartialLoad(Honest):
    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value = checkpoint["value"]


def test_partial_load_names_what_is_missing() -> None:
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


def test_partial_load_that_no_metric_shows() -> None:
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


def test_iteration_count_is_forgotten() -> None:
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
def test_missing_generator_is_named(trainable: Any, name: str) -> None:
    """S003-16: which generator is missing, and which merely happens to be used."""
    error = refused(trainable, "missing random generator", f"generator of {name} is not restored", "get")
    assert error.fields["generators"] == [name]


class OwnGenerator(Honest):
    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        self.noise = np.random.default_rng(7)

    def step(self) -> dict[str, Any]:
        return {"value": super().step()["value"] + float(self.noise.random())}


def test_missing_generator_of_its_own() -> None:
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


def test_state_shared_between_instances() -> None:
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


def test_remembered_path() -> None:
    """S003-16, S003-5: checkpoints are moved."""
    error = refused(RemembersPath, "absolute path", "remembers an absolute path", "value.txt", "FileNotFoundError")
    assert "Path(where" in error.fields["traceback"]


def test_remembered_path_that_is_given_up_quietly() -> None:
    """S003-16."""
    refused(RemembersPathQuietly, "absolute path", "'value'")


def test_state_beside_the_checkpoint(tmp_path: Path) -> None:
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


def test_dict_changed_after_it_was_returned() -> None:
    """S003-16."""
    error = refused(MutatesDict, "mutated dict", "at iteration 1 was changed afterwards", "'count' went from 1 to 2")
    assert (error.fields["expected"], error.fields["found"]) == ("1", "2")


# -- S003-16, S003-7: what methods return ------------------------------------------------------------------------------


class Unpicklable(Honest):
    def save_checkpoint(self, path: str) -> Any:
        return {**super().save_checkpoint(path), "lock": threading.Lock()}


def test_unpicklable_dict_names_the_key() -> None:
    """S003-16, S003-7."""
    assert refused(Unpicklable, "unpicklable state", "'lock'").fields["key"] == "lock"


class WrongPath(Honest):
    def save_checkpoint(self, path: str) -> Any:
        return tempfile.gettempdir()


class WrongKind(Honest):
    def save_checkpoint(self, path: str) -> Any:
        return 3


@pytest.mark.parametrize(("trainable", "text"), [(WrongPath, tempfile.gettempdir()), (WrongKind, "got 3 (int)")])
def test_wrong_return(trainable: Any, text: str) -> None:
    """S003-16, S003-7."""
    refused(trainable, "wrong return", text)


class NoDict(Honest):
    def step(self) -> Any:
        return 0.5


class BadMetric(Honest):
    def step(self) -> Any:
        return {"loss": {1, 2}}


def test_step_must_return_a_dict() -> None:
    """S003-16."""
    error = refused(NoDict, "result is no dict", "returned 0.5 (float) at iteration 1")
    assert error.fields["found"] == "0.5 (float)"


def test_metric_that_cannot_be_recorded() -> None:
    refused(BadMetric, "bad result", "'loss'", "sort it into a list")


class CannotSave(tk.Trainable):
    def step(self) -> dict[str, Any]:
        return {"x": 1}


class CannotLoad(CannotSave):
    def save_checkpoint(self, path: str) -> Any:
        return {}


@pytest.mark.parametrize(
    ("trainable", "text"), [(CannotSave, "save_checkpoint() and load_checkpoint()"), (CannotLoad, "load_checkpoint()")]
)
def test_missing_methods(trainable: Any, text: str) -> None:
    """S003-16: known without running it."""
    refused(trainable, "missing methods", f"does not define {text}")


# -- runs that nobody interrupted --------------------------------------------------------------------------------------


class SaveDraws(NoisyRandom):
    """Saves and restores its generator, but draws from it while saving."""

    def save_checkpoint(self, path: str) -> Any:
        return {"value": self.value, "tag": random.random(), "generator": random.getstate()}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value = checkpoint["value"]
        random.setstate(checkpoint["generator"])


def test_saving_changes_training() -> None:
    refused(SaveDraws, "save changes training", "'value'")


class Chaotic(Honest):
    def step(self) -> dict[str, Any]:
        return {**super().step(), "luck": int.from_bytes(os.urandom(4))}


def test_chance_that_nobody_seeds_is_told_apart() -> None:
    error = refused(Chaotic, "not deterministic", "neither was interrupted", "'luck'")
    assert error.fields["step"] == 1


# -- exceptions --------------------------------------------------------------------------------------------------------


class Raises(Honest):
    def fail(self, method: str) -> None:
        if self.config["where"] == method:
            raise KeyError(f"no luck in {method}")

    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        self.fail("setup")

    def step(self) -> dict[str, Any]:
        self.fail("step")
        return super().step()

    def save_checkpoint(self, path: str) -> Any:
        self.fail("save_checkpoint")
        return super().save_checkpoint(path)

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.fail("load_checkpoint")
        super().load_checkpoint(checkpoint)

    def cleanup(self) -> None:
        self.fail("cleanup")


@pytest.mark.parametrize("method", ["setup", "step", "save_checkpoint", "load_checkpoint", "cleanup"])
def test_exception_comes_with_the_users_traceback(method: str) -> None:
    error = refused(Raises, "exception", f"{method}() raised KeyError", config={"where": method})
    assert error.fields["key"] == method
    assert f'self.fail("{method}")' in error.fields["traceback"]
    assert "tunekit/validation" not in error.fields["traceback"].splitlines()[1]


class Dies(Honest):
    def step(self) -> dict[str, Any]:
        print("these were its last words", flush=True)
        os._exit(3)


def test_process_that_dies() -> None:
    refused(Dies, "process died", "ended with exit status 3", "these were its last words")


class Short(Honest):
    def step(self) -> dict[str, Any]:
        return {**super().step(), "done": True}


def test_trial_too_short_to_be_interrupted() -> None:
    refused(Short, "too short", "ended by itself after 1 iteration,")


class Picky:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ImportError("no such place here")


class Unreadable(Honest):
    def save_checkpoint(self, path: str) -> Any:
        return {**super().save_checkpoint(path), "picky": Picky()}


def test_dict_that_cannot_be_read_again() -> None:
    refused(Unreadable, "unreadable checkpoint", "no such place here")


class WritesLate(Honest):
    """Keeps the file of its last checkpoint open."""

    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        self.file: Any = None

    def step(self) -> dict[str, Any]:
        if self.file:
            self.file.write(b"more")
        return super().step()

    def save_checkpoint(self, path: str) -> Any:
        self.file = Path(path, "state").open("wb", buffering=0)  # noqa: SIM115 - that it stays open is the point
        self.file.write(b"some")

    def load_checkpoint(self, checkpoint: Any) -> None:
        pass


def test_files_that_are_written_to_later() -> None:
    refused(WritesLate, "changed checkpoint", "after it was saved", "close all files")


# -- functions ---------------------------------------------------------------------------------------------------------


class State:
    def __init__(self) -> None:
        self.value = 1.0

    def save_checkpoint(self, path: str) -> Any:
        return {"value": self.value}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value = checkpoint["value"]


class BrokenState(State):
    def load_checkpoint(self, checkpoint: Any) -> None:
        pass


def run_epochs(state: Any, first: int) -> None:
    for epoch in range(first, 5):
        state.value *= 1.5
        tk.report({"value": state.value, "epoch": epoch}, checkpoint=state)


def never_restores(config: dict[str, Any]) -> None:
    run_epochs(State(), 0)


def restores_nothing(config: dict[str, Any]) -> None:
    state = BrokenState()
    tk.restore(state)
    run_epochs(state, tk.get_context().iteration)


def forgets_the_epoch(config: dict[str, Any]) -> None:
    state = State()
    tk.restore(state)
    run_epochs(state, 0)


def trains_too_long(config: dict[str, Any]) -> None:
    state = State()
    tk.restore(state)
    for _ in range(5):
        state.value *= 1.5
        tk.report({"value": state.value}, checkpoint=state)


def saves_nothing(config: dict[str, Any]) -> None:
    for epoch in range(5):
        tk.report({"epoch": epoch})


TOTAL = {"rows": 0}


def shares_a_global(config: dict[str, Any]) -> None:
    for _ in range(5):
        TOTAL["rows"] += 1
        tk.report({"rows": TOTAL["rows"]}, checkpoint=State())


@pytest.mark.parametrize(
    ("function", "problem", "text"),
    [
        (never_restores, "never restores", "restored at iteration 3, it began again at iteration 1"),
        (restores_nothing, "no-op load", "'value'"),
        (forgets_the_epoch, "forgotten iteration", "'epoch' begins again"),
        (trains_too_long, "forgotten iteration", "at iteration 6 there is a result, expected none"),
        (shares_a_global, "shared state", "a second trial in the same process"),
        (saves_nothing, "missing methods", "reports nothing that can be saved"),
    ],
)
def test_functions(function: Any, problem: str, text: str) -> None:
    refused(function, problem, text)
