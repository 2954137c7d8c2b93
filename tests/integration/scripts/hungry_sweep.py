"""A sweep whose trial takes memory in its fifth step until Ray's memory monitor ends its worker, once.

Usage: hungry_sweep.py FOLDER [--limit BYTES]

Without a limit nothing is taken, and Ray is not needed.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import tunekit as tk

PIECE = 32 << 20
BEYOND = 256 << 20
"""So many bytes more than the limit are taken, and no more: the machine has others to serve."""
PATIENCE_S = 120.0


def eat(limit: int) -> None:
    """Take memory until so much of the machine's is used, and wait for the end."""
    from ray._private import utils

    rays: Any = utils
    taken = []
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if rays.get_used_memory() < limit + BEYOND:
            taken.append(b"\1" * PIECE)  # Of zeros, it would be promised and not given.
        time.sleep(0.01)
    raise TimeoutError(f"nobody ends a process that holds {len(taken)} pieces")


class Hungry(tk.Trainable):
    """A random walk."""

    def setup(self, config: dict[str, Any]) -> None:
        self.position, self.generator = 0.0, random.Random(7)

    def step(self) -> dict[str, Any]:
        limit, eaten = self.config["limit"], Path(self.config["folder"]) / "eaten"
        if limit and self.iteration == 4 and not eaten.exists():
            eaten.touch()
            eat(limit)
        self.position += self.generator.random()
        return {"position": self.position}

    def save_checkpoint(self, path: str) -> dict[str, Any]:
        version, internal, gauss = self.generator.getstate()
        return {"position": self.position, "generator": [version, list(internal), gauss]}

    def load_checkpoint(self, state: dict[str, Any]) -> None:
        version, internal, gauss = state["generator"]
        self.position = state["position"]
        self.generator.setstate((version, tuple(internal), gauss))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--limit", type=int, default=0)
    options = parser.parse_args()
    tuner = tk.Tuner(
        Hungry,
        param_space={"folder": options.folder, "limit": options.limit},
        tune_config=tk.TuneConfig(metric="position", mode="max", seed=1),
        run_config=tk.RunConfig(
            name="walks",
            storage_path=options.folder,
            stop={"training_iteration": 7},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2),
            failure_config=tk.FailureConfig(max_failures=-1),
            verbose=0,
        ),
    )
    results = tuner.fit() if options.limit else tk.inline(tuner)
    assert results.num_errors == 0


if __name__ == "__main__":
    main()
