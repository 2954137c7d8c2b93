"""A small sweep in the place of the demo's: no torch, and nothing but numbers, but killed and compared as that one is.

The first life of a sweep in a folder called *disturbed* does not come to an end: its last trial waits to be killed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import tunekit as tk


class Walk:
    """A random walk that can be saved."""

    def __init__(self) -> None:
        self.position = 0.0

    def save_checkpoint(self, path: str) -> None:
        (Path(path) / "walk.json").write_text(json.dumps([self.position, random.getstate()]))

    def load_checkpoint(self, path: str) -> None:
        self.position, (version, internal, gauss) = json.loads((Path(path) / "walk.json").read_text())
        random.setstate((version, tuple(internal), gauss))


def train(config: dict[str, Any]) -> None:
    walk = Walk()
    tk.restore(walk)
    storage = Path(config["storage"])
    while True:
        is_last = tk.get_context().trial_index == config["trials"] - 1
        while is_last and storage.name == "disturbed" and not (storage / "second").exists():
            time.sleep(0.05)
        time.sleep(0.05)
        walk.position += config["drift"] + random.gauss(0, 1)
        tk.report({"accuracy": walk.position, "loss": random.random()}, checkpoint=walk)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage", type=Path, required=True)
    parser.add_argument("--scheduler", default="asha")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--table", type=Path, required=True)
    options = parser.parse_args()
    (options.storage / ("second" if (options.storage / "first").exists() else "first")).touch()
    tuner = tk.Tuner(
        train,
        param_space={"drift": tk.uniform(0, 1), "storage": str(options.storage), "trials": options.trials},
        tune_config=tk.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=options.trials,
            max_concurrent_trials=2,
            deterministic=True,
            scheduler=tk.ASHA(max_t=options.epochs, grace_period=2, reduction_factor=2),
            seed=7,
        ),
        run_config=tk.RunConfig(
            name="digits",
            storage_path=options.storage,
            stop={"training_iteration": options.epochs},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2, checkpoint_at_end=True),
            failure_config=tk.FailureConfig(max_failures=3, hang_timeout_s="5min"),
            verbose=0,
        ),
    )
    results = tuner.fit()
    trials = [
        {
            "name": one.trial_id,
            "config": {"drift": one.config["drift"]},  # Where it was saved is another folder each time.
            "error": str(one.error or ""),
            "rows": one.rows,
        }
        for one in results
    ]
    options.table.write_text(json.dumps({"best": results.get_best_result().trial_id, "trials": trials}))


if __name__ == "__main__":
    main()
