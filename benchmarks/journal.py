"""What a result costs in the journal, and what it costs to read them all again.

Run ``python benchmarks/journal.py``; ``--folder`` chooses the disk.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

from tunekit.core.codec import Record, encode
from tunekit.core.commands import Command, LaunchTrial
from tunekit.core.events import Event, Place, ResultReported, TrialReturned, TrialStarted
from tunekit.journal.log import Journal
from tunekit.journal.replay import replay

NUM_RESULTS = 20_000


def row(trial: int, iteration: int) -> ResultReported:
    """Return a row as a small training loop reports it."""
    return ResultReported(
        trial=trial,
        attempt=1,
        iteration=iteration,
        metrics={"loss": 1 / (trial + iteration), "accuracy": trial / (trial + iteration + 1), "epoch": iteration},
        timestamp=1.7e9 + trial / 3,
        time_this_iter_s=0.01234,
        time_total_s=0.01234 * iteration,
        at=trial / 7,
    )


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def write(folder: Path, batches: Sequence[Sequence[Record]]) -> None:
    journal = Journal.open(folder)
    for batch in batches:
        journal.append(batch)
        journal.commit()
    journal.close()


def write_without_fsync(folder: Path, batches: Sequence[Sequence[Record]]) -> None:
    with mock.patch.object(os, "fsync", new=id):  # any call that costs next to nothing
        write(folder, batches)


def measure_writing(folder: Path) -> None:
    rows = [row(number // 10, number % 10 + 1) for number in range(NUM_RESULTS)]
    print(f"encode alone: {seconds(lambda: [encode(record) for record in rows]) / len(rows) * 1e6:.2f} µs per result")
    print("batch   encode + append + checksum + write   fsync")
    for size in (1, 100, 1000):
        count = min(NUM_RESULTS, 500 * size)
        batches = [rows[first : first + size] for first in range(0, count, size)]
        work = [partial(write_without_fsync, folder / f"{size}-{run}", batches) for run in range(3)]
        bare = min(map(seconds, work))
        full = seconds(partial(write, folder / f"{size}-synced", batches))
        synced = (full - bare) / len(batches)
        print(f"{size:5}   {bare / count * 1e6:25.2f} µs per result   {synced * 1e6:.0f} µs a commit")


def history(num_trials: int, num_results: int) -> Iterator[list[Record]]:
    """Yield the batches of a sweep, one a trial."""
    for trial in range(num_trials):
        batch: list[Record] = [
            LaunchTrial(trial=trial, attempt=1, until=num_results // 2),
            TrialStarted(trial=trial, attempt=1, place=Place(pid=4321, hostname="node-1", node_ip="10.0.0.1")),
        ]
        batch += [row(trial, iteration + 1) for iteration in range(num_results)]
        batch.append(TrialReturned(trial=trial, attempt=1, reason="training_iteration"))
        yield batch


def decide(event: Event) -> list[Command]:
    """Stand in for the core, with the commands that ``history`` records."""
    if isinstance(event, TrialReturned):
        return [LaunchTrial(trial=event.trial + 1, attempt=1, until=5)]
    return []


def measure_reading(folder: Path) -> None:
    batches = list(history(10_000, 10))
    num_records = sum(map(len, batches))
    write_without_fsync(folder, batches)
    del batches
    size = sum(path.stat().st_size for path in folder.iterdir())
    opening = seconds(lambda: Journal.open(folder).close())
    journal = Journal.open(folder)
    reading = seconds(lambda: sum(1 for _ in journal.records()))
    records = (record for number, record in enumerate(journal.records()) if number)  # nothing caused the first launch
    replaying = seconds(lambda: replay(records, decide))
    tracemalloc.start()
    sum(1 for _ in journal.records())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    journal.close()
    print(f"10,000 trials of 10 results: {num_records:,} records in {size / 2**20:.1f} MiB")
    print(f"open and verify {opening:.2f} s, verify and decode {reading:.2f} s, with replay {replaying:.2f} s")
    print(f"peak memory while streaming {peak / 2**20:.1f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="where to write (default: the temporary folder)")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as folder:
        measure_writing(Path(folder))
        measure_reading(Path(folder) / "all")


if __name__ == "__main__":
    main()
