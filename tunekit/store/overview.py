"""What is there of all checkpoints of an experiment, in one look."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from tunekit.store import layout
from tunekit.store.base import Store, storage_errors
from tunekit.store.local import LocalStore

Overview: TypeAlias = dict[str, dict[str, bool]]
"""By trial and folder in it, such as ``train_00007`` and ``checkpoint_000050``: whether the folder has a manifest."""


def overview(store: Store) -> Overview:
    """Return which folders of checkpoints there are. Opens no file, and lists the storage once.

    Raises:
        StorageError: The storage cannot be read.
    """
    if isinstance(store, LocalStore):
        # A stat of each file, which a listing of sizes makes, takes four times as long.
        with storage_errors("read", store.uri):
            return _of_folder(Path(store.uri))
    return of_names(store.sizes(""))


def of_names(names: Iterable[str]) -> Overview:
    """Return which folders of checkpoints there are among files, by their paths below the experiment's folder."""
    found: Overview = {}
    for path in names:
        trial, _, rest = path.partition("/")
        name, slash, inner = rest.partition("/")
        if slash and not trial.startswith("."):
            places = found.setdefault(trial, {})
            places[name] = places.get(name, False) or inner == layout.MANIFEST
    return found


def _of_folder(root: Path) -> Overview:
    found: Overview = {}
    for trial in _folders(root):
        if places := {place.name: os.path.lexists(f"{place.path}/{layout.MANIFEST}") for place in _folders(trial)}:
            found[trial.name] = places
    return found


def _folders(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)]
