"""States are compared by what they hold: neither equal states with unequal bytes nor unequal ones are mistaken."""

from __future__ import annotations

import gzip
import json
import math
import pickle
import random
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunekit.validation.content import digest_of, leaves
from tunekit.validation.files import state_of
from tunekit.validation.jobs import State

ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_a_copy_is_the_same(value: Any) -> None:
    assert leaves(value) == leaves(pickle.loads(pickle.dumps(value)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ([1], (1,)),
        ([1, 2], [1]),
        ({"a": None}, {}),
        ({}, []),
        (np.float32(1), np.float64(1)),
        (np.zeros(2), np.zeros((2, 1))),
        (torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)),
        (torch.tensor(1.0), torch.tensor(1.0 + 1e-7)),
        ({1, 2}, {1, 3}),
        (random.Random(1), random.Random(2)),
        (np.random.default_rng(1), np.random.default_rng(2)),
        (list(range(200)), [*range(199), 0]),
        (torch.nn.Linear(2, 2, dtype=torch.float32), torch.nn.Linear(2, 2, dtype=torch.float32)),
    ],
    ids=str,
)
def test_different_values_differ(one: Any, other: Any) -> None:
    assert digest_of(leaves(one)) != digest_of(leaves(other))


def test_order_cycles_and_sharing_do_not_count() -> None:
    shared = [1.5]
    one: dict[str, Any] = {"a": shared, "b": shared, "nan": math.nan, "c": torch.ones(2)}
    other = dict(reversed(list({"a": [1.5], "b": [1.5], "nan": -math.nan, "c": torch.ones(2).clone()}.items())))
    assert leaves(one) == leaves(other)
    one["self"] = one
    assert leaves(one)["self"].shown == "the object that it is in"


def test_what_names_a_moment_or_a_folder_does_not_count() -> None:
    roots = ["/tmp/run_1", "/tmp/run_2"]
    one = {"path": "/tmp/run_1/0/.staging/X_00000.000003.1/model.pt", "time_spent": 1.0, "timestamp": 3, "pid": 7}
    other = {"path": "/tmp/run_2/1/.staging/X_00000.000003.2/model.pt", "time_spent": 2.0, "timestamp": 4, "pid": 8}
    assert digest_of(leaves(one, roots)) == digest_of(leaves(other, roots))
    assert leaves({"time_steps": 1}) != leaves({"time_steps": 2})


def test_keys_of_any_kind() -> None:
    class Key:
        pass

    one, other = {Key(): 1, (1, "a"): 2, int: 3, "x" * 300: 4}, {Key(): 1, (1, "a"): 2, int: 3, "x" * 300: 4}
    assert leaves(one) == leaves(other)
    assert len(leaves({("x" * 300, number): number for number in range(3)})) == 3


def test_ways_are_readable() -> None:
    found = leaves({"model": {"0.weight": torch.ones(2)}, "list": [{"x": 1}], 3: "three"})
    assert {path for path in found if not path.startswith("len(")} == {"model.0.weight", "list[0].x", "[3]"}
    assert found["model.0.weight"].shown == "tensor float32 (2,) [1.0, 1.0]"


# -- files -------------------------------------------------------------------------------------------------------------


def training(steps: int = 2) -> dict[str, Any]:
    """Return the states of a model and its optimiser."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def otherwise(state: dict[str, Any]) -> Any:
    """Return the same state with other bytes: other order, copies in place of shared objects."""
    return OrderedDict(reversed(list(pickle.loads(pickle.dumps(state)).items())))


def write_zip(path: Path, value: Any) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("x", time.gmtime(10**9 + random.randrange(10**8))[:6]), pickle.dumps(value))


FORMATS: dict[str, Callable[[Path, Any], object]] = {
    "state.pt": lambda path, value: torch.save(value, path),
    "old.pt": lambda path, value: torch.save(value, path, _use_new_zipfile_serialization=False),
    "state.pkl": lambda path, value: path.write_bytes(pickle.dumps(value)),
    "state.pkl.gz": lambda path, value: path.write_bytes(gzip.compress(pickle.dumps(value))),
    "state.joblib": lambda path, value: joblib.dump(value, path),
}


@pytest.mark.parametrize("name", FORMATS)
def test_equal_states_in_unequal_files(name: str, tmp_path: Path) -> None:
    """Torch files and pickles of a model and its optimiser."""
    states = []
    state = training()
    for folder, value in [("a", dict(state)), ("b", dict(otherwise(state))), ("c", training(steps=3))]:
        (tmp_path / folder).mkdir()
        FORMATS[name](tmp_path / folder / name, value)
        states.append(state_of(tmp_path / folder, []))
    assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "b" / name).read_bytes()
    assert states[0] == states[1]
    assert f"{name}:optimizer.state[0].exp_avg" in different(states[0], states[2])


def different(one: State, other: State) -> set[str]:
    return {path for path in {**one, **other} if one.get(path) != other.get(path)}


@pytest.mark.parametrize("name", ["arrays.npz", "archive.zip", "state.json", "notes.txt", "blob.bin"])
def test_other_files(name: str, tmp_path: Path) -> None:
    def write(value: int) -> State:
        path = tmp_path / name
        match name:
            case "arrays.npz":
                np.savez(path, x=np.array([value]))
            case "archive.zip":
                write_zip(path, value)
            case "state.json":
                path.write_text(json.dumps({"x": value, "time_of_day": random.random()}))
            case "notes.txt":
                path.write_text(f"x = {value}")
            case _:
                path.write_bytes(bytes([value, 0, 255]))
        return state_of(tmp_path, [])

    first = write(1)
    assert write(1) == first
    assert write(2) != first
    assert all(leaf.is_opaque for leaf in first.values()) == (name == "blob.bin")
