"""A space draws, records and makes configurations again; what it cannot understand, it refuses by path."""

from __future__ import annotations

import copy
import itertools
from collections import OrderedDict, UserDict, defaultdict
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunekit import space as tk
from tunekit.core import rng
from tunekit.errors import ConfigError, ConfigTypeError
from tunekit.space import Space
from tunekit.space.paths import join


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


# -- drawing and making ------------------------------------------------------------------------------------------------


def test_every_domain_has_a_path_and_fixed_values_are_kept() -> None:
    lock = object()
    space = Space(
        {
            "lr": tk.uniform(0, 1),
            "layers": [{"width": tk.randint(1, 9)}, {"width": 64, "extra": (tk.choice("ab".__iter__()), None)}],
            "loss_weights": {0: 1.0, 1: 2.0},
            "lock": lock,
            "empty": {},
        }
    )
    assert [*draw(space)] == ["lr", "layers/0/width", "layers/1/extra/0"]
    made = config(space)
    assert [*made] == ["lr", "layers", "loss_weights", "lock", "empty"]
    assert made["layers"][1]["width"] == 64
    assert made["layers"][1]["extra"][0] in "ab"
    assert type(made["layers"][1]["extra"]) is tuple
    assert (made["loss_weights"], made["empty"]) == ({0: 1.0, 1: 2.0}, {})
    assert made["lock"] is lock


def test_classes_are_recorded_by_index_and_shown_by_name() -> None:
    space = Space({"activation": tk.choice([Tanh, Gelu])})
    values, shown = space.draw(0, lambda path: 0.9)
    assert (values, shown) == ({"activation": 1}, {"activation": "Gelu"})
    assert space.resolve({"activation": 0}) == {"activation": Tanh}


keys = st.text(min_size=1, max_size=4) | st.sampled_from(["a/b", "a~b", "~1", "/", "0"])
leaves = st.sampled_from([tk.uniform(0, 1), tk.randint(0, 9), tk.choice([Tanh, (1, 2)]), 3, "x", None, 2.5])
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
spaces = st.dictionaries(keys, trees, max_size=4).map(Space)


@given(spaces, st.integers(0, 1000))
def test_resolving_a_draw_is_stable_through_json(space: Space, sample: int) -> None:
    values, shown = space.draw(0, lambda path: rng.uniform(sample, path))
    again = msgspec.json.decode(msgspec.json.encode(values))
    assert space.resolve(again) == space.resolve(values)
    assert values.keys() == shown.keys() == space.domains.keys()
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


@given(spaces)
def test_no_two_places_share_a_path(space: Space) -> None:
    """Keys with slashes and tildes are escaped, so the draws of different places stay apart."""
    num_leaves = sum(1 for _ in space._root.leaves())
    assert len(space.domains) == num_leaves


@given(st.lists(keys, min_size=1), st.lists(keys, min_size=1))
@example(["a/b"], ["a", "b"])
@example(["a/b"], ["a~1b"])
@example(["a~1b"], ["a~01b"])
def test_paths_are_injective(one: list[str], other: list[str]) -> None:
    def path(parts: list[str]) -> str:
        joined = ""
        for part in parts:
            joined = join(joined, part)
        return joined

    assert (path(one) == path(other)) is (one == other)


def mutate(value: Any) -> None:
    """Spoil everything that can be changed in place."""
    if isinstance(value, dict):
        for item in value.values():
            mutate(item)
        value["spoilt"] = True
    elif isinstance(value, list | tuple):
        for item in value:
            mutate(item)
        if isinstance(value, list):
            value.append("spoilt")


def test_what_one_trial_changes_no_other_sees() -> None:
    param_space = {
        "fixed": {"sizes": [1, 2], "pair": ([3], {4})},
        "model": tk.choice([{"sizes": [1, 2], "lr": tk.uniform(0, 1)}]),
        "grid": tk.grid_search([[1, 2], [3]]),
        "made": tk.sample_from(lambda config: [5]),
        "made_of_it": tk.sample_from(lambda config: config["made"].append(6) or [7]),
    }
    space = Space(param_space)
    values = draw(space)
    before = space.resolve(values)
    as_it_was = copy.deepcopy(before)
    spoilt = space.resolve(values)
    mutate(spoilt)
    spoilt["fixed"]["pair"][1].add("spoilt")
    assert spoilt != before
    assert space.resolve(values) == before == as_it_was
    assert before["made"] == [5]


