"""A sweep that saves at every step, to be killed in the middle of it.

Usage: save_sweep.py STORAGE_PATH [--form dict|folder] [--samples N] [--iterations N] [--numbers N] [--ray] [--wait]

Prints ``trial iteration`` whenever a save begins.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tunekit as tk


class Heavy(tk.Trainable):
    """Numbers that each step changes, so that a save which is torn, stale or mixed up shows in all later results."""

    waits = False
    """Whether the first save of all waits until it is told to go on."""

    def setup(self, config: dict[str, Any]) -> None:
        self.form = config["form"]
        self.drift = config["drift"]
        self.state: dict[str, Any] = {"numbers": np.arange(config["numbers"], dtype=np.float64), "steps": 0}

    def step(self) -> dict[str, Any]:
        numbers = self.state["numbers"]
        numbers *= 1.0 + self.drift / 1000  # In place: a save must not see it.
        numbers += self.state["steps"]
        self.state["steps"] += 1
        return {"sum": float(numbers.sum()), "last": float(numbers[-1])}

    def save_checkpoint(self, path: str) -> dict[str, Any] | None:
        sys.stdout.write(f"{self.trial_name} {self.state['steps']}\n")
        sys.stdout.flush()
        if Heavy.waits:
            Heavy.waits = False
            sys.stdin.readline()
        if self.form == "dict":
            return self.state
        np.save(Path(path) / "numbers.npy", self.state["numbers"])
        (Path(path) / "steps.json").write_text(json.dumps(self.state["steps"]))
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        if self.form == "dict":
            self.state = checkpoint
            return
        numbers = np.load(Path(checkpoint) / "numbers.npy")
        self.state = {"numbers": numbers, "steps": json.loads((Path(checkpoint) / "steps.json").read_text())}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("storage_path")
    parser.add_argument("--form", default="dict")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--numbers", type=int, default=500_000)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--wait", action="store_true", help="in the first save, for a line from whoever started it")
    options = parser.parse_args()
    Heavy.waits = options.wait
    tuner = tk.Tuner(
        Heavy,
        param_space={"drift": tk.uniform(-1, 1), "form": options.form, "numbers": options.numbers},
        tune_config=tk.TuneConfig(metric="sum", mode="max", num_samples=options.samples, seed=5),
        run_config=tk.RunConfig(
            name="saves",
            storage_path=options.storage_path,
            stop={"training_iteration": options.iterations},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
            verbose=0,
        ),
    )
    results = tuner.fit() if options.ray else tk.inline(tuner)
    assert results.num_errors == 0


if __name__ == "__main__":
    main()
