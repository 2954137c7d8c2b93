"""What the files of an experiment, a trial or a checkpoint are, by their names alone: pure functions on listings.

A listing is what ``Shelf.files`` returns: files by their path relative to the folder that was asked about, and empty
folders with a ``/`` at the end.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import NamedTuple

from tunekit.store import layout
from tunekit.store.shelf import Found

HEADER = "experiment.json"
JOURNAL = "journal"
COPYING = ".copying"
"""Holds, until a copy is complete, what says of what it is one."""
_OF_THIS_PLACE = {"driver.lock", "driver.generation", "driver.lease", "driver.opening", "driver.takeover"}
_DRAFT = re.compile(r"\.(?:.+\.draft|[0-9a-f]{32})")
"""What a write that was interrupted leaves beside the file that it was to become."""

Listing = Mapping[str, Found]

_ASIDE = {layout.STAGING, layout.TRASH, layout.QUARANTINE}
_DATA = re.compile(r"d-[0-9]{1,18}/")


class Kind(StrEnum):
    """What a path is."""

    EXPERIMENT = "experiment"
    TRIAL = "trial"
    CHECKPOINT = "checkpoint"


class Contents(NamedTuple):
    """A listing, taken apart. The listings in it are relative to the folders that are their keys."""

    checkpoints: dict[str, dict[str, Found]]
    """Folders that are checkpoints or on the way to be: they hold a manifest, or are named like a checkpoint."""
    aside: dict[str, dict[str, Found]]
    """What is staged, in the trash or in quarantine, such as ``.staging/train_00007.50.1``."""
    journal: dict[str, Found]
    """Files of the journal, in order."""
    others: dict[str, Found]
    """All other files that belong to the experiment: its header, and what users put there."""
    bound: dict[str, Found]
    """What means something at this place only: locks, leases, drafts."""

    @property
    def visible(self) -> dict[str, dict[str, Found]]:
        """Those of the checkpoints that have a manifest."""
        return {folder: inside for folder, inside in self.checkpoints.items() if layout.MANIFEST in inside}


def kind_of(listing: Listing) -> Kind | None:
    """Return what a folder with these files is; None: nothing of ours."""
    if HEADER in listing or any(name.startswith(f"{JOURNAL}/") for name in listing):
        return Kind.EXPERIMENT
    if layout.MANIFEST in listing:
        return Kind.CHECKPOINT
    if any(is_checkpoint_name(name.partition("/")[0]) and "/" in name for name in listing):
        return Kind.TRIAL
    if any(is_trial_with_checkpoint(*name.split("/")[:2]) for name in listing if name.count("/") > 1):
        return Kind.EXPERIMENT  # one whose header and journal are lost
    return None


def is_draft(name: str) -> bool:
    """Return whether a file is what an interrupted write of ours has left."""
    return _DRAFT.fullmatch(name) is not None


def take_apart(listing: Listing, kind: Kind, *, journal: str = JOURNAL) -> Contents:
    """Return the parts of a listing.

    Args:
        listing: The files.
        kind: What they are.
        journal: Folder of the journal.
    """
    parts = Contents({}, {}, {}, {}, {})
    depth = {Kind.EXPERIMENT: 2, Kind.TRIAL: 1, Kind.CHECKPOINT: 0}[kind]
    folders = _checkpoint_folders(listing, depth)
    for name in sorted(listing):
        found = listing[name]
        split = name.split("/")
        folder = "/".join(split[:depth])
        if folder in folders and len(split) > depth:
            parts.checkpoints.setdefault(folder, {})["/".join(split[depth:])] = found
        elif split[0] in _ASIDE and len(split) > 1 and split[1]:
            parts.aside.setdefault(f"{split[0]}/{split[1]}", {})["/".join(split[2:])] = found
        elif kind is Kind.EXPERIMENT and split[0] == journal and len(split) > 1 and split[1]:
            parts.journal[name] = found
        elif name in _OF_THIS_PLACE or is_draft(name) or split[0] in _ASIDE or split[0] == COPYING:
            parts.bound[name] = found
        elif not name.endswith("/"):
            parts.others[name] = found
    return parts


def of_attempt(inside: Listing, data: str, listed: Collection[str]) -> dict[str, Found]:
    """Return the files in a checkpoint's folder without those that other attempts have staged beside it.

    Args:
        inside: The files.
        data: Folder of the checkpoint's own attempt.
        listed: The names in its manifest, below ``data``.
    """
    own = f"{data}/" if data else ""
    return {
        name: found
        for name, found in inside.items()
        if not _DATA.match(name) or (own and name.startswith(own)) or (not own and name in listed)
    }


def _checkpoint_folders(listing: Listing, depth: int) -> set[str]:
    folders = set()
    for name in listing:
        split = name.split("/")
        if len(split) <= depth or split[0].startswith("."):
            continue
        named = depth > 0 and is_checkpoint_name(split[depth - 1])
        if named or split[depth:] == [layout.MANIFEST]:
            folders.add("/".join(split[:depth]))
    return folders


def is_trial_with_checkpoint(trial: str, checkpoint: str) -> bool:
    """Return whether folders of these names are a trial and a checkpoint in it."""
    return layout.parse_trial_name(trial) is not None and is_checkpoint_name(checkpoint)


def is_checkpoint_name(name: str) -> bool:
    """Return whether a folder of this name is a checkpoint's, a failure checkpoint's included."""
    return layout.parse_checkpoint_name(name) is not None or layout.parse_failure_name(name) is not None
