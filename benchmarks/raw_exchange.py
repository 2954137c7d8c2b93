"""What the way between driver and workers costs, with nothing behind it: no core, no journal.

    python benchmarks/raw_exchange.py

Everything else that runs on the machine shows in these numbers, so the round trip of an empty actor call is measured
beside them: that is the unit.
"""

from __future__ import annotations

import queue
import tempfile
import time
from collections.abc import Callable
from typing import Any

import ray

import tunekit as tk
from tunekit.core.commands import ContinueTrial, LaunchTrial
from tunekit.core.events import CapacityChanged, ResultReported, TrialReturned, TrialStarted
from tunekit.runtime.executor.ray_executor import RayExecutor
from tunekit.runtime.line.spec import AttemptSpec, Delivery, ExecutorCommand, SweepSpec


def nothing(config: dict[str, Any]) -> None:
    del config


def report(config: dict[str, Any]) -> None:
    for _ in range(config["rows"]):
        tk.report({"loss": 1.0, "accuracy": 0.5})


def run(  # noqa: C901 - one loop, as the driver has it
    trainable: Any, *, trials: int, rows: int = 0, prefetch: int = 0, asks: bool = False, workers: int = 2
) -> tuple[float, int]:
    """Run trials as fast as they go. Return seconds from the moment at which all workers are busy, and rows."""
    inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    executor = RayExecutor(
        sweep=SweepSpec(experiment="raw", path=tempfile.mkdtemp(), seed=0, capture_output=False),
        trainable=trainable,
        spec_of=lambda launch: AttemptSpec(
            trial=launch.trial,
            attempt=1,
            trial_name=f"t_{launch.trial:05d}",
            config={"rows": rows},
            until=launch.until,
        ),
        inbox=inbox,
        max_concurrent_trials=workers,
        prefetch=prefetch,
    )
    until = 1 if asks else None
    capacity = live = launched = ended = num_rows = counted = 0
    pids: set[int] = set()
    began: float | None = None
    while ended < trials:
        deliveries = [inbox.get()]
        while not inbox.empty():
            deliveries.append(inbox.get())
        commands: list[ExecutorCommand] = []
        for event in (event for delivery in deliveries for event in delivery.events):
            match event:
                case CapacityChanged():
                    capacity = event.max_live
                case TrialStarted():
                    pids.add(event.place.pid)
                case ResultReported():
                    num_rows += 1
                    if asks and not event.final:
                        commands.append(ContinueTrial(trial=event.trial, attempt=1, until=event.iteration + 1))
                case TrialReturned():
                    ended, live = ended + 1, live - 1
        if began is None and len(pids) == workers:
            began, counted = time.perf_counter(), ended if not rows else num_rows
        while live < capacity and launched < trials:
            commands.append(LaunchTrial(trial=launched, attempt=1, until=until))
            launched, live = launched + 1, live + 1
        if commands:
            executor.execute(commands)
        executor.acknowledge([delivery.token for delivery in deliveries if delivery.token is not None])
    seconds = time.perf_counter() - (began or 0.0)
    executor.close()
    return seconds, (num_rows if rows else ended) - counted


def empty_call() -> float:
    """Return the seconds of a round trip to an actor that does nothing."""

    @ray.remote(num_cpus=0)
    class Echo:
        def echo(self, frame: bytes) -> bytes:
            return frame

    actor: Any = Echo
    remote: Callable[[bytes], Any] = actor.remote().echo.remote
    for _ in range(200):
        ray.get(remote(b""))
    began = time.perf_counter()
    for _ in range(500):
        ray.get(remote(b""))
    return (time.perf_counter() - began) / 500


def main() -> None:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    print(f"empty actor call        {empty_call() * 1e3:10.2f} ms")
    seconds, count = run(nothing, trials=1000)
    print(f"trivial trials          {count / seconds:10.0f} /s")
    seconds, count = run(nothing, trials=4000, prefetch=4)
    print(f"trivial trials, 4 ahead {count / seconds:10.0f} /s")
    seconds, count = run(report, trials=20, rows=20_000)
    print(f"results                 {count / seconds:10.0f} /s")
    seconds, count = run(report, trials=1, rows=1000, asks=True, workers=1)
    print(f"decision, round trip    {seconds / count * 1e3:10.2f} ms")
    ray.shutdown()


if __name__ == "__main__":
    main()
