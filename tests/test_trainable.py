"""What a trainable is: described, bound and checked before anything runs."""

from __future__ import annotations

import abc
import functools
import threading
from typing import Any

import cloudpickle
import numpy as np
import pytest

import tunekit as tk
from tunekit.store.layout import safe_trainable_name, trial_name
from tunekit.trainable import (
    DONE,
    SHOULD_CHECKPOINT,
    OwnCopies,
    Trainable,
    bind,
    check_picklable,
    code_digest,
    describe,
    parameters_of,
    with_parameters,
    with_resources,
)

LOCK = threading.Lock()


def train(config: dict[str, Any]) -> None: ...


def train_with(config: dict[str, Any], data: Any, scale: float = 1.0) -> Any:
    return config, data, scale


class Digits(Trainable):
    def setup(self, config: dict[str, Any], data: Any = None) -> None:
        self.data = data

    def step(self) -> dict[str, Any]:
        return {"x": 1}


class Saves(Digits):
    def save_checkpoint(self, path: str) -> None: ...

    def load_checkpoint(self, checkpoint: Any) -> None: ...


def test_keys_are_ray_tunes() -> None:
    """S003-9: the constant equals the literal."""
    assert (SHOULD_CHECKPOINT, DONE) == ("should_checkpoint", "done")


def test_description_of_a_function() -> None:
    info = describe(train)
    assert (info.kind, info.name, info.can_save) == ("function", "train", False)
    assert info.qualified_name == "train"
    assert info.resources == {"CPU": 1.0}


@pytest.mark.parametrize(
    ("trainable", "name"),
    [
        (lambda config: None, "lambda"),
        (functools.partial(train_with, data=1), "train_with"),
        (functools.partial(functools.partial(train_with, scale=2), data=1), "train_with"),
        (Saves({}).load_checkpoint, "load_checkpoint"),
        (with_parameters(train_with, data=1), "train_with"),
    ],
)
def test_name(trainable: Any, name: str) -> None:
    assert describe(trainable).name == name


def test_name_is_fit_to_be_a_folder() -> None:
    def strange(config: dict[str, Any]) -> None: ...

    strange.__name__ = "../a b\n"
    assert describe(strange).name == "a_b"


@pytest.mark.parametrize("name", ["x" * 99 + "_" + "y", "-x", "<lambda>", "_" * 120, "ä b"])
def test_a_trials_folder_begins_with_the_name_as_it_is_shown(name: str) -> None:
    def strange(config: dict[str, Any]) -> None: ...

    strange.__name__ = name
    shown = describe(strange).name
    assert trial_name(shown, 3) == f"{shown}_00003"
    assert safe_trainable_name(name) == shown


def test_the_module_is_no_part_of_what_a_trainable_is() -> None:
    """A script is run as __main__ and imported under its name: the same trainable."""

    def script(config: dict[str, Any]) -> None: ...

    before = describe(script).qualified_name
    script.__module__ = "__main__"
    assert describe(script).qualified_name == before


def test_object_that_can_be_called_counts_as_a_function() -> None:
    class Callable:
        def __call__(self, config: dict[str, Any]) -> None: ...

    assert (describe(Callable()).kind, describe(Callable()).name) == ("function", "Callable")


@pytest.mark.parametrize(("cls", "can_save"), [(Digits, False), (Saves, True)])
def test_description_of_a_class(cls: type[Trainable], can_save: Any) -> None:
    """S003-7, S003-14."""
    info = describe(cls)
    assert (info.kind, info.name, info.can_save) == ("class", cls.__name__, can_save)


class OnlySaves(Digits):
    def save_checkpoint(self, path: str) -> None: ...


class OnlyLoads(Digits):
    def load_checkpoint(self, checkpoint: Any) -> None: ...


class NoStep(Trainable): ...


class Abstract(Digits, abc.ABC):
    @abc.abstractmethod
    def more(self) -> None: ...


class BadSetup(Digits):
    def setup(self) -> None: ...  # type: ignore[override]


async def asynchronous(config: dict[str, Any]) -> None: ...


