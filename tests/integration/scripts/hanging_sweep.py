"""A sweep in which one trial stops its own process, one waits for ever, and one computes in C with the lock held.

Usage: hanging_sweep.py FOLDER [--fine]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import tunekit as tk


def stop(config: dict[str, Any]) -> None:
    """Stand still, every thread, until somebody kills the process."""
    os.kill(os.getpid(), signal.SIGSTOP)


def loop(config: dict[str, Any]) -> None:
    """Never come back, while other threads run on."""
    while True:
        time.sleep(0.01)


def compute(config: dict[str, Any]) -> None:
    """Hold the interpreter lock for three seconds."""
    ctypes.PyDLL(None).sleep(3)


HANG_S = 6.0
TROUBLE = {"stops": stop, "loops": loop, "computes": compute}


class Walk(tk.Trainable):
    """A random walk that meets its trouble once, in its fifth step."""

    def setup(self, config: dict[str, Any]) -> None:
        self.position, self.generator = 0.0, random.Random(config["kind"])

    def step(self) -> dict[str, Any]:
        time.sleep(0.1)  # so that no trial is brief, and none waits behind one that hangs
        if self.iteration == 4:
            self.meet_trouble()
        self.position += self.generator.random()
        return {"position": self.position}

    def meet_trouble(self) -> None:
        trouble = TROUBLE.get(self.config["kind"])
        if trouble is None or self.config["fine"]:
            return
        try:
            (Path(self.config["folder"]) / self.config["kind"]).touch(exist_ok=False)
        except FileExistsError:
            return
        trouble(self.config)

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
    parser.add_argument("--fine", action="store_true")
    options = parser.parse_args()
    kinds = ["fine", *TROUBLE]
    tuner = tk.Tuner(
        Walk,
        param_space={"kind": tk.grid_search(kinds), "folder": options.folder, "fine": options.fine},
        tune_config=tk.TuneConfig(metric="position", mode="max", seed=1, max_concurrent_trials=4),
        run_config=tk.RunConfig(
            name="walks",
            storage_path=options.folder,
            stop={"training_iteration": 7},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2),
            failure_config=tk.FailureConfig(max_failures=-1, hang_timeout_s=HANG_S),
        ),
    )
    results = tk.inline(tuner) if options.fine else tuner.fit()
    print(json.dumps({"errors": results.num_errors}))


if __name__ == "__main__":
    main()
