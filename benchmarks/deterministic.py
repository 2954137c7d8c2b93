"""What deterministic mode costs in wall time: the same ASHA sweep with and without it, with trials of uneven speed.

A trial does nothing but sleep, so that its speed is known: every fourth one is slow. Both kinds of sweep run in turns,
on one Ray that is started before; what is left is the price of the order.

    python benchmarks/deterministic.py [--quick] [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

import tunekit as tk

WORKERS = 2


class Sleeper(tk.Trainable):
    """Sleeps, and gets better with every step."""

    def setup(self, config: dict[str, Any]) -> None:
        self.i = 0

    def step(self) -> dict[str, Any]:
        self.i += 1
        time.sleep(self.config["step_s"] * (self.config["slowness"] if self.config["x"] < 0.25 else 1.0))
        return {"loss": self.config["x"] + 1 / self.i}

    def save_checkpoint(self, path: str) -> dict[str, Any]:
        return {"i": self.i}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.i = checkpoint["i"]


def seconds(options: argparse.Namespace, *, slots: int | None, slowness: float, step_s: float) -> tuple[float, int]:
    """Run one sweep, and return the seconds from its first result to its last, and how many results it made."""
    with tempfile.TemporaryDirectory() as folder:
        tuner = tk.Tuner(
            Sleeper,
            param_space={"x": tk.uniform(0, 1), "slowness": slowness, "step_s": step_s},
            tune_config=tk.TuneConfig(
                metric="loss",
                mode="min",
                num_samples=options.samples,
                seed=1,
                scheduler=tk.ASHA(max_t=16, reduction_factor=2),
                max_concurrent_trials=WORKERS if slots is None else slots,
                deterministic=slots is not None,
            ),
            run_config=tk.RunConfig(
                name="sleep",
                storage_path=folder,
                verbose=0,
                failure_config=tk.FailureConfig(hang_timeout_s=600),
                checkpoint_config=tk.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        moments = [row["timestamp"] for result in tuner.fit() for row in result.rows]
        return max(moments) - min(moments), len(moments)


KINDS: Mapping[str, int | None] = {"by arrival": None, "2 slots": 2, "4 slots": 4, "8 slots": 8}


def rows(options: argparse.Namespace) -> Iterator[str]:
    """Measure, and yield the lines of a Markdown table."""
    yield "| step | slow trials | order | seconds | results | seconds a result | price |"
    yield "| ---: | ---: | --- | ---: | ---: | ---: | ---: |"
    for step_s in options.steps:
        for slowness in (1.0, 5.0):
            taken: dict[str, list[tuple[float, int]]] = {name: [] for name in KINDS}
            for _ in range(options.repeats):
                for name, slots in KINDS.items():
                    taken[name].append(seconds(options, slots=slots, slowness=slowness, step_s=step_s))
            usual = None
            for name, found in taken.items():
                took = statistics.median(second for second, _ in found)
                num = statistics.median(count for _, count in found)
                usual = usual or took / num
                yield (
                    f"| {step_s * 1e3:.0f} ms | {slowness:.0f}x | {name} | {took:.2f} | {num:.0f} | {took / num:.3f} "
                    f"| {took / num / usual:.2f}x |"
                )


@contextmanager
def cluster() -> Iterator[None]:
    """Run Ray with as many CPUs as there are workers."""
    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition of a smaller sweep")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--samples", type=int, default=24)
    options = parser.parse_args()
    options.steps = [0.05, 0.2]
    if options.quick:
        options.repeats, options.samples, options.steps = 1, 16, [0.1]
    with cluster():
        seconds(options, slots=None, slowness=1.0, step_s=0.001)
        for line in rows(options):
            print(line, flush=True)


if __name__ == "__main__":
    main()