@pytest.mark.parametrize(
    ("trainable", "words"),
    [
        (3, "got int"),
        ("train", "got str"),
        (None, "got NoneType"),
        (int, "must derive from tunekit.Trainable"),
        (Saves({}), "an instance of Saves"),
        (lambda: None, "lambda(config)"),
        (train_with, "train_with(config)"),
        (with_parameters(train, data=1), "unexpected keyword argument 'data'"),
        (asynchronous, "async"),
        (Trainable, "step"),
        (NoStep, "step"),
        (OnlySaves, "save_checkpoint but not load_checkpoint"),
        (OnlyLoads, "load_checkpoint but not save_checkpoint"),
        (Abstract, "more"),
        (BadSetup, "setup(self, config)"),
        (with_parameters(Digits, wrong=1), "wrong"),
    ],
)
def test_what_is_no_trainable(trainable: Any, words: str) -> None:
    with pytest.raises(tk.TrainableError) as caught:
        describe(trainable)
    assert words in str(caught.value)


# -- parameters --------------------------------------------------------------------------------------------------------


def test_parameters_reach_a_function_and_a_class() -> None:
    data = object()
    bound = with_parameters(train_with, data=data, scale=2.0)
    assert bound({"a": 1}) == ({"a": 1}, data, 2.0)
    instance = with_parameters(Digits, data=data)({"a": 1})
    assert isinstance(instance, Digits)
    assert instance.data is data
    assert instance.config == {"a": 1}


def test_parameters_can_be_taken_out_and_put_in_again() -> None:
    bound = with_resources(with_parameters(train_with, data=1), {"gpu": 0.5})
    assert parameters_of(bound) == {"data": 1}
    assert parameters_of(train) == {}
    other = bind(bound, {"data": 2})
    assert other({})[1] == 2
    assert describe(other).resources == {"CPU": 1.0, "GPU": 0.5}
    assert bound({})[1] == 1, "the original stays as it was"


def test_parameters_accumulate() -> None:
    bound = with_parameters(with_parameters(train_with, data=1), scale=3.0)
    assert parameters_of(bound) == {"data": 1, "scale": 3.0}


def test_each_attempt_has_copies_of_its_own() -> None:
    data: dict[str, Any] = {"weights": [1.0], "array": np.arange(6.0).reshape(2, 3)}
    own = OwnCopies(with_parameters(train_with, data=data, scale=2.0))
    first, second = own(), own()
    first({})[1]["weights"].append(9.0)
    assert second({})[1]["weights"] == [1.0] == data["weights"]
    assert (second({})[2], first({})[2]) == (2.0, 2.0)
    array = second({})[1]["array"]
    assert np.array_equal(array, data["array"])
    assert np.shares_memory(array, data["array"]), "nothing large is copied"
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array += 1


class Unloadable(Exception):  # noqa: N818 - it stands for a class of somebody's
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


def test_what_cannot_be_copied_is_shared() -> None:
    error = Unloadable(1, 2)
    own = OwnCopies(with_parameters(train_with, data=LOCK, scale=error))
    assert own()({})[1] is LOCK
    assert own()({})[2] is error


def test_without_parameters_nothing_is_made() -> None:
    bound = with_resources(train, {"cpu": 1})
    assert OwnCopies(train)() is train
    assert OwnCopies(bound)() is bound


def test_repr_does_not_show_the_data() -> None:
    assert "0.0" not in repr(with_parameters(train_with, data=np.zeros(3)))


@pytest.mark.parametrize("give", [lambda x: with_parameters(x, a=1), lambda x: with_resources(x, {"cpu": 1})])
def test_only_functions_and_classes_take_parameters(give: Any) -> None:
    with pytest.raises(tk.TrainableError, match="got int"):
        give(3)


# -- resources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "amounts"),
    [
        ({}, {"CPU": 1.0}),
        ({"cpu": 2}, {"CPU": 2.0}),
        ({"CPU": 0.5, "num_gpus": 2, "host": 1}, {"CPU": 0.5, "GPU": 2.0, "host": 1.0}),
        ({"cpu": 0, "GPU": 0.25}, {"CPU": 0.0, "GPU": 0.25}),
    ],
)
def test_resources(given: dict[str, float], amounts: dict[str, float]) -> None:
    assert describe(with_resources(train, given)).resources == amounts


