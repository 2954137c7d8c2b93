"""The promises that every searcher keeps, as tests. Subclass ``SearcherContract`` and say how to make yours.

::

    class TestMine(SearcherContract):
        def searcher(self) -> Searcher:
            return Mine()
"""

# ruff: noqa: S101 - a test suite asserts

from __future__ import annotations

from typing import Any

import msgspec

from tunekit.core import rng
from tunekit.core.events import Draw
from tunekit.search.base import Searcher, SearcherState
from tunekit.space import Space, choice, lograndint, loguniform, randint, sample_from, uniform
from tunekit.types import Metrics, Mode, TrialId


class _Tanh:
    """Stands for a class in a search space, which is no JSON."""


class _Gelu:
    """Another one."""


def example_space() -> Space:
    """Return a space with every kind of place that a searcher without a grid must be able to fill."""
    return Space(
        {
            "epochs": 3,
            "lr": loguniform(1e-4, 1e-1),
            "layers": [{"width": lograndint(4, 65)}, {"width": randint(1, 9)}],
            "activation": choice([_Tanh, _Gelu]),
            "optimizer": choice([{"name": "sgd", "momentum": uniform(0, 1)}, {"name": "adam"}]),
            "steps": sample_from(lambda config: config["layers"][0]["width"] * 10),
        }
    )


class SearcherContract:
    """Test methods that hold for every searcher."""

    num_trials = 12

    def searcher(self) -> Searcher:
        """Return a fresh searcher, the same each time."""
        raise NotImplementedError

    def space(self) -> Space:
        """Return a space that the searcher can search."""
        return example_space()

    def metrics(self, trial: TrialId, draw: Draw) -> Metrics | None:
        """Return the row that a trial ends with in these tests, by default one that depends on its configuration."""
        return {"loss": rng.uniform(0, "loss", trial, repr(sorted(draw.values.items())))}

    def run(self, space: Space, seed: int, batches: list[int]) -> list[Draw]:
        """Return what is suggested when ``batches`` are asked for, each being told about before the next."""
        state = self.begin(space, seed)
        draws: list[Draw] = []
        for count in batches:
            asked, _ = state.ask(len(draws), count)
            for trial, draw in enumerate(asked, start=len(draws)):
                state.tell(trial, draw, self.metrics(trial, draw), failed=False)
            draws += asked
        return draws

    def begin(self, space: Space, seed: int) -> SearcherState:
        """Return fresh state."""
        return self.searcher().begin(space, metric="loss", mode=Mode.MIN, seed=seed)

    def test_it_is_a_searcher(self) -> None:
        """It has every method of the protocol, and says whether it learns."""
        searcher = self.searcher()
        assert isinstance(searcher, Searcher)
        assert isinstance(searcher.learns, bool)

    def test_the_identity_is_json_and_the_same_each_time(self) -> None:
        """It can be compared with the one that an earlier run wrote down."""
        identity = self.searcher().identity()
        assert identity == self.searcher().identity()
        assert msgspec.json.decode(msgspec.json.encode(identity)) == identity
        assert identity["class"] == type(self.searcher()).__name__

    def test_it_suggests_at_most_what_is_asked_for(self) -> None:
        """The core makes a trial of every draw."""
        for count in (1, 3):
            draws, exhausted = self.begin(self.space(), 1).ask(0, count)
            assert 0 < len(draws) <= count
            assert isinstance(exhausted, bool)

    def test_the_same_seed_suggests_the_same(self) -> None:
        """A killed experiment that is begun again gets the same trials."""
        batches = [1] * self.num_trials
        assert self.run(self.space(), 7, batches) == self.run(self.space(), 7, batches)

    def test_another_seed_suggests_something_else(self) -> None:
        """The seed is heeded."""
        batches = [1] * self.num_trials
        assert self.run(self.space(), 7, batches) != self.run(self.space(), 8, batches)

    def test_draws_survive_json(self) -> None:
        """What is journalled is read back as it was, the types included."""
        for draw in self.run(self.space(), 7, [1] * self.num_trials):
            again = msgspec.json.decode(msgspec.json.encode(draw), type=Draw)
            assert again == draw
            assert [*map(type, again.values.values())] == [*map(type, draw.values.values())]

    def test_draws_make_configurations(self) -> None:
        """The space understands every draw, and what is shown is a JSON scalar at the same path."""
        space = self.space()
        for draw in self.run(space, 7, [1] * self.num_trials):
            config = space.resolve(draw.values)
            assert config == space.resolve(draw.values)
            assert draw.values.keys() <= draw.shown.keys()
            assert all(value is None or isinstance(value, bool | int | float | str) for value in draw.shown.values())

    def test_failed_trials_and_missing_metrics_are_taken(self) -> None:
        """A trial may end without any result."""
        state = self.begin(self.space(), 7)
        bad: list[Any] = [None, {}, {"loss": float("nan")}, {"loss": "high"}]
        for trial, metrics in enumerate(bad):
            draws, _ = state.ask(trial, 1)
            state.tell(trial, draws[0], metrics, failed=metrics is None)
        assert state.ask(len(bad), 1)[0]

    def test_without_learning_neither_order_nor_count_matters(self) -> None:
        """Trial k has the same configuration however and whenever it is asked for."""
        if self.searcher().learns:
            return
        space = self.space()
        expected = self.run(space, 7, [1] * self.num_trials)
        assert self.run(space, 7, [5, self.num_trials - 5]) == expected
        state = self.begin(space, 7)
        backwards = [state.ask(trial, 1)[0][0] for trial in reversed(range(self.num_trials))]
        assert backwards[::-1] == expected