def test_container_classes_are_kept() -> None:
    ordered = OrderedDict(b=tk.uniform(0, 1), a=2)
    space = Space({"ordered": ordered, "default": defaultdict(list, a=[1]), "shape": Shape(tk.randint(1, 5), 2)})
    made = config(space)
    assert type(made["ordered"]) is OrderedDict
    assert [*made["ordered"]] == ["b", "a"]
    assert made["default"].default_factory is list
    assert type(made["shape"]) is Shape
    assert made["shape"].cols == 2


class Size(tuple[int, ...]):
    """As ``torch.Size``: made of one sequence, not of fields."""

    __slots__ = ()


def test_odd_tuples_are_kept_whole_but_hold_no_domains() -> None:
    size = Size([2, 3])
    assert config(Space({"size": size, "deep": [{"size": size}]})) == {"size": size, "deep": [{"size": size}]}
    assert type(config(Space({"size": size}))["size"]) is Size
    odd: Any = Size([2, tk.uniform(0, 1)])  # type: ignore[list-item]  # on purpose
    assert "since there are domains in it" in problems({"size": odd})[0]


def test_the_users_own_objects_are_left_alone() -> None:
    param_space = {"layers": [tk.uniform(0, 1)], "ordered": OrderedDict(a=[1])}
    mutate(config(Space(param_space)))
    assert param_space == {"layers": [tk.uniform(0, 1)], "ordered": OrderedDict(a=[1])}


# -- conditional spaces ------------------------------------------------------------------------------------------------

OPTIMISERS = {
    "optimizer": tk.choice(
        [{"name": "sgd", "momentum": tk.uniform(0, 1)}, {"name": "adam", "betas": [tk.uniform(0, 1), 0.999]}, None]
    )
}


def test_only_the_chosen_option_is_drawn() -> None:
    space = Space(OPTIMISERS)
    drawn = {values["optimizer"]: values for values in (draw(space, sample) for sample in range(50))}
    assert [*drawn[0]] == ["optimizer", "optimizer/0/momentum"]
    assert [*drawn[1]] == ["optimizer", "optimizer/1/betas/0"]
    assert [*drawn[2]] == ["optimizer"]
    assert space.resolve(drawn[2]) == {"optimizer": None}
    assert space.resolve(drawn[1])["optimizer"]["betas"][1] == 0.999


# -- grids -------------------------------------------------------------------------------------------------------------


def test_the_last_grid_varies_fastest() -> None:
    space = Space({"a": tk.grid_search([1, 2]), "b": {"c": tk.grid_search("xyz".__iter__())}, "lr": tk.uniform(0, 1)})
    assert space.grid_size == 6
    cells = [config(space, cell=cell) for cell in range(6)]
    assert [(c["a"], c["b"]["c"]) for c in cells] == [*itertools.product([1, 2], "xyz")]
    assert len({c["lr"] for c in cells}) == 1


def test_domains_inside_a_grid_are_drawn_in_their_cells() -> None:
    space = Space({"g": tk.grid_search([1, {"x": tk.uniform(0, 1)}])})
    assert [*draw(space, cell=0)] == ["g"]
    assert [*draw(space, cell=1)] == ["g", "g/1/x"]
    point = space.encode({"g/1/x": 0.5})
    drawn = [space.draw(cell, lambda path: 0.9, fixed=point)[0] for cell in (0, 1)]
    assert drawn == [{"g": 0}, {"g": 1, "g/1/x": 0.5}]


def test_ray_tunes_literal_grid_is_understood() -> None:
    assert Space({"a": {"grid_search": [1, 2]}}).domains == {"a": tk.grid_search([1, 2])}


def test_size_and_chance_of_a_space() -> None:
    def traits(param_space: dict[str, Any]) -> tuple[int, bool, int | None]:
        space = Space(param_space)
        return space.grid_size, space.has_random, space.num_configurations

    assert traits({}) == traits({"a": 1}) == (1, False, 1)
    assert traits({"a": tk.grid_search([1, 2, 3])}) == (3, False, 3)
    assert traits({"a": tk.grid_search([1, 2]), "b": tk.uniform(0, 1)}) == (2, True, None)
    assert traits({"a": tk.grid_search([1, tk.uniform(0, 1)])}) == (2, True, None)
    assert traits({"a": tk.sample_from(lambda config: 1)}) == (1, True, None)


# -- refusals ----------------------------------------------------------------------------------------------------------


