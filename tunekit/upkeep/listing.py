"""What is in an experiment, a trial or a checkpoint, as a table: read from names, manifests and the journal alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from tunekit.core.accounts import Accounts
from tunekit.core.books import Spent, summed
from tunekit.core.codec import Record
from tunekit.core.events import ResultReported, TrialsSuggested, TrialStarted
from tunekit.store import layout
from tunekit.store.contents import Contents, Kind, take_apart
from tunekit.store.inspection import Problem, read_manifest
from tunekit.store.shelf import Found
from tunekit.upkeep.history import History, read_history
from tunekit.upkeep.journals import journal_name, local_journal
from tunekit.upkeep.places import Place, find
from tunekit.upkeep.threads import each


class Table(NamedTuple):
    """Rows with a value for each column; None where there is none."""

    path: str
    kind: Kind
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    spent: Mapping[int, Mapping[str, Spent]] = MappingProxyType({})
    """Of an experiment: what the seconds of its trials went into, by cause."""

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        table = {"path": self.path, "kind": self.kind, "rows": rows}
        if self.kind is not Kind.EXPERIMENT:
            return table
        return {**table, "spent_s": {kind: micros / 1e6 for kind, micros in summed(self.spent).by_kind().items()}}


@dataclass
class _Progress(History):
    """How far each trial has come, too."""

    num_trials: int = 0
    attempts: dict[int, int] = field(default_factory=dict)
    iterations: dict[int, int] = field(default_factory=dict)
    accounts: Accounts = field(default_factory=Accounts)

    def take(self, record: Record) -> None:
        """Fold one record."""
        super().take(record)
        self.accounts.apply(record)
        match record:
            case TrialsSuggested():
                self.num_trials += len(record.draws)
            case TrialStarted():
                self.attempts[record.trial] = record.attempt
            case ResultReported():
                self.iterations[record.trial] = record.iteration
            case _:
                pass


def listing(path: str | os.PathLike[str]) -> Table:
    """Return the trials of an experiment, the checkpoints of a trial, or the files of a checkpoint.

    Args:
        path: Its folder, as a local path or URI.

    Raises:
        NothingHereError: There is nothing of the kind.
        ConfigError: The path cannot be used.
        JournalCorruptError: The journal is damaged.
        StorageError: The storage failed.
    """
    place = find(path)
    if place.kind is Kind.EXPERIMENT:
        return _trials(place)
    parts = take_apart(place.shelf.files(), place.kind)
    if place.kind is Kind.TRIAL:
        return _checkpoints(place, parts)
    rows = [(name, found.size) for name, found in parts.visible.get("", {}).items()]
    return Table(place.uri, place.kind, ("file", "bytes"), rows)


def _trials(place: Place) -> Table:
    shelf = place.shelf
    name = journal_name(shelf)
    files = [f"{name}/{key}" for key in sorted(shelf.files(name)) if not key.endswith("/")]
    progress = _Progress()
    with local_journal(shelf, name, files) as folder:
        read_history(folder, progress)
    parts = take_apart(shelf.files(), Kind.EXPERIMENT, journal=name)
    rows = []
    for trial in range(max([progress.num_trials, *(index + 1 for index in progress.attempts)])):
        trial_name = progress.name(trial)
        saved = {key: inside for key, inside in parts.visible.items() if key.startswith(f"{trial_name}/")}
        attempts, iteration = progress.attempts.get(trial, 0), progress.iterations.get(trial)
        rows.append((trial_name, attempts, iteration, len(saved), sum(map(_size, saved.values()))))
    columns = ("trial", "attempts", "iteration", "checkpoints", "bytes")
    return Table(place.uri, place.kind, columns, rows, progress.accounts.spent())


def _checkpoints(place: Place, parts: Contents) -> Table:
    visible = parts.visible
    manifests = each(lambda folder: read_manifest(place.shelf, folder), visible, place.shelf)
    rows: list[tuple[Any, ...]] = []
    for folder, manifest in zip(visible, manifests, strict=True):
        if isinstance(manifest, Problem):
            rows.append((folder, None, "damaged", _size(visible[folder])))
        else:
            rows.append((folder, manifest.attempt, manifest.reason, _size(visible[folder])))
    return Table(place.uri, place.kind, ("checkpoint", "attempt", "reason", "bytes"), rows)


def _size(inside: Mapping[str, Found]) -> int:
    return sum(max(0, found.size) for name, found in inside.items() if name != layout.MANIFEST)
