"""Experiments to copy and to check, made up file by file."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

from tunekit.core.codec import Record
from tunekit.core.commands import DeleteCheckpoint, PublishCheckpoint
from tunekit.core.events import CheckpointDeleted, CheckpointPublished, CheckpointStaged, DriverStarted, Settings
from tunekit.journal.header import ExperimentHeader, create_header
from tunekit.journal.log import Journal
from tunekit.store import CheckpointIO, LocalStore, layout

NAME = "walk"


class Built:
    """An experiment made up file by file, as a driver would leave it."""

    def __init__(self, root: Path, *, num_bytes: int = 2000, segment_bytes: int = 2**20) -> None:
        """Begin it."""
        self.root = root
        self.num_bytes = num_bytes
        self.io = CheckpointIO(LocalStore(root))
        create_header(root, ExperimentHeader(name=NAME, identity={}, space={}, created=1.0))
        self.journal = Journal.open(root / "journal", segment_bytes=segment_bytes)
        (root / "driver.lock").touch()
        self.record(DriverStarted(generation=1, settings=Settings(), run={"name": NAME}))

    @staticmethod
    def again(root: Path) -> Built:
        """Go on with one that was built before."""
        made = Built.__new__(Built)
        made.root, made.num_bytes = root, 200
        made.io = CheckpointIO(LocalStore(root))
        made.journal = Journal.open(root / "journal")
        return made

    @staticmethod
    def journal_of(root: Path) -> contextlib.closing[Journal]:
        """Return the journal of any experiment, to be closed by ``with``."""
        return contextlib.closing(Journal.open(root / "journal"))

    def record(self, *records: Record) -> None:
        """Commit each record by itself."""
        for record in records:
            self.journal.append([record])
            self.journal.commit()

    def stage(self, trial: int, iteration: int, attempt: int = 1) -> dict[str, Any]:
        """Save a checkpoint that is not visible yet, and return its manifest."""
        name = layout.trial_name(NAME, trial)
        folder = self.io.begin(name, iteration, attempt)
        chance = random.Random(f"{trial}/{iteration}/{attempt}")
        (folder / "deep").mkdir()
        (folder / "model.bin").write_bytes(chance.randbytes(self.num_bytes))
        (folder / "deep" / "optimizer.bin").write_bytes(chance.randbytes(self.num_bytes // 2))
        (folder / "empty").touch()
        manifest = self.io.seal(name, iteration, attempt, metadata={"metrics": {"loss": 1.0}})
        self.record(CheckpointStaged(trial=trial, attempt=attempt, iteration=iteration, manifest=dict(manifest)))
        return dict(manifest)

    def save(self, trial: int, iteration: int, attempt: int = 1) -> None:
        """Save a visible checkpoint."""
        manifest = self.stage(trial, iteration, attempt)
        self.record(PublishCheckpoint(trial=trial, attempt=attempt, iteration=iteration, manifest=manifest))
        self.io.publish(layout.trial_name(NAME, trial), iteration, attempt, manifest)
        self.record(CheckpointPublished(trial=trial, attempt=attempt, iteration=iteration))

    def delete(self, trial: int, iteration: int, attempt: int = 1) -> None:
        """Delete a visible checkpoint."""
        self.record(DeleteCheckpoint(trial=trial, attempt=attempt, iteration=iteration))
        self.io.delete(layout.trial_name(NAME, trial), iteration, attempt)
        self.record(CheckpointDeleted(trial=trial, attempt=attempt, iteration=iteration))

    def close(self) -> None:
        """Let the driver die in peace."""
        self.journal.close()


def built(root: Path, *, trials: int = 3, steps: int = 3, num_bytes: int = 2000) -> Built:
    """Return an experiment with so many checkpoints in each trial, its driver gone."""
    made = Built(root, num_bytes=num_bytes)
    for step in range(1, steps + 1):
        for trial in range(trials):
            made.save(trial, step)
    made.close()
    return made


def content(root: Path) -> dict[str, bytes]:
    """Return what two copies of an experiment must have in common: every file but those of this place alone."""
    found = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(("driver.", ".staging/", ".copying/"))}


def whole(root: Path) -> int:
    """Check every byte of every checkpoint that can be seen, and return how many there are."""
    count = 0
    for manifest in root.glob(f"*/*/{layout.MANIFEST}"):
        trial, name = manifest.parent.parent.name, manifest.parent.name
        if trial.startswith("."):
            continue
        iteration = layout.parse_checkpoint_name(name)
        assert iteration is not None
        CheckpointIO(LocalStore(root)).verify(trial, iteration)
        count += 1
    return count