def problems(param_space: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Space(param_space)
    return list(caught.value.problems)  # type: ignore[attr-defined]  # a structured field


def test_every_bad_place_is_named_at_once() -> None:
    circle: list[Any] = [1]
    circle.append({"again": circle})
    found = problems(
        {
            "circle": circle,
            "word": tk.uniform,
            3: 4,
            "": 5,
            "numbers": {1: tk.randint(0, 3)},
            "nested": tk.choice([{"x": tk.grid_search([1, 2])}]),
            "set": {tk.uniform(0, 1)},
        }
    )
    assert [problem.partition(":")[0] for problem in found] == [
        "circle/1/again",
        "word",
        "numbers",
        "nested/0/x",
        "set",
        "param_space",
        "param_space",
    ]


@pytest.mark.parametrize("param_space", [tk.uniform(0, 1), [tk.uniform(0, 1)], "lr", 3])
def test_a_space_is_a_dict(param_space: Any) -> None:
    with pytest.raises(ConfigTypeError, match=r"(?s)param_space: got .* but must be a dict.*name the parameter"):
        Space(param_space)


def test_a_circle_through_options_is_found() -> None:
    options: list[Any] = [1]
    inner = tk.choice([options])
    options.append(inner)
    assert "contains itself" in problems({"a": inner})[0]


def test_bottomless_spaces_are_refused() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = {"a": deep}
    assert "nested deeper than 100" in problems(deep)[0]


def test_the_same_object_in_two_places_is_no_circle() -> None:
    shared = [tk.uniform(0, 1)]
    assert [*Space({"a": shared, "b": shared}).domains] == ["a/0", "b/0"]


def test_foreign_domains_are_recognised() -> None:
    foreign = type("Float", (), {"__module__": "ray.tune.search.sample"})()
    assert "must be a domain of tunekit" in problems({"lr": foreign})[0]


# -- recorded draws that do not fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "act: is not recorded, but the space has choice"),
        ({"act": 5, "lr": 0.5}, "act: got the index 5, but there are 2 options"),
        ({"act": 0, "lr": "high"}, "lr: got 'high', but must be a finite number"),
        ({"act": 0, "lr": 0.5, "old": 3}, "old: is recorded as 3, but is no parameter"),
        ({"act": 0, "lr": 0.5, "act/1/x": 3}, "act/1/x: is recorded as 3, but is no parameter of this configuration"),
    ],
)
def test_a_draw_of_another_space_is_refused_by_path(values: dict[str, Any], says: str) -> None:
    space = Space({"act": tk.choice([Tanh, {"x": tk.uniform(0, 1)}]), "lr": tk.uniform(0, 1)})
    with pytest.raises(ConfigError, match=says):
        space.resolve(values)


# -- signatures --------------------------------------------------------------------------------------------------------


def test_the_signature_tells_spaces_apart_by_path() -> None:
    def signature(**changed: Any) -> Any:
        base = {"lr": tk.uniform(0, 1), "act": tk.choice([Tanh, Gelu]), "epochs": 3, "f": tk.sample_from(len)}
        return Space({**base, **changed}).signature()

    assert signature() == signature() == msgspec.json.decode(msgspec.json.encode(signature()))
    changes: list[dict[str, Any]] = [
        {"lr": tk.uniform(0, 2)},
        {"lr": tk.loguniform(0.1, 1)},
        {"act": tk.choice([Gelu, Tanh])},
        {"act": tk.choice([Tanh, {"x": tk.uniform(0, 1)}])},
        {"act": tk.grid_search([Tanh, Gelu])},
        {"epochs": 4},
        {"f": tk.sample_from(sum)},
        {"new": 1},
    ]
    for change in changes:
        [path] = {path for path in signature(**change) if signature(**change)[path] != signature().get(path)}
        assert path in change


def test_the_order_of_grids_is_part_of_the_signature() -> None:
    """Swapped grids number the cells otherwise."""
    one, two = tk.grid_search([1, 2]), tk.grid_search([1, 2])
    assert Space({"a": one, "b": two}).signature() != Space({"b": two, "a": one}).signature()


def test_a_key_that_is_no_name_is_called_a_key() -> None:
    with pytest.raises(
        ConfigError, match=r"param_space: got the key 1 \(int\), but each key must be a non-empty string"
    ):
        Space({1: 2, "x": 3})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"layer: got the key 1 \(int\), but each key"):
        Space({"layer": {1: tk.uniform(0, 1)}})


def test_any_mapping_is_a_space() -> None:
    space = {"x": tk.uniform(0, 1), "y": 2}
    for mapping in (MappingProxyType(space), UserDict(space)):
        assert Space(mapping).signature() == Space(space).signature()
        assert Space(mapping).resolve({"x": 0.5}) == {"x": 0.5, "y": 2}
