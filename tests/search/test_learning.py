"""The contract holds for a searcher that learns, and catches the ones that break it."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from tunekit.config import TuneConfig
from tunekit.core import rng
from tunekit.core.events import Draw
from tunekit.errors import ConfigError
from tunekit.search import Searcher
from tunekit.space import Drawn, Space
from tunekit.testing.searcher_contract import SearcherContract
from tunekit.types import Json, Metrics, Mode, TrialId


class Climber:
    """Keeps most of the best configuration so far and draws the rest anew."""

    learns = True

    def num_trials(self, space: Space, num_samples: int) -> int | None:
        assert space.grid_size == 1
        return None if num_samples == -1 else num_samples

    def begin(self, space: Space, *, metric: str | None, mode: Mode, seed: int) -> ClimberState:
        assert (metric, mode) == ("loss", Mode.MIN)
        return ClimberState(space, seed)

    def identity(self) -> dict[str, Json]:
        return {"class": type(self).__name__}


class ClimberState:
    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed
        self.best: dict[str, Json] = {}
        self.loss = float("inf")

    def ask(self, first: TrialId, count: int) -> tuple[list[Draw], bool]:
        return [self.draw(trial) for trial in range(first, first + count)], False

    def draw(self, trial: TrialId) -> Draw:
        def pick(path: str, domain: Drawn) -> Json:
            if path in self.best and rng.uniform(self.seed, "keep", trial, path) < 0.8:
                return self.best[path]
            return domain.draw(self.chance(trial, path))

        values, shown = self.space.fill(pick)
        return Draw(values=values, shown=shown)

    def chance(self, trial: TrialId, path: str) -> float:
        return rng.uniform(self.seed, "new", trial, path)

    def tell(self, trial: TrialId, draw: Draw, metrics: Metrics | None, failed: bool) -> None:  # noqa: FBT001 - a seam
        loss = (metrics or {}).get("loss")
        if isinstance(loss, float) and loss < self.loss:
            self.best, self.loss = draw.values, loss


class TestClimber(SearcherContract):
    def searcher(self) -> Searcher:
        return Climber()

    def test_it_does_learn(self) -> None:
        told = self.run(self.space(), 7, [1] * self.num_trials)
        state = self.begin(self.space(), 7)
        untold = [state.ask(trial, 1)[0][0] for trial in range(self.num_trials)]
        assert told[0] == untold[0]
        assert told != untold


class Forgetful(Climber):
    """Draws from a generator outside, so that no run can be repeated."""

    def begin(self, space: Space, *, metric: str | None, mode: Mode, seed: int) -> ClimberState:
        state = super().begin(space, metric=metric, mode=mode, seed=seed)
        state.chance = lambda trial, path: random.random()  # type: ignore[method-assign]  # the fault
        return state


class Deaf(Climber):
    """Ignores the seed."""

    def begin(self, space: Space, *, metric: str | None, mode: Mode, seed: int) -> ClimberState:
        return super().begin(space, metric=metric, mode=mode, seed=0)


class Counting(Climber):
    """Says that it does not learn, but depends on the order of asking."""

    learns = False

    def begin(self, space: Space, *, metric: str | None, mode: Mode, seed: int) -> ClimberState:
        state = super().begin(space, metric=metric, mode=mode, seed=seed)
        calls = itertools.count()
        state.chance = lambda trial, path: rng.uniform(seed, next(calls))  # type: ignore[method-assign]  # the fault
        state.tell = lambda trial, draw, metrics, failed: None  # type: ignore[method-assign]  # learns nothing
        return state


class Generous(Climber):
    """Suggests more than it was asked for."""

    def begin(self, space: Space, *, metric: str | None, mode: Mode, seed: int) -> ClimberState:
        state = super().begin(space, metric=metric, mode=mode, seed=seed)
        state.ask = lambda first, count: (  # type: ignore[method-assign]  # the fault
            [state.draw(trial) for trial in range(first, first + count + 1)],
            False,
        )
        return state


class Foreign(Climber):
    """Draws what the space does not know."""

    def begin(self, space: Space, *, metric: str | None, mode: Mode, seed: int) -> ClimberState:
        state = super().begin(space, metric=metric, mode=mode, seed=seed)
        state.draw = lambda trial: Draw(values={"lr": 0.1})  # type: ignore[method-assign]  # the fault
        return state


@pytest.mark.parametrize(
    ("faulty", "test"),
    [
        (Forgetful, "test_the_same_seed_suggests_the_same"),
        (Deaf, "test_another_seed_suggests_something_else"),
        (Counting, "test_without_learning_neither_order_nor_count_matters"),
        (Generous, "test_it_suggests_at_most_what_is_asked_for"),
        (Foreign, "test_draws_make_configurations"),
    ],
)
def test_the_contract_catches_faulty_searchers(faulty: type[Climber], test: str) -> None:
    suite: Any = SearcherContract()
    suite.searcher = faulty
    with pytest.raises((AssertionError, ConfigError)):
        getattr(suite, test)()


def test_a_searcher_that_learns_needs_a_metric() -> None:
    with pytest.raises(ConfigError, match="metric: is missing, but search_alg=Climber compares trials by it"):
        TuneConfig(search_alg=Climber())
    assert TuneConfig(search_alg=Climber(), metric="loss", mode="min").search_alg.learns
