"""Ray Tune's side of the benchmarks."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from benchmarks.peers.measuring import METRIC, peak_rss_mb, rate, rss_mb, run_case, start_ray, stopwatch

SPACE = {"lr": tune.uniform(0.0, 1.0)}


def report_once(config: dict[str, Any]) -> None:
    tune.report({METRIC: config["lr"]})


def report_many(config: dict[str, Any]) -> None:
    for index in range(config["num_results"]):
        tune.report({METRIC: config["lr"] / (index + 1)})


class SavesAtEnd(tune.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.weight = config["lr"]

    def step(self) -> dict[str, Any]:
        self.weight *= 0.5
        return {METRIC: self.weight, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "weight.json").write_text(json.dumps(self.weight))

    def load_checkpoint(self, checkpoint: str) -> None:
        self.weight = json.loads((Path(checkpoint) / "weight.json").read_text())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.weight = new_config["lr"]
        return True


class DecidesAlways(FIFOScheduler):
    """Looks at every result and lets every trial go on."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return TrialScheduler.CONTINUE if result[METRIC] >= 0 else TrialScheduler.STOP


def make_tuner(trainable: Any, folder: Path, *, num_samples: int, **more: Any) -> tune.Tuner:
    return tune.Tuner(
        trainable,
        param_space=SPACE | more.pop("space", {}),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="min",
            num_samples=num_samples,
            max_concurrent_trials=2,
            reuse_actors=more.pop("reuse_actors", False),
            scheduler=more.pop("scheduler", None),
        ),
        run_config=tune.RunConfig(name="bench", storage_path=str(folder), verbose=0, **more),
    )


def timed_fit(tuner: tune.Tuner, count: int) -> dict[str, float]:
    start_ray()
    with stopwatch() as spent:
        grid = tuner.fit()
    assert grid.num_errors == 0
    return rate(count, spent)


def function_trials(size: int, folder: Path) -> dict[str, float]:
    return timed_fit(make_tuner(report_once, folder, num_samples=size), size)


def class_trials(size: int, folder: Path) -> dict[str, float]:
    config = tune.CheckpointConfig(checkpoint_at_end=True)
    tuner = make_tuner(SavesAtEnd, folder, num_samples=size, reuse_actors=True, checkpoint_config=config)
    return timed_fit(tuner, size)


def results_streamed(size: int, folder: Path) -> dict[str, float]:
    return timed_fit(make_tuner(report_many, folder, num_samples=2, space={"num_results": size // 2}), size)


def results_decided(size: int, folder: Path) -> dict[str, float]:
    tuner = make_tuner(report_many, folder, num_samples=2, space={"num_results": size // 2}, scheduler=DecidesAlways())
    return timed_fit(tuner, size)


def large_sweep(size: int, folder: Path) -> dict[str, float]:
    """Ten results for each trial; memory of this process, and the time until all is known again."""
    start_ray()
    gc.collect()
    before = rss_mb()
    config = tune.CheckpointConfig(checkpoint_at_end=False)
    tuner = make_tuner(TenSteps, folder, num_samples=size, reuse_actors=True, checkpoint_config=config)
    with stopwatch() as spent:
        grid = tuner.fit()
    assert grid.num_errors == 0
    growth = peak_rss_mb() - before
    with stopwatch() as restored:
        grid = tune.Tuner.restore(os.fspath(folder / "bench"), TenSteps).get_results()
    assert len(grid) == size
    return rate(size, spent, growth_mb=growth, restore_s=restored[0])


class TenSteps(tune.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.weight = config["lr"]

    def step(self) -> dict[str, Any]:
        self.weight *= 0.5
        return {METRIC: self.weight, "done": self.iteration == 9}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.weight = new_config["lr"]
        return True


if __name__ == "__main__":
    run_case(
        {
            "function_trials": function_trials,
            "class_trials": class_trials,
            "results_streamed": results_streamed,
            "results_decided": results_decided,
            "large_sweep": large_sweep,
        }
    )
