"""What Ray itself costs: the same work with two warm actors and a loop that remembers nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ray

from benchmarks.peers.measuring import METRIC, NUM_CPUS, median_call_ms, rate, run_case, start_ray, stopwatch


class Worker:
    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.weight = 1.0

    def trial(self, lr: float) -> dict[str, float]:
        return {METRIC: lr}

    def step(self, index: int) -> dict[str, float]:
        self.weight /= index + 1
        return {METRIC: self.weight}

    def trial_with_checkpoint(self, index: int) -> dict[str, float]:
        """Write one small file so that it survives a power cut: file, rename, folder."""
        staged, final = self.folder / f".{index}", self.folder / f"{index}.json"
        with staged.open("w") as file:
            json.dump(self.weight, file)
            file.flush()
            os.fsync(file.fileno())
        staged.rename(final)
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return {METRIC: self.weight}


def keep_busy(method: str, size: int, folder: Path) -> dict[str, float]:
    """Call both workers in turn, one call of each in flight, as a loop that decides after each answer does."""
    start_ray()
    actor: Any = ray.remote(num_cpus=1)(Worker)
    workers = [actor.remote(str(folder)) for _ in range(NUM_CPUS)]
    ray.get([worker.step.remote(0) for worker in workers])
    with stopwatch() as spent:
        open_calls: dict[Any, Any] = {getattr(worker, method).remote(i): worker for i, worker in enumerate(workers)}
        for index in range(len(workers), size + len(workers)):
            (done,), _ = ray.wait(list(open_calls))
            ray.get(done)
            worker = open_calls.pop(done)
            if index < size:
                open_calls[getattr(worker, method).remote(index)] = worker
    return rate(size, spent)


def function_trials(size: int, folder: Path) -> dict[str, float]:
    return keep_busy("trial", size, folder)


def class_trials(size: int, folder: Path) -> dict[str, float]:
    return keep_busy("trial_with_checkpoint", size, folder)


def results(size: int, folder: Path) -> dict[str, float]:
    return keep_busy("step", size, folder)


def launch(size: int, folder: Path) -> dict[str, float]:
    del folder
    start_ray()
    return {"call_ms": median_call_ms(size)}


if __name__ == "__main__":
    run_case(
        {
            "function_trials": function_trials,
            "class_trials": class_trials,
            "results_streamed": results,
            "results_decided": results,
            "launch": launch,
        }
    )
