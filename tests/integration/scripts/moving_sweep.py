"""A sweep without Ray whose driver is killed after a number of steps, and that can be gone on with anywhere.

Usage: moving_sweep.py STORAGE_PATH [--name NAME] [--die-after STEPS] [--pause SECONDS] [--gate FILE]

Prints the table and the digests of all checkpoints, as one line of JSON, when it comes to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import xxhash

import tunekit as tk

LAST = 7


class Walk(tk.Trainable):
    """A random walk."""

    steps_left = -1
    """Of the driver's life; negative: it lives on."""
    pause_s = 0.0
    """That each step takes."""

    gate: Path | None = None
    """A file without which no trial takes its last step."""

    def setup(self, config: dict[str, Any]) -> None:
        self.random = random.Random(config["start"])
        self.position = config["start"]

    def step(self) -> dict[str, Any]:
        if Walk.steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Walk.steps_left -= 1
        time.sleep(Walk.pause_s)
        while Walk.gate is not None and self.iteration == LAST - 1 and not Walk.gate.exists():
            time.sleep(0.02)
        self.position += self.random.gauss(0.0, 1.0)
        return {"position": self.position}

    def save_checkpoint(self, path: str) -> None:
        (Path(path) / "state.json").write_text(json.dumps([self.position, self.random.getstate()]))
        (Path(path) / "deep").mkdir()
        (Path(path) / "deep" / "position").write_text(self.position.hex())

    def load_checkpoint(self, path: Any) -> None:
        self.position, (version, state, gauss) = json.loads((Path(path) / "state.json").read_text())
        self.random.setstate((version, tuple(state), gauss))


def tuner(storage_path: str, name: str = "walks", samples: int = 4) -> tk.Tuner:
    """Return the sweep."""
    return tk.Tuner(
        Walk,
        param_space={"start": tk.uniform(-1, 1)},
        tune_config=tk.TuneConfig(metric="position", mode="max", num_samples=samples, seed=11),
        run_config=tk.RunConfig(
            name=name,
            storage_path=storage_path,
            stop={"training_iteration": LAST},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2, num_to_keep=2),
            verbose=0,
        ),
    )


def outcome(results: tk.ResultGrid) -> list[Any]:
    """Return what must be the same wherever the sweep has been: every number and every checkpoint in all its bits."""
    return [
        {
            "trial": result.trial_id,
            "status": str(result.status),
            "rows": [[row["training_iteration"], float(row["position"]).hex()] for row in result.rows],
            "checkpoints": [_digests(checkpoint) for checkpoint, _ in result.best_checkpoints],
        }
        for result in results
    ]


def _digests(checkpoint: tk.Checkpoint) -> list[Any]:
    with checkpoint.as_directory() as folder:
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name != "MANIFEST.json")
        return [[str(path.relative_to(folder)), xxhash.xxh3_128_hexdigest(path.read_bytes())] for path in files]


def live(storage: str | Path, *arguments: str) -> Any:
    """Run the sweep in a process of its own, and return what it came to; None if it was killed."""
    command = [sys.executable, __file__, str(storage), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode == -9:
        return None
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("storage_path")
    parser.add_argument("--name", default="walks")
    parser.add_argument("--die-after", type=int, default=-1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--gate", type=Path)
    options = parser.parse_args()
    Walk.gate = options.gate
    Walk.pause_s = options.pause
    Walk.steps_left = options.die_after
    results = tk.inline(tuner(options.storage_path, options.name))
    sys.stdout.write(json.dumps(outcome(results)) + "\n")


if __name__ == "__main__":
    main()
