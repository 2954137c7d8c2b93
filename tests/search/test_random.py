"""Random and grid search: a trial's configuration is a function of the seed and of its index."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.events import Draw
from tunekit.errors import ConfigError, ConfigTypeError
from tunekit.search import RandomSearch, Searcher
from tunekit.space import Space, choice, grid_search, randint, sample_from, uniform
from tunekit.testing.searcher_contract import SearcherContract
from tunekit.types import Mode

GRID = {"a": grid_search([1, 2]), "lr": uniform(0, 1), "b": grid_search(["x", "y", "z"])}


class TestRandomSearch(SearcherContract):
    def searcher(self) -> Searcher:
        return RandomSearch()


class TestRandomSearchWithPoints(SearcherContract):
    def searcher(self) -> Searcher:
        return RandomSearch(points_to_evaluate=[{"lr": 0.01}, {"layers/0/width": 8}])


class TestGridSearch(SearcherContract):
    def searcher(self) -> Searcher:
        return RandomSearch()

    def space(self) -> Space:
        return Space(GRID)


def suggest(space: Space, count: int, *, first: int = 0, seed: int = 7, **arguments: Any) -> list[dict[str, Any]]:
    state = RandomSearch(**arguments).begin(space, metric=None, mode=Mode.MIN, seed=seed)
    draws, exhausted = state.ask(first, count)
    assert not exhausted
    return [space.resolve(draw.values) for draw in draws]


def test_every_sample_runs_through_the_grid_with_its_own_random_values() -> None:
    configs = suggest(Space(GRID), 12)
    cells = [*itertools.product([1, 2], ["x", "y", "z"])]
    assert [(config["a"], config["b"]) for config in configs] == cells * 2
    assert len({config["lr"] for config in configs[:6]}) == len({config["lr"] for config in configs[6:]}) == 1
    assert configs[0]["lr"] != configs[6]["lr"]


@given(st.integers(0, 10**9), st.integers(0, 2**63 - 1), st.integers(1, 20))
def test_a_trial_depends_on_nothing_but_seed_and_index(trial: int, seed: int, count: int) -> None:
    space = Space(GRID)
    alone = suggest(space, 1, first=trial, seed=seed)
    first = max(0, trial - count)
    assert suggest(space, count + 1, first=first, seed=seed)[trial - first] == alone[0]


def test_known_draws() -> None:
    """Pinned: another number here breaks the promise that an old experiment goes on as it began."""
    state = RandomSearch().begin(Space({"lr": uniform(0, 1), "n": randint(0, 100)}), metric=None, mode=Mode.MIN, seed=7)
    assert state.ask(3, 1)[0] == [Draw(values=PINNED, shown=PINNED)]


PINNED = {"lr": 0.7435449826533383, "n": 5}


def test_a_new_parameter_leaves_the_others_as_they_were() -> None:
    before = suggest(Space({"lr": uniform(0, 1)}), 5)
    after = suggest(Space({"new": uniform(0, 1), "lr": uniform(0, 1)}), 5)
    assert [config["lr"] for config in after] == [config["lr"] for config in before]
    assert all(config["new"] != config["lr"] for config in after)


def test_points_come_first_and_change_no_other_trial() -> None:
    space = Space({"lr": uniform(0, 1), "layers": [{"width": randint(1, 99)}], "act": choice([int, str])})
    plain = suggest(space, 4)
    configs = suggest(space, 4, points_to_evaluate=[{"lr": 0.5, "act": str}, {"layers/0/width": 64}])
    assert configs[0] == {**plain[0], "lr": 0.5, "act": str}
    assert configs[1] == {**plain[1], "layers": [{"width": 64}]}
    assert configs[2:] == plain[2:]


def test_a_point_is_tried_in_every_cell() -> None:
    configs = suggest(Space(GRID), 7, points_to_evaluate=[{"lr": 0.5}])
    assert [config["lr"] == 0.5 for config in configs] == [True] * 6 + [False]


@pytest.mark.parametrize(
    ("param_space", "num_samples", "num_trials"),
    [
        ({}, 1, 1),
        ({}, 5, 5),
        ({}, -1, 1),
        (GRID, 1, 6),
        (GRID, 3, 18),
        (GRID, -1, None),
        ({"a": grid_search([1, 2, 3])}, -1, 3),
        ({"a": grid_search([1, 2, 3])}, 2, 6),
        ({"a": uniform(0, 1)}, -1, None),
        ({"a": sample_from(lambda config: 1)}, -1, None),
    ],
)
def test_how_many_trials_there_are(param_space: dict[str, Any], num_samples: int, num_trials: int | None) -> None:
    assert RandomSearch().num_trials(Space(param_space), num_samples) == num_trials


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ({"lr": 0.5}, r"points_to_evaluate=\[\{...\}\]"),
        ("lr", "points_to_evaluate"),
        (3, "points_to_evaluate"),
        ([{"lr": 0.5}, 3], r"points_to_evaluate\[1\]"),
    ],
)
def test_points_are_a_list_of_dicts(points: Any, says: str) -> None:
    with pytest.raises(ConfigTypeError, match=says):
        RandomSearch(points_to_evaluate=points)


def test_points_outside_the_space_are_refused_before_the_first_trial() -> None:
    search = RandomSearch(points_to_evaluate=[{"lr": 0.5}, {"lr": 2.0}, {"a": 1}])
    with pytest.raises(
        ConfigError, match=r"(?s)points_to_evaluate\[1\].*lr: got 2.0.*points_to_evaluate\[2\].*a: is a grid"
    ):
        search.begin(Space(GRID), metric=None, mode=Mode.MIN, seed=7)


def test_identity_and_repr_say_the_points() -> None:
    search = RandomSearch(points_to_evaluate=[{"lr": 0.5, "act": int}])
    assert search.identity() == {"class": "RandomSearch", "points_to_evaluate": [{"lr": 0.5, "act": {"name": "int"}}]}
    assert "0.5" in repr(search)
    assert repr(RandomSearch()) == "RandomSearch()"


def test_points_are_copied() -> None:
    point = {"lr": 0.5}
    search = RandomSearch(points_to_evaluate=[point])
    point["lr"] = 0.9
    assert search.points_to_evaluate == ({"lr": 0.5},)
