"""A sweep that is killed by tests: random walks that save their generator, so that a wrong restore shows.

Usage: walk_sweep.py FOLDER [--scheduler fifo|asha] [--samples N] [--iterations N] [--step-s S] [--max-failures N]
    [--slots N] [--at-once N] [--cpus N] [--gate FILE [--gate-at N]] [--settled] [--takeover]
"""

from __future__ import annotations

import argparse
import json
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import tunekit as tk
from tunekit.session import Context

INTERVAL = 3
"""Iterations between two checkpoints."""


class Walk:
    """A random walk that can be saved."""

    def __init__(self, drift: float) -> None:
        self.drift = drift
        self.position = 0.0

    def step(self) -> float:
        self.position += self.drift + random.gauss(0, 1)
        return self.position

    def save_checkpoint(self, path: str) -> None:
        version, internal, gauss = random.getstate()
        state = {"position": self.position, "rng": [version, list(internal), gauss]}
        (Path(path) / "walk.json").write_text(json.dumps(state))

    def load_checkpoint(self, path: str) -> None:
        state = json.loads((Path(path) / "walk.json").read_text())
        version, internal, gauss = state["rng"]
        self.position = state["position"]
        random.setstate((version, tuple(internal), gauss))


def train(config: dict[str, Any]) -> None:
    walk = Walk(config["drift"])
    tk.restore(walk)
    while True:
        pause(config["step_s"], config["gate"])
        while tk.get_context().iteration == config["gate_at"] and not is_open(config["gate"]):
            time.sleep(0.05)
        tk.report({"position": walk.step(), "noise": random.random()}, checkpoint=walk)
        while config["settled"] and is_on_its_way(tk.get_context()):
            time.sleep(0.01)


def is_on_its_way(context: Context) -> bool:
    """Return whether the newest row is one that is saved, and its checkpoint cannot be seen yet."""
    manifest = Path(str(context.trial_dir), f"checkpoint_{context.iteration:06d}", "MANIFEST.json")
    return context.iteration % INTERVAL == 0 and not manifest.exists()


def is_open(gate: str) -> bool:
    """Return whether this trial may go on. A sweep that somebody is about to kill must not end before.

    The gate is a file: if it is empty, all may pass, else the trials whose index is below the number in it. No gate at
    all is an open one, and it is open to a step whose machine is to go.
    """
    if not gate or tk.preempted():
        return True
    path = Path(gate)
    return path.exists() and tk.get_context().trial_index < int(path.read_text() or 1_000_000)


def pause(seconds: float, gate: str) -> None:
    """Take so long, or less if the gate is opened: then nobody wants to see anything of the sweep but its end."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not (gate and is_open(gate)):
        time.sleep(min(left, 0.05))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--scheduler", default="fifo")
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=9)
    parser.add_argument("--step-s", type=float, default=0.02)
    parser.add_argument("--max-failures", type=int, default=0)
    parser.add_argument("--slots", type=int, default=0, help="logical slots of deterministic mode; 0: it is off")
    parser.add_argument("--at-once", type=int, default=2, help="trials")
    parser.add_argument("--cpus", type=int, default=1, help="of each trial")
    parser.add_argument("--gate", default="", help="a file without which no trial takes its last step")
    parser.add_argument("--gate-at", type=int, help="after so many steps instead")
    parser.add_argument("--settled", action="store_true", help="take no step before what was saved can be seen")
    parser.add_argument("--inline", action="store_true")
    parser.add_argument("--takeover", action="store_true")
    options = parser.parse_args()
    asha = tk.ASHA(max_t=options.iterations, reduction_factor=2)
    tuner = tk.Tuner(
        tk.with_resources(train, {"CPU": options.cpus}),
        param_space={
            "drift": tk.uniform(-1, 1),
            "step_s": options.step_s,
            "gate": options.gate,
            "gate_at": options.iterations - 1 if options.gate_at is None else options.gate_at,
            "settled": options.settled,
        },
        tune_config=tk.TuneConfig(
            metric="position",
            mode="max",
            num_samples=options.samples,
            seed=11,
            max_concurrent_trials=options.slots or options.at_once,
            deterministic=options.slots > 0,
            scheduler=asha if options.scheduler == "asha" else None,
        ),
        run_config=tk.RunConfig(
            name="walks",
            storage_path=options.folder,
            stop={"training_iteration": options.iterations},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=INTERVAL, num_to_keep=2, checkpoint_at_end=True),
            failure_config=tk.FailureConfig(max_failures=options.max_failures, hang_timeout_s=300),
            stop_grace_s=300,  # Whoever holds a trial that is told to stop may take a while to let it come to a report.
        ),
    )
    run = partial(tk.inline, tuner) if options.inline else tuner.fit
    results = run(takeover=options.takeover)
    print(json.dumps({"trials": len(results), "errors": results.num_errors}))


if __name__ == "__main__":
    main()
