"""``sample_from``: what the function sees, what is recorded of it, and what becomes of its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunekit import space as tk
from tunekit.errors import ConfigError
from tunekit.space import Space


def draw(space: Space) -> tuple[dict[str, Any], dict[str, Any]]:
    return space.draw(0, lambda path: 0.5)


def made(value: Any) -> tuple[dict[str, Any], Any]:
    """Return what is recorded of a function's value, and what the trial gets."""
    space = Space({"x": tk.sample_from(lambda config: value)})
    values, _ = draw(space)
    return values, space.resolve(values)["x"]


def test_a_function_sees_everything_but_later_functions() -> None:
    """Also what is written below it."""
    space = Space(
        {
            "double": tk.sample_from(lambda config: config["lr"] * 2),
            "lr": tk.uniform(0, 1),
            "seen": tk.sample_from(sorted),
            "later": tk.sample_from(lambda config: config["double"] * 2),
        }
    )
    values, shown = draw(space)
    assert values == {"lr": 0.5, "double": 1.0, "seen": ["double", "lr"], "later": 2.0}
    assert shown["seen"] == "['double', 'lr']"
    assert [*space.resolve(values)] == ["double", "lr", "seen", "later"]


def test_keys_are_attributes_and_ray_tunes_spec_works() -> None:
    space = Space(
        {
            "model": {"width": 3, "sizes": [{"n": 2}]},
            "a": tk.sample_from(lambda spec: spec.config.model.width),
            "b": tk.sample_from(lambda config: config.model.sizes[0].n),
        }
    )
    assert draw(space)[0] == {"a": 3, "b": 2}


def test_functions_work_inside_lists_tuples_and_options() -> None:
    space = Space(
        {
            "n": 2,
            "list": [1, tk.sample_from(lambda config: config.n)],
            "tuple": (tk.sample_from(lambda config: config.n + 1), 5),
            "option": tk.choice([{"k": tk.sample_from(lambda config: config.tuple[0])}]),
        }
    )
    values, _ = draw(space)
    assert values == {"option": 0, "list/1": 2, "tuple/0": 3, "option/0/k": 3}
    assert space.resolve(values) == {"n": 2, "list": [1, 2], "tuple": (3, 5), "option": {"k": 3}}


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "x", [1, {"a": [None]}], {"a": 1}])
def test_json_is_recorded_and_the_function_not_called_again(value: Any) -> None:
    recorded, got = made(value)
    assert recorded == {"x": value}
    assert got == value
    calls: list[int] = []

    def make(config: dict[str, Any]) -> Any:
        calls.append(1)
        return value

    space = Space({"x": tk.sample_from(make)})
    space.resolve(draw(space)[0])
    assert len(calls) == 1


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, float("inf"), 2**70, int, [(1,)], 3j])
def test_anything_else_is_made_again(value: Any) -> None:
    recorded, got = made(value)
    assert recorded == {}
    assert got == value
    assert type(got) is type(value)


def test_numpy_scalars_are_recorded_as_numbers() -> None:
    recorded, got = made(np.int64(3))
    assert recorded == {"x": 3}
    assert type(got) is int
    assert type(made(np.float32(0.5))[0]["x"]) is float


def test_parts_of_the_configuration_can_be_passed_on() -> None:
    space = Space({"model": {"sizes": [{"n": 2}]}, "copy": tk.sample_from(lambda config: config.model)})
    values, _ = draw(space)
    assert values == {"copy": {"sizes": [{"n": 2}]}}
    assert type(space.resolve(values)["copy"]["sizes"][0]) is dict


def test_an_error_names_the_path_and_keeps_its_cause() -> None:
    def width(config: dict[str, Any]) -> int:
        return int(config["missing"])

    space = Space({"model": [{"width": tk.sample_from(width)}]})
    with pytest.raises(
        ConfigError, match=r"model/0/width: sample_from\(.*width\) raised KeyError: 'missing'"
    ) as caught:
        draw(space)
    assert isinstance(caught.value.__cause__, KeyError)
    assert "without the values of later sample_from" in caught.value.hint


def test_a_later_function_is_an_attribute_error() -> None:
    space = Space({"a": tk.sample_from(lambda config: config.b), "b": tk.sample_from(lambda config: 1)})
    with pytest.raises(ConfigError, match="the configuration has no 'b' so far"):
        draw(space)


def test_a_function_cannot_spoil_the_configuration() -> None:
    space = Space({"sizes": [1], "x": tk.sample_from(lambda config: config.sizes.append(2))})
    assert space.resolve(draw(space)[0]) == {"sizes": [1], "x": None}
