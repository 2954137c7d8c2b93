"""What one event costs in the core, with few trials and with many. No Ray, no disk.

Run it with ``python benchmarks/core.py``.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import deque

from tunekit.core.commands import AskSearcher, Command, ContinueTrial, EndExperiment, LaunchTrial, StopTrial
from tunekit.core.events import (
    CapacityChanged,
    Draw,
    DriverStarted,
    Event,
    ResultReported,
    Settings,
    TrialHalted,
    TrialReturned,
    TrialsSuggested,
    TrialStarted,
)
from tunekit.core.experiment import Experiment
from tunekit.core.policies import Scheduler
from tunekit.schedulers import ASHA, FIFO

NUM_ROWS = 10
NUM_LIVE = 16


def play(scheduler: Scheduler, num_trials: int) -> list[float]:
    """Run a whole sweep through the core, and return the seconds that each event took."""
    experiment = Experiment(scheduler)
    settings = Settings(metric="loss", num_trials=num_trials, ask_batch=256)
    todo: deque[Event] = deque([DriverStarted(generation=1, settings=settings), CapacityChanged(max_live=NUM_LIVE)])
    world = World()
    spent: list[float] = []
    gc.collect()
    gc.disable()
    while todo:
        event = todo.popleft()
        began = time.perf_counter()
        commands = experiment.handle(event)
        spent.append(time.perf_counter() - began)
        for command in commands:
            todo.extend(world.answer(command))
    gc.enable()
    assert experiment.state.ended
    return spent


class World:
    """One in which nothing goes wrong."""

    def __init__(self) -> None:
        self.iterations: dict[int, int] = {}

    def answer(self, command: Command) -> list[Event]:
        match command:
            case AskSearcher():
                return [TrialsSuggested(draws=[Draw(values={"lr": 0.1}, shown={"lr": 0.1})] * command.count)]
            case LaunchTrial():
                started = TrialStarted(trial=command.trial, attempt=command.attempt)
                return [started, *self.run(command.trial, command.until)]
            case ContinueTrial():
                return self.run(command.trial, command.until)
            case StopTrial():
                return [TrialHalted(trial=command.trial, attempt=command.attempt)]
            case EndExperiment():
                return []
            case _:
                raise AssertionError(command)

    def run(self, trial: int, until: int | None) -> list[Event]:
        """Return rows up to the horizon, and the trial's own end if it gets there."""
        first = self.iterations.get(trial, 0) + 1
        last = self.iterations[trial] = min(until or NUM_ROWS, NUM_ROWS)
        found: list[Event] = [
            ResultReported(trial=trial, attempt=1, iteration=iteration, metrics={"loss": (trial % 97) / iteration})
            for iteration in range(first, last + 1)
        ]
        return [*found, TrialReturned(trial=trial, attempt=1)] if last == NUM_ROWS else found


def main() -> None:
    print("| scheduler | trials | events | median µs | mean µs | 99 % µs |\n|---|---:|---:|---:|---:|---:|")
    schedulers: list[tuple[str, Scheduler]] = [
        ("FIFO", FIFO()),
        ("ASHA, a rung at 5", ASHA(max_t=100, grace_period=5, reduction_factor=4)),
        ("ASHA, rungs at 1, 2, 4, 8", ASHA(max_t=100, grace_period=1, reduction_factor=2)),
    ]
    for name, scheduler in schedulers:
        for num_trials in (100, 1_000, 10_000, 100_000):
            spent = sorted(1e6 * seconds for seconds in play(scheduler, num_trials))
            mean, middle, tail = statistics.fmean(spent), spent[len(spent) // 2], spent[len(spent) * 99 // 100]
            print(f"| {name} | {num_trials:,} | {len(spent):,} | {middle:.2f} | {mean:.2f} | {tail:.2f} |")


if __name__ == "__main__":
    main()
