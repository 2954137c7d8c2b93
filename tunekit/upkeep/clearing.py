"""Clears up what crashes have left in an experiment. Never touches what is visible, or what a driver works with."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from tunekit.errors import ConfigError
from tunekit.store import layout
from tunekit.store.contents import Contents, Kind, take_apart
from tunekit.store.garbage import Garbage, garbage
from tunekit.store.inspection import Problem, read_manifest
from tunekit.store.shelf import Shelf
from tunekit.upkeep.history import read_history
from tunekit.upkeep.journals import journal_name, local_journal
from tunekit.upkeep.places import find
from tunekit.upkeep.standstill import standing_still

GRACE_S = 3600.0
_RUNNING = "wait until it ends: a driver clears up by itself when it starts and when it ends"


@dataclass
class ClearReport:
    """What was found, and whether it is gone."""

    path: str
    removed: bool
    items: list[Garbage] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    """Files in a bucket whose upload nobody will finish, and that was dropped. A dry run cannot see them."""

    @property
    def num_bytes(self) -> int:
        """Size of all of it."""
        return sum(item.num_bytes for item in self.items)

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {**vars(self), "items": [item._asdict() for item in self.items], "num_bytes": self.num_bytes}


def clear(
    path: str | os.PathLike[str], *, dry_run: bool = False, quarantine: bool = False, older_than_s: float = GRACE_S
) -> ClearReport:
    """Remove the garbage of an experiment.

    Args:
        path: Its folder, as a local path or URI.
        dry_run: Whether to tell what would be removed and to remove nothing.
        quarantine: Whether to remove what is in quarantine as well.
        older_than_s: Seconds without a change after which something is garbage.

    Raises:
        NothingHereError: There is no experiment.
        ConfigError: The path cannot be used, or is a part of an experiment.
        ExperimentExistsError: A driver is running it.
        JournalCorruptError: The journal is damaged, so nobody knows what it waits for.
        StorageError: The storage failed.
    """
    place = find(path)
    if place.kind is not Kind.EXPERIMENT:
        raise ConfigError(f"{place.uri} is a {place.kind}", hint="give the folder of the experiment that it belongs to")
    with standing_still(place.shelf.store, alone=not dry_run, hint=_RUNNING):
        parts = take_apart(place.shelf.files(), Kind.EXPERIMENT, journal=journal_name(place.shelf))
        items = garbage(
            parts,
            own=_own(place.shelf, parts) if place.shelf.stages_inside else {},
            waiting=_waiting(place.shelf),
            now=time.time(),
            grace_s=older_than_s,
            quarantine=quarantine,
        )
        for item in [] if dry_run else items:
            place.shelf.clear(item.place)
        uploads = [] if dry_run else place.shelf.store.abort_uploads(older_than_s)
    return ClearReport(place.uri, removed=not dry_run, items=items, uploads=uploads)


def _own(shelf: Shelf, parts: Contents) -> dict[str, set[str]]:
    """Return the files of every visible checkpoint whose manifest can be read."""
    read = {folder: read_manifest(shelf, folder) for folder in parts.visible}
    return {
        folder: {layout.MANIFEST, *(f"{found.data}/{entry.name}".lstrip("/") for entry in found.files)}
        for folder, found in read.items()
        if not isinstance(found, Problem)
    }


def _waiting(shelf: Shelf) -> set[str]:
    """Return where the files lie that the journal waits for, wherever this kind of store has them."""
    name = journal_name(shelf)
    files = [f"{name}/{key}" for key in sorted(shelf.files(name)) if not key.endswith("/")]
    with local_journal(shelf, name, files) as folder:
        history = read_history(folder)
    places = set()
    for known in history.staged:
        key = history.key(known)
        places |= {layout.staging_name(*key), f"{layout.place(key)}/d-{key.attempt}"}
    return places
