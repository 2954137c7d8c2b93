"""One instance of a class for several trials, under ``reuse_actors``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunekit.runtime.attempt import class_trial
from tunekit.testing.recording import RecordedTrial
from tunekit.trainable import OwnCopies, Trainable, with_parameters


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    class_trial.release()


def trial(
    folder: Path, cls: Any, config: dict[str, Any], *, stop: int = 9, reuse_actors: bool = False
) -> RecordedTrial:
    return RecordedTrial(folder, cls, config, stop={"training_iteration": stop}, reuse_actors=reuse_actors)


class Reused(Trainable):
    made = 0
    cleaned = 0
    can_reset = True

    def step(self) -> dict[str, Any]:
        self.value += 1
        return {"value": self.value}

    def setup(self, config: dict[str, Any]) -> None:
        type(self).made += 1
        self.value = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.value = new_config["start"]
        return self.can_reset

    def cleanup(self) -> None:
        type(self).cleaned += 1


@pytest.mark.parametrize("is_bound", [False, True])
@pytest.mark.parametrize(("can_reset", "made", "cleaned"), [(True, 1, 0), (False, 2, 1)])
def test_reuse_of_the_instance(tmp_path: Path, can_reset: Any, made: int, cleaned: int, is_bound: Any) -> None:
    cls = type("Again", (Reused,), {"can_reset": can_reset, "made": 0, "cleaned": 0})
    trainable = with_parameters(cls) if is_bound else cls
    first = trial(tmp_path, trainable, {"start": 0}, stop=2, reuse_actors=True)
    first.run()
    second = trial(tmp_path, trainable, {"start": 5}, stop=2, reuse_actors=True).run()
    assert (cls.made, cls.cleaned) == (made, cleaned)  # type: ignore[attr-defined]
    assert [row.metrics["value"] for row in second.rows] == ([6, 7] if can_reset else [1, 2])
    assert [row.iteration for row in second.rows] == [1, 2]
    class_trial.release()
    assert cls.cleaned == cleaned + 1  # type: ignore[attr-defined]


def test_a_required_parameter_under_reuse(tmp_path: Path) -> None:
    class Weighted(Reused):
        made = 0

        def setup(self, config: dict[str, Any], weights: float) -> None:  # type: ignore[override]
            super().setup(config)
            self.weights = weights

        def step(self) -> dict[str, Any]:
            return {"value": super().step()["value"] * self.weights}

    trainable = with_parameters(Weighted, weights=2.0)
    channels = [trial(tmp_path, trainable, {"start": start}, stop=2, reuse_actors=True).run() for start in (0, 5)]
    assert [[row.metrics["value"] for row in channel.rows] for channel in channels] == [[2.0, 4.0], [12.0, 14.0]]
    assert Weighted.made == 1


def test_copies_of_the_same_parameters_are_the_same(tmp_path: Path) -> None:
    """Each attempt is given copies, and the instance keeps those that its setup was given."""

    class Holding(Reused):
        made = cleaned = 0

        def setup(self, config: dict[str, Any], bag: list[int]) -> None:  # type: ignore[override]
            super().setup(config)
            self.bag = bag

    own, other = (OwnCopies(with_parameters(Holding, bag=[1])) for _ in range(2))
    for trainable in (own(), own(), other()):
        trial(tmp_path, trainable, {"start": 0}, stop=1, reuse_actors=True).run()
    assert (Holding.made, Holding.cleaned) == (2, 1)


def test_without_reuse_each_trial_has_its_own_instance(tmp_path: Path) -> None:
    cls = type("Fresh", (Reused,), {"made": 0, "cleaned": 0})
    for _ in range(2):
        trial(tmp_path, cls, {"start": 0}, stop=1).run()
    assert (cls.made, cls.cleaned) == (2, 2)  # type: ignore[attr-defined]


def test_a_trial_that_raised_is_not_reused(tmp_path: Path) -> None:
    class Broken(Reused):
        def step(self) -> dict[str, Any]:
            raise RuntimeError("broken")

    trial(tmp_path, Broken, {"start": 0}, reuse_actors=True).run()
    assert Broken.cleaned == 1
