"""tunekit's side of the benchmarks, through its public interface."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tunekit as tk
from benchmarks.peers.measuring import (
    METRIC,
    median_call_ms,
    peak_rss_mb,
    rate,
    rss_mb,
    run_case,
    start_ray,
    stopwatch,
)
from tunekit.core.commands import LaunchTrial
from tunekit.core.decisions import Continue, Decision
from tunekit.journal.log import Journal
from tunekit.types import Mode

SPACE = {"lr": tk.uniform(0.0, 1.0)}


def report_once(config: dict[str, Any]) -> None:
    tk.report({METRIC: config["lr"]})


def report_many(config: dict[str, Any]) -> None:
    for index in range(config["num_results"]):
        tk.report({METRIC: config["lr"] / (index + 1)})


def report_the_time(config: dict[str, Any]) -> None:
    now = time.time()
    tk.report({METRIC: config["lr"], "now": now})


class SavesAtEnd(tk.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.weight = config["lr"]

    def step(self) -> dict[str, Any]:
        self.weight *= 0.5
        return {METRIC: self.weight, "done": True}

    def save_checkpoint(self, path: str) -> None:
        (Path(path) / "weight.json").write_text(json.dumps(self.weight))

    def load_checkpoint(self, path: str) -> None:
        self.weight = json.loads((Path(path) / "weight.json").read_text())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.weight = new_config["lr"]
        return True


class TenSteps(tk.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.weight = config["lr"]
        self.left = 10

    def step(self) -> dict[str, Any]:
        self.weight *= 0.5
        self.left -= 1
        return {METRIC: self.weight, "done": self.left == 0}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True


@dataclass(frozen=True)
class DecidesAlways:
    """Looks at every result and lets every trial go on."""

    needs_metric: ClassVar[bool] = True

    def begin(self, mode: Mode) -> DecidesAlways:
        del mode
        return self

    def identity(self) -> dict[str, object]:
        return {"class": "DecidesAlways"}

    def horizon(self, trial: int, iteration: int) -> int | None:
        del trial
        return iteration + 1

    def decide(self, trial: int, iteration: int, value: float | None) -> Decision:
        del trial, value
        return Continue(until=iteration + 1)


class AsksOneByOne(tk.RandomSearch):
    """Wants to hear how a trial ended before it suggests the next one, so that a launch finds an idle worker."""

    learns: ClassVar[bool] = True


def make_tuner(trainable: Any, folder: Path, *, num_samples: int, **more: Any) -> tk.Tuner:
    return tk.Tuner(
        trainable,
        param_space=SPACE | more.pop("space", {}),
        tune_config=tk.TuneConfig(
            metric=METRIC,
            mode="min",
            num_samples=num_samples,
            max_concurrent_trials=more.pop("max_concurrent_trials", 2),
            reuse_actors=more.pop("reuse_actors", False),
            scheduler=more.pop("scheduler", None),
            search_alg=more.pop("search_alg", None),
            seed=1,
        ),
        run_config=tk.RunConfig(name="bench", storage_path=str(folder), verbose=0, **more),
    )


def timed_fit(tuner: tk.Tuner, count: int) -> dict[str, float]:
    start_ray()
    with stopwatch() as spent:
        grid = tuner.fit()
    assert grid.num_errors == 0
    return rate(count, spent)


def function_trials(size: int, folder: Path) -> dict[str, float]:
    return timed_fit(make_tuner(report_once, folder, num_samples=size), size)


def class_trials(size: int, folder: Path) -> dict[str, float]:
    config = tk.CheckpointConfig(checkpoint_at_end=True)
    tuner = make_tuner(SavesAtEnd, folder, num_samples=size, reuse_actors=True, checkpoint_config=config)
    return timed_fit(tuner, size)


def results_streamed(size: int, folder: Path) -> dict[str, float]:
    return timed_fit(make_tuner(report_many, folder, num_samples=2, space={"num_results": size // 2}), size)


def results_decided(size: int, folder: Path) -> dict[str, float]:
    tuner = make_tuner(report_many, folder, num_samples=2, space={"num_results": size // 2}, scheduler=DecidesAlways())
    return timed_fit(tuner, size)


def note_launches() -> dict[int, float]:
    """Return a dict that will hold when each trial's ``LaunchTrial`` entered the journal, its cause being durable."""
    times: dict[int, float] = {}
    append = Journal.append

    def noting(journal: Journal, records: Sequence[Any]) -> None:
        append(journal, records)
        times.update((record.trial, time.time()) for record in records if isinstance(record, LaunchTrial))

    changeable: Any = Journal
    changeable.append = noting
    return times


def launch(size: int, folder: Path) -> dict[str, float]:
    """From a journalled ``LaunchTrial`` to the first line of user code, one trial at a time on a warm, idle worker."""
    start_ray()
    call_ms = median_call_ms()
    times = note_launches()
    search = AsksOneByOne()
    grid = make_tuner(report_the_time, folder, num_samples=size, max_concurrent_trials=1, search_alg=search).fit()
    delays = [(result.metrics["now"] - times[index]) * 1000 for index, result in enumerate(grid)][5:]
    assert min(delays) > 0
    return {"launch_ms": statistics.median(delays), "call_ms": call_ms, "calls": statistics.median(delays) / call_ms}


def large_sweep(size: int, folder: Path) -> dict[str, float]:
    """Ten results for each trial; memory of this process, and the time until all is known again."""
    start_ray()
    gc.collect()
    before = rss_mb()
    with stopwatch() as spent:
        grid = make_tuner(TenSteps, folder, num_samples=size, reuse_actors=True).fit()
    growth = peak_rss_mb() - before
    del grid
    with stopwatch() as restored:
        grid = make_tuner(TenSteps, folder, num_samples=size, reuse_actors=True).fit()
    assert len(grid) == size
    return rate(size, spent, growth_mb=growth, restore_s=restored[0])


if __name__ == "__main__":
    run_case(
        {
            "function_trials": function_trials,
            "class_trials": class_trials,
            "results_streamed": results_streamed,
            "results_decided": results_decided,
            "launch": launch,
            "large_sweep": large_sweep,
        }
    )
