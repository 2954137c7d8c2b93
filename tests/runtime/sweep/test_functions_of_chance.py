"""A ``sample_from`` that draws from global generators gives what the seed and the trial say, wherever it is called."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tunekit as tk

SPACE = {
    "number": tk.sample_from(lambda config: [random.random(), np.random.rand(), torch.rand(1).item()]),  # noqa: NPY002
    "array": tk.sample_from(lambda config: np.random.rand(2)),  # noqa: NPY002
    "tensor": tk.sample_from(lambda config: torch.rand(2)),
    "set": tk.sample_from(lambda config: {random.random()}),
}


def plain(config: dict[str, Any]) -> list[Any]:
    return [config["number"], config["array"].tolist(), config["tensor"].tolist(), *config["set"]]


def train(config: dict[str, Any]) -> None:
    tk.report({"loss": 0.0, "trained_with": repr(plain(config)), "own": random.random()})


def tuner(storage: Path, name: str, **more: Any) -> tk.Tuner:
    space = {**SPACE, **more.pop("param_space", {})}
    run = tk.RunConfig(name=name, storage_path=str(storage), verbose=0, **more)
    return tk.Tuner(train, param_space=space, tune_config=tk.TuneConfig(num_samples=3, seed=5), run_config=run)


def test_the_same_seed_gives_the_same_configurations_elsewhere(tmp_path: Path) -> None:
    first = [plain(result.config) for result in tk.inline(tuner(tmp_path, "a"))]
    random.random()
    second = [plain(result.config) for result in tk.inline(tuner(tmp_path, "b"))]
    assert first == second
    assert len({repr(config) for config in first}) == 3


def test_results_show_what_trials_were_trained_with(tmp_path: Path) -> None:
    """Also a value that is made again, here and after a restore, and whichever thread asks for it."""
    seen: list[str] = []

    class Watch(tk.Callback):
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            seen.append(repr(plain(trial.config)))

    results = tk.inline(tuner(tmp_path, "a", callbacks=[Watch()]))
    trained = [result.metrics["trained_with"] for result in results]
    assert [repr(plain(result.config)) for result in results] == trained
    restored = tk.Tuner.restore(str(tmp_path / "a"), train, param_space=SPACE).get_results()
    assert [repr(plain(result.config)) for result in restored] == trained
    assert seen == trained


def test_functions_do_not_draw_from_what_the_trials_draw_from(tmp_path: Path) -> None:
    """Trials are seeded alone: what is made between their reports leaves no trace."""
    random.seed(3)
    expected = random.random()
    random.seed(3)
    own = [result.metrics["own"] for result in tk.inline(tuner(tmp_path, "a"))]
    assert random.random() == expected
    assert own == [result.metrics["own"] for result in tk.inline(tuner(tmp_path, "b"))]


def test_the_cells_of_one_sample_share_their_values(tmp_path: Path) -> None:
    grid = {"cell": tk.grid_search([1, 2])}
    configs = [plain(result.config) for result in tk.inline(tuner(tmp_path, "a", param_space=grid))]
    assert configs[0::2] == configs[1::2]
    assert len({repr(config) for config in configs}) == 3


@pytest.mark.parametrize("place", ["first", "second"])
def test_a_function_has_chance_of_its_own(tmp_path: Path, place: str) -> None:
    """What one draws does not depend on the others."""
    other = {"other": tk.sample_from(lambda config: random.random())}
    space = {**other, **SPACE} if place == "first" else {**SPACE, **other}
    sweep = tuner(tmp_path, "a", param_space=space)
    alone = [plain(result.config) for result in tk.inline(tuner(tmp_path, "b"))]
    assert [plain(result.config) for result in tk.inline(sweep)] == alone
