"""A sweep of trials that stop their own process, wait for ever, compute in C with the lock held, and are very slow.

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
STEP_S, SLOW_STEP_S = 0.1, 2.5
"""A slow step takes longer than a suspect is listened to, or being taken for hung would have no consequence."""
TROUBLE = {"stops": stop, "loops": loop, "computes": compute}


class Walk(tk.Trainable):
    """A random walk that meets its trouble once, in its fifth step."""

    def setup(self, config: dict[str, Any]) -> None:
        self.position, self.generator = 0.0, random.Random(config["kind"])
        self.is_slow = config["kind"] == "crawls" and not config["fine"]
        self.note_moment()

    def note_moment(self) -> None:
        """Write down when a slow one moves: the driver's word on its silence is not to be the only one."""
        if self.is_slow:
            with (Path(self.config["folder"]) / "crawled").open("a") as moments:
                moments.write(f"{time.monotonic()}\n")

    def step(self) -> dict[str, Any]:
        # so that no trial is brief, and none waits behind one that hangs
        time.sleep(SLOW_STEP_S if self.is_slow and self.iteration < 4 else STEP_S)
        self.note_moment()
        if self.iteration == 4:
            self.meet_trouble()
        self.position += self.generator.random()
        return {"position": self.position}

    def meet_trouble(self) -> None:
        trouble = TROUBLE.get(self.config["kind"])
        if trouble is None or self.config["fine"]:
            return
        while not Path(self.config["folder"], "walks", self.trial_name, "checkpoint_000002").exists():
            time.sleep(0.01)  # Saves are finished behind it. It is to have one to go on from, also on a slow disk.
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
    kinds = ["fine", *TROUBLE, "crawls"]
    tuner = tk.Tuner(
        Walk,
        param_space={"kind": tk.grid_search(kinds), "folder": options.folder, "fine": options.fine},
        tune_config=tk.TuneConfig(metric="position", mode="max", seed=1, max_concurrent_trials=5),
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