@pytest.mark.parametrize(
    "bad",
    [
        {"cpu": -1},
        {"cpu": float("nan")},
        {"gpu": float("inf")},
        {"gpu": 1.5},
        {"cpu": 1e-9},
        {"tpu": 9e-5},
        {"object_store_memory": 1e9},
        {"gpu": True},
        {"gpu": "1"},
        {"cpu": 1, "CPU": 2},
        {3: 1},
        {"": 1},
        [1, 2],
        None,
    ],
)
def test_bad_resources(bad: Any) -> None:
    with pytest.raises(tk.ConfigError, match="with_resources"):
        with_resources(train, bad)


def test_all_bad_resources_are_reported_together() -> None:
    with pytest.raises(tk.ConfigError, match="2 problems"):
        with_resources(train, {"cpu": -1, "gpu": 1.5})


def test_resources_of_a_config_are_checked_when_asked() -> None:
    resources = describe(with_resources(train, lambda config: {"cpu": config["n"]})).resources
    assert callable(resources)
    assert resources({"n": 3}) == {"CPU": 3.0}
    with pytest.raises(tk.ConfigError, match="-3"):
        resources({"n": -3})


# -- pickling ----------------------------------------------------------------------------------------------------------


def test_pickle_leaves_the_parameters_out() -> None:
    pickled = check_picklable(with_parameters(train_with, data=np.zeros(100_000)))
    assert len(pickled) < 10_000
    assert bind(cloudpickle.loads(pickled), {"data": 5})({})[1] == 5


def with_closure() -> Any:
    handle = threading.Lock()

    def closes_over(config: dict[str, Any]) -> Any:
        return handle

    return closes_over


class HoldsLock(Digits):
    shared = threading.Lock()


class MethodUsesLock(Digits):
    def step(self) -> dict[str, Any]:
        return {"x": LOCK}


# By value, as what a script defines is pickled.
HoldsLock.__module__ = MethodUsesLock.__module__ = MethodUsesLock.step.__module__ = "__main__"


@pytest.mark.parametrize(
    ("trainable", "words"),
    [
        (with_closure(), "the variable 'handle' is <unlocked"),
        (with_parameters(train_with, data=LOCK), "the parameter 'data'"),
        (functools.partial(train_with, data=LOCK), "its argument 'data'"),
        (HoldsLock, "its attribute 'shared'"),
        (MethodUsesLock, "the global 'LOCK' of its method step"),
    ],
)
def test_what_cannot_be_pickled_is_named(trainable: Any, words: str) -> None:
    with pytest.raises(tk.TrainableError) as caught:
        check_picklable(trainable)
    assert words in str(caught.value)
    assert "cannot pickle" in str(caught.value)


# -- the class by itself -----------------------------------------------------------------------------------------------


def test_class_can_be_tried_out_by_hand() -> None:
    instance = Digits({"lr": 1})
    assert instance.train() == {"x": 1, "training_iteration": 1}
    assert (instance.iteration, instance.training_iteration, instance.get_config()) == (1, 1, {"lr": 1})
    assert (instance.trial_name, instance.trial_id, instance.logdir) == ("default", "default", None)
    instance.stop()


@pytest.mark.parametrize("call", [lambda t: t.step(), lambda t: t.save_checkpoint(""), lambda t: t.load_checkpoint("")])
def test_what_is_not_overridden_says_so(call: Any) -> None:
    with pytest.raises(NotImplementedError, match="NoStep"):
        call(NoStep())


def test_the_code_of_a_trainable_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs is what was loaded, whatever an editor makes of its file between two sweeps of one process."""
    first = code_digest(Digits)
    assert first
    monkeypatch.setattr("inspect.getsource", lambda part: "class Other: pass")
    assert code_digest(Digits) == first

    class Other(Digits):
        pass

    assert code_digest(Other) not in {first, ""}
