"""What a trainable does wrong even before it is restored, and what functions do."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from honest import Honest

import tunekit as tk

Refused = Callable[..., tk.ValidationError]
# Fresh processes cannot import a module of tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


# -- S003-16, S003-7: what methods return ------------------------------------------------------------------------------


class Unpicklable(Honest):
    def save_checkpoint(self, path: str) -> Any:
        return {**super().save_checkpoint(path), "lock": threading.Lock()}


def test_unpicklable_dict_names_the_key(refused: Refused) -> None:
    """S003-16, S003-7."""
    assert refused(Unpicklable, "unpicklable state", "'lock'").fields["key"] == "lock"


class WrongPath(Honest):
    def save_checkpoint(self, path: str) -> Any:
        return tempfile.gettempdir()


class WrongKind(Honest):
    def save_checkpoint(self, path: str) -> Any:
        return 3


@pytest.mark.parametrize(("trainable", "text"), [(WrongPath, tempfile.gettempdir()), (WrongKind, "got 3 (int)")])
def test_wrong_return(refused: Refused, trainable: Any, text: str) -> None:
    """S003-16, S003-7."""
    refused(trainable, "wrong return", text)


class NoDict(Honest):
    def step(self) -> Any:
        return 0.5


class BadMetric(Honest):
    def step(self) -> Any:
        return {"loss": {1, 2}}


def test_step_must_return_a_dict(refused: Refused) -> None:
    """S003-16."""
    error = refused(NoDict, "result is no dict", "returned 0.5 (float) at iteration 1")
    assert error.fields["found"] == "0.5 (float)"


def test_metric_that_cannot_be_recorded(refused: Refused) -> None:
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
def test_missing_methods(refused: Refused, trainable: Any, text: str) -> None:
    """S003-16: known without running it."""
    refused(trainable, "missing methods", f"does not define {text}")


# -- runs that nobody interrupted --------------------------------------------------------------------------------------


class SaveDraws(Honest):
    """Saves and restores its generator, but draws from it while saving."""

    def step(self) -> dict[str, Any]:
        self.value += random.random()
        return {"value": self.value}

    def save_checkpoint(self, path: str) -> Any:
        return {"value": self.value, "tag": random.random(), "generator": random.getstate()}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value = checkpoint["value"]
        random.setstate(checkpoint["generator"])


def test_saving_changes_training(refused: Refused) -> None:
    refused(SaveDraws, "save changes training", "'value'")


class Chaotic(Honest):
    def step(self) -> dict[str, Any]:
        return {**super().step(), "luck": int.from_bytes(os.urandom(4))}


def test_chance_that_nobody_seeds_is_told_apart(refused: Refused) -> None:
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
def test_exception_comes_with_the_users_traceback(refused: Refused, method: str) -> None:
    error = refused(Raises, "exception", f"{method}() raised KeyError", config={"where": method})
    assert error.fields["key"] == method
    assert f'self.fail("{method}")' in error.fields["traceback"]
    assert "tunekit/validation" not in error.fields["traceback"].splitlines()[1]


class Dies(Honest):
    def step(self) -> dict[str, Any]:
        print("these were its last words", flush=True)
        os._exit(3)


def test_process_that_dies(refused: Refused) -> None:
    refused(Dies, "process died", "ended with exit status 3", "these were its last words")


class Short(Honest):
    def step(self) -> dict[str, Any]:
        return {**super().step(), "done": True}


def test_trial_too_short_to_be_interrupted(refused: Refused) -> None:
    refused(Short, "too short", "ended by itself after 1 iteration,")


class Picky:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ImportError("no such place here")


class Unreadable(Honest):
    def save_checkpoint(self, path: str) -> Any:
        return {**super().save_checkpoint(path), "picky": Picky()}


def test_dict_that_cannot_be_read_again(refused: Refused) -> None:
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
        self.file.write(b"x" * self.config["num_bytes"])

    def load_checkpoint(self, checkpoint: Any) -> None:
        pass


@pytest.mark.parametrize("num_bytes", [4, 1_000_000])
def test_files_that_are_written_to_later(refused: Refused, num_bytes: int) -> None:
    """Found whatever the machine is at: no save is finished behind the trial."""
    refused(WritesLate, "changed checkpoint", "after it was saved", "close all files", config={"num_bytes": num_bytes})


class LocksWhatItReads(Honest):
    def save_checkpoint(self, path: str) -> None:
        Path(path, "state").write_text(f"{self.value!r} {self.speed!r}")

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value, self.speed = map(float, Path(checkpoint, "state").read_text().split())
        Path(checkpoint, "state.lock").touch()


def test_files_that_are_written_while_loading(refused: Refused) -> None:
    """It comes back as it was saved, but only once: the checkpoint is damaged then."""
    error = refused(LocksWhatItReads, "changed checkpoint", "load_checkpoint changes", "state.lock", "into a copy")
    assert error.fields["step"] == 3


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
def test_functions(refused: Refused, function: Any, problem: str, text: str) -> None:
    refused(function, problem, text)
