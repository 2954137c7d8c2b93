"""What a running sweep has journalled, read from the side: this process only looks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Progress:
    """What the journal says so far."""

    running: dict[int, int] = field(default_factory=dict)
    """Process id of the worker by trial, for the trials that are running."""
    newest: dict[int, int] = field(default_factory=dict)
    """Newest iteration by trial."""
    attempts: dict[int, int] = field(default_factory=dict)
    """How many lives each trial has had."""
    saved: int = 0
    """Checkpoints published."""
    num_rows: int = 0
    """Results reported, those that were reported again after a crash included."""

    @property
    def num_results(self) -> int:
        """Results that count."""
        return sum(self.newest.values())

    @property
    def num_repeated(self) -> int:
        """Iterations that were computed a second time."""
        return self.num_rows - self.num_results


def records(experiment: Path) -> Iterator[dict[str, Any]]:
    """Yield the journal's records up to what may be half written."""
    for segment in sorted((experiment / "journal").glob("*.jsonl")):
        for line in segment.read_bytes().splitlines():
            try:
                yield json.loads(line)[1]
            except (ValueError, IndexError):
                return


def read_progress(experiment: Path) -> Progress:
    """Fold the journal into what the demo needs to know."""
    progress = Progress()
    for record in records(experiment):
        trial = record.get("trial", -1)
        match record["kind"]:
            case "driver_started":
                progress.running.clear()
            case "trial_started":
                progress.running[trial] = record["place"]["pid"]
                progress.attempts[trial] = max(progress.attempts.get(trial, 0), record["attempt"])
            case "result":
                progress.newest[trial] = record["iteration"]
                progress.num_rows += 1
            case "checkpoint_published":
                progress.saved += 1
            case "trial_returned" | "trial_halted" | "trial_raised" | "trial_preempted" | "worker_lost":
                progress.running.pop(trial, None)
    return progress
