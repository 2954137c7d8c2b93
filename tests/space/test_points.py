"""Points of the user: parts of configurations, as what would be recorded of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tunekit import space as tk
from tunekit.core import rng
from tunekit.errors import ConfigError, ConfigTypeError
from tunekit.space import Space


class Tanh:
    pass


class Gelu:
    pass


class Shape(NamedTuple):
    rows: Any
    cols: Any


def draw(space: Space, sample: int = 0, cell: int = 0) -> dict[str, Any]:
    return space.draw(cell, lambda path: rng.uniform(7, sample, path))[0]


def config(space: Space, sample: int = 0, cell: int = 0) -> dict[str, Any]:
    return space.resolve(draw(space, sample, cell))


OPTIMISERS = {
    "optimizer": tk.choice(
        [{"name": "sgd", "momentum": tk.uniform(0, 1)}, {"name": "adam", "betas": [tk.uniform(0, 1), 0.999]}, None]
    )
}
POINTS = Space(
    {
        **OPTIMISERS,
        "lr": tk.loguniform(1e-4, 1e-1),
        "act": tk.choice([Tanh, Gelu]),
        "flag": tk.choice([0, False, True, 1]),
        "layers": [{"width": tk.randint(1, 9)}, {"width": tk.randint(1, 9)}],
        "depth": 3,
        "data": tk.choice([{"split": [1]}, {"split": ({"k": 3, "seed": 0},), "fold": 2}]),
        "made": tk.sample_from(lambda config: 1),
        "grid": tk.grid_search([1, 2]),
        "a/b": tk.uniform(0, 1),
    }
)


@pytest.mark.parametrize(
    ("point", "encoded"),
    [
        ({}, {}),
        ({"lr": 0.01, "act": Gelu}, {"lr": 0.01, "act": 1}),
        ({"optimizer": {"name": "sgd"}}, {"optimizer": 0}),
        ({"optimizer": {"name": "sgd", "momentum": 0.5}}, {"optimizer": 0, "optimizer/0/momentum": 0.5}),
        ({"optimizer/0/momentum": 0.5}, {"optimizer": 0, "optimizer/0/momentum": 0.5}),
        ({"optimizer": None}, {"optimizer": 2}),
        ({"layers": [{"width": 3}, {}]}, {"layers/0/width": 3}),
        ({"layers/1/width": 8}, {"layers/1/width": 8}),
        ({"flag": True}, {"flag": 2}),
        ({"flag": 1}, {"flag": 3}),
        ({"depth": 3}, {}),
        ({"data": {"split": [{"k": 3}]}}, {"data": 1}),
        ({"made": [1, 2]}, {"made": [1, 2]}),
        ({"a/b": 0.5}, {"a~1b": 0.5}),
        ({"a~1b": 0.5}, {"a~1b": 0.5}),
    ],
)
def test_points_are_encoded_as_draws(point: dict[str, Any], encoded: dict[str, Any]) -> None:
    assert POINTS.encode(point) == encoded
    values, _ = POINTS.draw(0, lambda path: rng.uniform(3, path), fixed=encoded)
    assert encoded.items() <= values.items()
    assert POINTS.resolve(values)


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ({"lr": 1.0}, "lr: got 1.0, but must be from 0.0001 to 0.1"),
        ({"lr": "0.01"}, "lr: got '0.01', but must be a finite number"),
        ({"act": "Gelu"}, "act: got 'Gelu', but must be one of Tanh, Gelu"),
        ({"depth": 4}, "depth: is fixed to 3"),
        ({"data": {"split": [{"k": 4}]}}, "data: got .* but must be one of"),
        ({"data": {"split": [1, 2]}}, "data: got .* but must be one of"),
        ({"grid": 1}, "grid: is a grid"),
        ({"lrr": 0.01}, "(?s)lrr: is no parameter.*did you mean 'lr'"),
        ({"layers": [{"width": 3}]}, "layers: must be a sequence of 2"),
        ({"layers": [{"widht": 3}, {}]}, "layers: 0 has no key 'widht'"),
        ({"layers": [{"width": 3.5}, {}]}, "'width' got 3.5, but must be an integer"),
        ({"optimizer": {"name": "rms"}}, "optimizer: got .* but must be one of"),
        ({"optimizer": {"name": "adam"}, "optimizer/0/momentum": 0.5}, "contradicts what the point says of optimizer"),
        ({"flag": 2}, "flag: got 2, but must be one of 0, False, True, 1"),
    ],
)
def test_points_outside_the_space_are_refused(point: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        POINTS.encode(point)


def test_all_problems_of_a_point_come_together() -> None:
    with pytest.raises(ConfigError, match="has 3 problems"):
        POINTS.encode({"lr": 1.0, "act": 3, "depth": 4})
    with pytest.raises(ConfigTypeError, match="a dict of parameters"):
        POINTS.encode([1])  # type: ignore[arg-type]  # on purpose
