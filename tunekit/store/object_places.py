"""Where things lie in an object store, as pure functions on keys.

Nothing can be renamed there, so an attempt writes its files where they will stay, and creating the manifest makes them
visible::

    <trial>/checkpoint_<iteration>/d-<attempt>/…      staged, or published if the manifest says so
    <trial>/checkpoint_<iteration>/MANIFEST.json      its field ``data`` names the attempt's folder

Everything below ``d-<attempt>`` is out of sight while there is no manifest beside it. A checkpoint that was copied from
a local disk has its files beside its manifest, whose field ``data`` is empty.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tunekit.store import layout

_DATA = re.compile(r"(?:^|(?<=/))d-([0-9]{1,18})/")
EMPTY = ".tunekit-empty"
"""An object that stands for a staged folder without files; a folder is nothing but the keys of its files."""


class Place(NamedTuple):
    """Where the files of a staging name lie."""

    folder: str
    """Where they will be visible, unless they are committed elsewhere."""
    data: str
    """The folder inside of it that they are in; empty: directly in it."""

    @property
    def prefix(self) -> str:
        """What their keys begin with."""
        return "".join(f"{part}/" for part in self if part)


def place_of(staging: str) -> Place:
    """Return where the files of a staging name lie."""
    parent, _, name = staging.rpartition("/")
    key = layout.parse_key_name(name) if parent == layout.STAGING else None
    if key is None:
        return Place(staging, "")
    return Place(layout.place(key), f"d-{key.attempt}")


def staging_at(folder: str, data: str) -> str | None:
    """Return the staging name whose files lie there, or None if there is no such name."""
    trial, _, name = folder.rpartition("/")
    key = layout.parse_place(trial, name, int(data.removeprefix("d-")))
    if key is None or not trial or "/" in trial:
        return None
    return layout.staging_name(*key)


def manifest_key(folder: str) -> str:
    """Return the key of the manifest of a folder; the folder may be the store's own, which has no name."""
    return f"{folder}/{layout.MANIFEST}" if folder else layout.MANIFEST


def split(key: str) -> tuple[str, str] | None:
    """Return the folder and the data folder of a key below a ``d-<attempt>``, or None for any other key."""
    match = _DATA.search(key)
    return (key[: match.start()].rstrip("/"), match[0].rstrip("/")) if match else None


def data_of(manifest: bytes) -> str | None:
    """Return the data folder that a manifest names, or None if it is none of ours."""
    try:
        document = json.loads(manifest)
    except ValueError:
        return None
    data = document.get("data", "") if isinstance(document, dict) else None
    return data if isinstance(data, str) else None


def visible(keys: Iterable[str]) -> set[str]:
    """Return which of these keys are in sight: what lies in a ``d-<attempt>`` only with a manifest beside it."""
    keys = set(keys)
    return {key for key in keys if (at := split(key)) is None or manifest_key(at[0]) in keys}


def staged(keys: Iterable[str], read: Callable[[str], bytes]) -> set[str]:
    """Return the staging names of everything that lies in a ``d-<attempt>`` and is not published.

    Args:
        keys: All keys of the experiment.
        read: Returns the content of a manifest. Asked only where it is in doubt which of several is published.
    """
    keys = set(keys)
    groups: dict[str, set[str]] = defaultdict(set)
    beside: set[str] = set()
    for key in keys:
        at = split(key)
        if at:
            groups[at[0]].add(at[1])
        elif not key.endswith(layout.MANIFEST):
            beside.add(key.rpartition("/")[0])
    found: set[str] = set()
    for folder, data in groups.items():
        manifest = manifest_key(folder)
        if manifest in keys:
            if len(data) == 1 and folder not in beside:
                continue
            published = data_of(read(manifest))
            data = set() if not published else data - {published}  # noqa: PLW2901 - the rest of the same
        found |= {name for each in data if (name := staging_at(folder, each))}
    return found


def stays(key: str, folder: str, data: str, *, also: bool = True) -> bool:
    """Return whether a key below a checkpoint's folder is none of an attempt's predecessors.

    Args:
        key: The key.
        folder: The checkpoint's folder.
        data: The attempt's data folder; empty: not known.
        also: Whether the attempt's own files stay.
    """
    at = split(key)
    if at is None or at[0] != folder:
        return False
    if not data.startswith("d-"):
        return True
    attempt, limit = int(at[1].removeprefix("d-")), int(data.removeprefix("d-"))
    return attempt >= limit if also else attempt > limit
