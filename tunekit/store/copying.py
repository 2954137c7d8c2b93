"""Copies one checkpoint, so that the copy is whole whenever it can be seen.

The data goes first, into a place where nobody looks; the manifest is last. A copy that was interrupted is gone on with:
files that are there already and have the right digest are not copied again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tunekit.errors import CheckpointNotFoundError
from tunekit.store import folders, layout
from tunekit.store import manifest as manifests
from tunekit.store.contents import of_attempt
from tunekit.store.manifest import Manifest
from tunekit.store.shelf import Found, OnBytes, Shelf
from tunekit.store.verify import size_problems


class Plan(NamedTuple):
    """What makes the checkpoints of one place those of another."""

    copy: list[str]
    """Folders that the target lacks or has otherwise."""
    keep: list[str]
    """Folders that are the same."""
    remove: list[str]
    """Folders that only the target has."""


def plan(source: Mapping[str, bytes], target: Mapping[str, bytes]) -> Plan:
    """Return what is to be done, folders by their name.

    Args:
        source: The manifest of every visible checkpoint of the source.
        target: That of every visible checkpoint of the target; those whose files are not as they say are left out.
    """
    return Plan(
        copy=[folder for folder in sorted(source) if target.get(folder) != source[folder]],
        keep=[folder for folder in sorted(source) if target.get(folder) == source[folder]],
        remove=sorted(target.keys() - source.keys()),
    )


def read_visible(shelf: Shelf, folder: str, inside: Mapping[str, Found], where: str) -> tuple[bytes, Manifest]:
    """Return the manifest of a checkpoint whose files have the sizes that it says.

    Args:
        shelf: Where it is.
        folder: Its folder.
        inside: The files in that.
        where: How messages call it.

    Raises:
        CheckpointNotFoundError: It is not there.
        CheckpointCorruptError: A file is missing or has another size, or the manifest is damaged.
        CheckpointVersionError: A newer tunekit wrote it.
    """
    try:
        data = shelf.store.read(_inside(folder, layout.MANIFEST))
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(
            f"there is no checkpoint at {where}", hint="check the path; it must be the folder itself", path=where
        ) from error
    manifest = manifests.decode(data, where)
    if problems := own_size_problems(shelf, manifest, inside):
        raise manifests.corrupt(where, *problems[0])
    return data, manifest


def own_size_problems(shelf: Shelf, manifest: Manifest, inside: Mapping[str, Found]) -> list[tuple[str, str]]:
    """Return what is missing, added or of another size in a checkpoint, leaving alone what other attempts stage."""
    if shelf.stages_inside:
        inside = of_attempt(inside, manifest.data, {entry.name for entry in manifest.files})
    return size_problems(manifest, {name: found.size for name, found in inside.items()}, complete=True)


def copy_checkpoint(
    source: Shelf,
    source_folder: str,
    target: Shelf,
    target_folder: str,
    *,
    data: bytes,
    manifest: Manifest,
    where: str,
    on_bytes: OnBytes,
) -> int:
    """Copy a checkpoint, in place of the one that the target shows there, and return the bytes that were copied.

    Args:
        source: Where it is.
        source_folder: Its folder there.
        target: Where it shall be.
        target_folder: Its folder there.
        data: Its manifest, as it was read.
        manifest: The same, checked.
        where: How messages call the source.
        on_bytes: Told how many more bytes have been copied.

    Raises:
        CheckpointCorruptError: A file of the source has not the digest that the manifest says. Nothing is shown.
        FileNotFoundError: The source has gone meanwhile.
        StorageError: A disk or a store failed.
    """
    place = target.place(target_folder)
    prefix = f"{manifest.data}/" if manifest.data else ""
    entries = {prefix + entry.name: entry for entry in manifest.files}
    if place == target_folder:
        target.drop(_inside(place, layout.MANIFEST))  # what is shown there is about to change
    copied = 0
    present = target.files(place)
    for name in present.keys() - entries.keys():
        target.drop(_inside(place, name))
    for name, entry in entries.items():
        key = _inside(place, name)
        if name in present and present[name].size == entry.size and _digest(target, key) == entry.xxh3_128:
            on_bytes(entry.size)
            continue
        with source.opened(_inside(source_folder, name)) as path:
            digest = target.put(key, path, on_bytes)
        if digest != entry.xxh3_128:
            target.drop(key)
            problem = f"its content has the digest {digest}, its manifest says {entry.xxh3_128}"
            raise manifests.corrupt(where, entry.name, problem)
        copied += entry.size
    target.show(target_folder, data, list(entries))
    return copied


def _digest(shelf: Shelf, key: str) -> str:
    with shelf.opened(key) as path:
        return folders.digest(path)[1]


def _inside(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
