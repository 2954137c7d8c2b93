"""What in an experiment's folder nobody needs any more: a pure function on a listing.

Garbage is what a crash left half done, and what was deleted but for its bytes. It is never visible as a checkpoint. A
worker that was cut off may still be writing without anybody knowing, so nothing is garbage that was changed a short
while ago.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from tunekit.store import layout
from tunekit.store.contents import COPYING, HEADER, Contents, is_draft
from tunekit.store.shelf import Found

_DATA = re.compile(r"d-[0-9]{1,18}/")


class Why(StrEnum):
    """Why something is garbage."""

    STAGED = "staged, and never published"
    TRASH = "deleted, but for its bytes"
    QUARANTINE = "damaged, and put aside"
    UNPUBLISHED = "the data of a checkpoint without a manifest"
    OUTDONE = "the data of an attempt that another one replaced"
    DRAFT = "left by a write that was interrupted"


class Garbage(NamedTuple):
    """A folder or file that can go."""

    place: str
    """Relative to the experiment."""
    why: Why
    num_files: int
    num_bytes: int
    age_s: float
    """Since it was last changed."""


def garbage(
    parts: Contents,
    *,
    own: Mapping[str, Collection[str]],
    waiting: Collection[str],
    now: float,
    grace_s: float,
    quarantine: bool = False,
) -> list[Garbage]:
    """Return what can go, sorted by place.

    Args:
        parts: The experiment's listing.
        own: For stores in which attempts stage their files beside what is visible: the files of every visible
            checkpoint, by its folder. A folder whose manifest is damaged is left out; nothing in it is garbage.
        waiting: Places that the journal waits for, to publish what is there.
        now: Unix seconds.
        grace_s: Seconds without a change after which something is garbage.
        quarantine: Whether what is in quarantine is garbage as well.
    """
    found = [
        Garbage(
            place,
            why,
            num_files=sum(name != "" and not name.endswith("/") for name in files),
            num_bytes=sum(max(0, file.size) for file in files.values()),
            age_s=now - max((file.modified for file in files.values()), default=0.0),
        )
        for place, why, files in _candidates(parts, own, quarantine=quarantine)
        if place not in waiting
    ]
    return sorted(item for item in found if item.age_s >= grace_s)


def _candidates(
    parts: Contents, own: Mapping[str, Collection[str]], *, quarantine: bool
) -> Iterator[tuple[str, Why, Mapping[str, Found]]]:
    reasons = {layout.STAGING: Why.STAGED, layout.TRASH: Why.TRASH}
    if quarantine:
        reasons[layout.QUARANTINE] = Why.QUARANTINE
    for place, files in parts.aside.items():
        if (why := reasons.get(place.partition("/")[0])) is not None:
            yield place, why, files
    yield from _out_of_sight(parts, own)
    for name, file in parts.bound.items():
        if is_draft(name) or (name.startswith(f"{COPYING}/") and HEADER in parts.others):
            yield name, Why.DRAFT, {name: file}


def _out_of_sight(
    parts: Contents, own: Mapping[str, Collection[str]]
) -> Iterator[tuple[str, Why, Mapping[str, Found]]]:
    """Yield what lies where checkpoints lie and belongs to none."""
    for folder, inside in parts.checkpoints.items():
        if layout.MANIFEST not in inside:
            attempts = _by_attempt(folder, inside)
            loose = {name: file for name, file in inside.items() if not _DATA.match(name)}
            if loose and not attempts:
                yield folder, Why.UNPUBLISHED, inside
            for place, files in attempts.items():
                yield place, Why.UNPUBLISHED, files
        elif folder in own:
            others = {name: file for name, file in inside.items() if name not in own[folder]}
            for place, files in _by_attempt(folder, others).items():
                yield place, Why.OUTDONE, files


def _by_attempt(folder: str, inside: Mapping[str, Found]) -> dict[str, dict[str, Found]]:
    """Return the files in the data folder of each attempt, by that folder."""
    places: dict[str, dict[str, Found]] = {}
    for name, file in inside.items():
        if match := _DATA.match(name):
            places.setdefault(f"{folder}/{match[0].rstrip('/')}", {})[name[match.end() :]] = file
    return places
