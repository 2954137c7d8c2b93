"""What a journal says about checkpoints, read without the script that the experiment belongs to.

The core knows better, but needs the script's scheduler to know anything. For copying and checking it is enough to see
what was staged, published and deleted. One thing is not to be seen: commands become durable one turn after the events
that caused them, so a driver that died may have deleted what the journal does not yet say to be deleted. Of the trials
that the last turn was about, a missing checkpoint is therefore no proof of a loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, get_args

from tunekit.core.codec import Record, decode
from tunekit.core.commands import Command, DeleteCheckpoint
from tunekit.core.events import (
    CheckpointAdopted,
    CheckpointDeleted,
    CheckpointMissing,
    CheckpointPublished,
    CheckpointStaged,
    DriverStarted,
    PublishFailed,
)
from tunekit.journal.segments import read_segment, segments
from tunekit.store import layout

_Checkpoint: TypeAlias = (
    CheckpointStaged
    | CheckpointPublished
    | PublishFailed
    | CheckpointAdopted
    | CheckpointDeleted
    | CheckpointMissing
    | DeleteCheckpoint
)
_COMMANDS = frozenset(get_args(Command))


class Segment(NamedTuple):
    """One file of the journal, as far as it is whole."""

    name: str
    num_bytes: int
    """Up to the end of its last whole batch."""


class Known(NamedTuple):
    """A checkpoint that the journal speaks of."""

    trial: int
    iteration: int
    attempt: int
    exact: bool
    """False: saved while its trial failed, in a place of its own."""


@dataclass
class History:
    """The checkpoints that a journal knows, each with the digest of its manifest; empty where that is not recorded."""

    segments: list[Segment] = field(default_factory=list)
    num_records: int = 0
    torn_bytes: int = 0
    """What a crash left behind the last whole batch."""
    trainable: str = ""
    """What trials are named after."""
    staged: dict[Known, dict[str, Any]] = field(default_factory=dict)
    """Those that wait to be published, with the whole manifests."""
    published: dict[Known, str] = field(default_factory=dict)
    """Those that are visible."""
    unsure: set[int] = field(default_factory=set)
    """Trials of the last turn, whose commands are not recorded."""
    _latest: dict[tuple[int, int], Known] = field(default_factory=dict, repr=False)
    """What was shown last at each iteration of each trial."""

    def take(self, record: Record) -> None:
        """Fold one record."""
        self.num_records += 1
        if type(record) in _COMMANDS:
            self.unsure.clear()
            if isinstance(record, DeleteCheckpoint):
                self._forget(record)
            return
        if (trial := getattr(record, "trial", None)) is not None:
            self.unsure.add(trial)
        match record:
            case DriverStarted():
                self.trainable = str(record.run.get("name", self.trainable))
            case CheckpointStaged():
                self.staged[_known(record)] = record.manifest
            case CheckpointPublished() | CheckpointAdopted():
                self._show(_known(record))
            case PublishFailed() | CheckpointDeleted() | CheckpointMissing():
                self._forget(record)
            case _:
                pass

    def _show(self, shown: Known) -> None:
        """Enter a visible checkpoint; one of another attempt at the same iteration has given way to it."""
        if shown.exact:
            self.published.pop(self._latest.get(shown[:2], shown), None)
            self._latest[shown[:2]] = shown
        self.published[shown] = str(self.staged.pop(shown, {}).get("digest", ""))

    def _forget(self, record: _Checkpoint) -> None:
        self.published.pop(_known(record), None)
        self.staged.pop(_known(record), None)

    def name(self, trial: int) -> str:
        """Return the name of a trial."""
        return layout.trial_name(self.trainable, trial)

    def key(self, known: Known) -> layout.CheckpointKey:
        """Return what names a checkpoint's places."""
        return layout.CheckpointKey(self.name(known.trial), *known[1:])

    def folder(self, known: Known) -> str:
        """Return where a checkpoint is visible."""
        return layout.place(self.key(known))

    def staging(self, known: Known) -> str:
        """Return where a checkpoint waits to be published."""
        return layout.staging_name(*self.key(known))


def _known(record: _Checkpoint) -> Known:
    return Known(record.trial, record.iteration, record.attempt, record.exact)


def fold(records: Iterable[Record]) -> History:
    """Return what the records say."""
    history = History()
    for record in records:
        history.take(record)
    return history


def read_history(folder: Path, history: History | None = None) -> History:
    """Read the journal in a local folder up to its last whole batch. No folder is a journal without records.

    Args:
        folder: The folder of the segments.
        history: What to fold the records into, and to return; None: a new one.

    Raises:
        JournalCorruptError: It is damaged where no crash can damage it.
        JournalVersionError: A newer tunekit wrote it.
        OSError: It cannot be read.
    """
    history = history if history is not None else History()
    chain = count = 0
    for path in segments(folder):
        end = 0
        for batch in read_segment(path, chain, count):
            chain, end = batch.chain, batch.end
            count += len(batch.payloads)
            for payload in batch.payloads:
                history.take(decode(payload))
        history.segments.append(Segment(path.name, end))
        history.torn_bytes += path.stat().st_size - end
    return history
