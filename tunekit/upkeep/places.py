"""From a path of the user to the files of an experiment, a trial or a checkpoint."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

from tunekit.errors import StorageError
from tunekit.store import LocalStore, Store, layout, open_store, resolve
from tunekit.store.base import storage_errors
from tunekit.store.contents import HEADER, JOURNAL, Kind, is_checkpoint_name, is_trial_with_checkpoint, kind_of
from tunekit.store.joining import parent_of
from tunekit.store.shelf import Found, Shelf
from tunekit.store.shelves import shelf_of
from tunekit.upkeep.report import nothing_here

_ABSENT = {errno.ENOENT, errno.ENOTDIR}


class Place(NamedTuple):
    """Something of ours."""

    shelf: Shelf
    kind: Kind
    uri: str

    @property
    def experiment(self) -> Store | None:
        """The experiment that this is, or that this trial belongs to; None if there is none around it."""
        if self.kind is Kind.EXPERIMENT:
            return self.shelf.store
        around, _ = parent_of(self.uri)
        if self.kind is Kind.CHECKPOINT or not around:
            return None
        try:
            store = open_store(around, create=False)
            store.read(HEADER)
        except (FileNotFoundError, StorageError):
            return None
        return store


def find(path: str | os.PathLike[str]) -> Place:
    """Return what is at a path or URI.

    Raises:
        NothingHereError: It is neither an experiment nor a trial nor a checkpoint.
        ConfigError: The text is no path, or its scheme is not supported.
        StorageError: The storage failed.
    """
    uri = resolve(path, what="path")
    try:
        store = open_store(uri, create=False)
    except StorageError as error:
        if error.errno in _ABSENT:
            raise nothing_here(uri) from error
        raise
    shelf = shelf_of(store)
    kind = kind_of(_peek(store, shelf))
    if kind is None:
        raise nothing_here(uri)
    return Place(shelf, kind, uri)


def _peek(store: Store, shelf: Shelf) -> dict[str, Found]:
    """Return enough of a listing to tell what it is, without walking through a whole disk."""
    if not isinstance(store, LocalStore):
        return shelf.files()
    with storage_errors("read", store.uri):
        return _peek_locally(Path(store.uri))


def _peek_locally(root: Path) -> dict[str, Found]:
    names = [entry.name for entry in root.iterdir() if not entry.name.startswith(".")]
    found = {name: Found(0) for name in names if name in {HEADER, layout.MANIFEST}}
    deeper = [f"{name}/" for name in names if name == JOURNAL or is_checkpoint_name(name)]
    for name in [] if found or deeper else names:
        if (root / name).is_dir() and not (root / name).is_symlink():
            inner = [entry.name for entry in (root / name).iterdir() if is_trial_with_checkpoint(name, entry.name)]
            deeper += [f"{name}/{entry}/" for entry in inner]
    return found | {name: Found(0) for name in deeper}
