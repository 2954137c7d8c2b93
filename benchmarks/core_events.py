"""What an event costs when things go wrong: with checkpoints, lost workers and new drivers, from 10 to 100,000 trials.

``benchmarks/core.py`` measures a sweep without misfortune; this one holds that misfortune costs no more, and that no
event but the start of a driver costs more with more trials. Run it with ``python benchmarks/core_events.py``.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import defaultdict, deque

from tunekit.core.commands import AskSearcher, Command, DeleteCheckpoint, LaunchTrial, PublishCheckpoint
from tunekit.core.events import (
    CapacityChanged,
    CheckpointDeleted,
    CheckpointPublished,
    CheckpointStaged,
    Draw,
    DriverStarted,
    Event,
    ResultReported,
    Settings,
    TrialReturned,
    TrialsSuggested,
    TrialStarted,
    WorkerLost,
)
from tunekit.core.experiment import Experiment
from tunekit.schedulers import FIFO
from tunekit.types import LossCause

NUM_ROWS = 6
SAVE_EVERY = 2
NUM_LIVE = 16
NUM_RESTARTS = 3


class World:
    """Each trial saves at every second row, keeps one checkpoint, and loses its first worker at its fourth row."""

    def answer(self, command: Command) -> list[Event]:
        match command:
            case AskSearcher():
                return [TrialsSuggested(draws=[Draw(values={"lr": 0.1}, shown={"lr": 0.1})] * command.count)]
            case LaunchTrial():
                return self.run(command.trial, command.attempt, command.resume_from or 0)
            case PublishCheckpoint():
                return [CheckpointPublished(trial=command.trial, attempt=command.attempt, iteration=command.iteration)]
            case DeleteCheckpoint():
                return [CheckpointDeleted(trial=command.trial, attempt=command.attempt, iteration=command.iteration)]
            case _:
                return []

    def run(self, trial: int, attempt: int, start: int) -> list[Event]:
        found: list[Event] = [TrialStarted(trial=trial, attempt=attempt)]
        for iteration in range(start + 1, NUM_ROWS + 1):
            row = ResultReported(trial=trial, attempt=attempt, iteration=iteration, metrics={"loss": 1 / iteration})
            found.append(row)
            if attempt == 1 and iteration == 4:
                return [*found, WorkerLost(trial=trial, attempt=attempt, cause=LossCause.CRASHED)]
            if iteration % SAVE_EVERY == 0:
                found.append(
                    CheckpointStaged(trial=trial, attempt=attempt, iteration=iteration, manifest={"files": []})
                )
        return [*found, TrialReturned(trial=trial, attempt=attempt)]


def play(num_trials: int) -> dict[str, list[float]]:
    """Run a whole sweep through the core, and return the seconds that each event took, by kind."""
    settings = Settings(metric="loss", num_trials=num_trials, ask_batch=256, max_failures=-1, num_to_keep=1)
    experiment, world, generation = Experiment(FIFO()), World(), 1
    todo: deque[Event] = deque([DriverStarted(generation=1, settings=settings), CapacityChanged(max_live=NUM_LIVE)])
    spent: dict[str, list[float]] = defaultdict(list)
    next_restart = num_trials // (NUM_RESTARTS + 1)
    gc.collect()
    gc.disable()
    while todo:
        event = todo.popleft()
        began = time.perf_counter()
        commands = experiment.handle(event)
        spent[type(event).__name__].append(time.perf_counter() - began)
        for command in commands:
            todo.extend(world.answer(command))
        if generation <= NUM_RESTARTS and len(experiment.state.trials) > generation * next_restart:
            generation += 1
            todo.clear()  # what was under way died with the driver
            todo.extend([DriverStarted(generation=generation, settings=settings), CapacityChanged(max_live=NUM_LIVE)])
    gc.enable()
    assert experiment.state.ended
    return spent


def main() -> None:
    print(
        "| trials | events | median µs | mean µs | 99 % µs | start of a driver, ms |\n|---:|---:|---:|---:|---:|---:|"
    )
    for num_trials in (10, 100, 1_000, 10_000, 100_000):
        spent = play(num_trials)
        starts = [1e3 * seconds for seconds in spent.pop("DriverStarted")]
        others = sorted(1e6 * seconds for kind in spent.values() for seconds in kind)
        mean, middle, tail = statistics.fmean(others), others[len(others) // 2], others[len(others) * 99 // 100]
        print(f"| {num_trials:,} | {len(others):,} | {middle:.2f} | {mean:.2f} | {tail:.2f} | {max(starts):.2f} |")


if __name__ == "__main__":
    main()
