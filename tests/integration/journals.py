"""Journals to read and to damage: batches of rows, written as a driver writes them."""

from __future__ import annotations

from pathlib import Path

from tunekit.core.codec import Record
from tunekit.core.events import ResultReported
from tunekit.journal.log import Journal


def rows(count: int, first: int = 0) -> list[Record]:
    return [
        ResultReported(trial=number, attempt=1, iteration=1, metrics={"loss": number / 7, "text": "@ä \0"})
        for number in range(first, first + count)
    ]


def written(folder: Path, *sizes: int, segment_bytes: int = 2**26) -> list[list[Record]]:
    """Write batches of these sizes, and return them."""
    journal = Journal.open(folder, segment_bytes=segment_bytes)
    batches, first = [], 0
    for size in sizes:
        batches.append(rows(size, first))
        journal.append(batches[-1])
        journal.commit()
        first += size
    journal.close()
    return batches


def flat(batches: list[list[Record]]) -> list[Record]:
    return [record for batch in batches for record in batch]


def segment(folder: Path, number: int = 1) -> Path:
    return folder / f"{number:012d}.jsonl"
