"""Looks for everything that is wrong with a checkpoint, and says what can be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tunekit.errors import CheckpointCorruptError, CheckpointVersionError, StorageError
from tunekit.store import folders, layout
from tunekit.store import manifest as manifests
from tunekit.store.copying import own_size_problems
from tunekit.store.manifest import Manifest
from tunekit.store.shelf import Found, OnBytes, Shelf

_FROM_COPY = "bring the checkpoint back from a copy (tunekit cp), or leave it: a resume goes on from the one before"
_TAKE_OUT = "move it out of the checkpoint's folder"
UNLISTED = "it is not in the manifest"


class Problem(NamedTuple):
    """Something that is not as it should be."""

    file: str
    """Where, relative to what was looked at."""
    problem: str
    """What, as a clause."""
    remedy: str
    """What can be done."""


def inspect_checkpoint(
    shelf: Shelf, folder: str, inside: Mapping[str, Found], *, on_bytes: OnBytes
) -> tuple[Manifest | None, list[Problem]]:
    """Compare every byte of a checkpoint with its manifest; return that, if it is readable, and every problem.

    Args:
        shelf: Where it is.
        folder: Its folder there; empty: the shelf itself.
        inside: The files in it.
        on_bytes: Told how many more bytes have been read.

    Raises:
        StorageError: The storage failed.
    """
    prefix = f"{folder}/" if folder else ""
    manifest = read_manifest(shelf, folder)
    if isinstance(manifest, Problem):
        return None, [manifest]
    data = f"{manifest.data}/" if manifest.data else ""
    wrong = own_size_problems(shelf, manifest, inside)
    bad = {name for name, _ in wrong}
    listed = {entry.name for entry in manifest.files}
    problems = [
        Problem(f"{prefix}{data}{name}" if name in listed else f"{prefix}{name}", what, _remedy(what))
        for name, what in wrong
    ]
    for entry in manifest.files:
        if entry.name in bad:
            continue
        if what := _content_problem(shelf, f"{prefix}{data}{entry.name}", entry.xxh3_128):
            problems.append(Problem(f"{prefix}{data}{entry.name}", what, _FROM_COPY))
        on_bytes(entry.size)
    return manifest, problems


def read_manifest(shelf: Shelf, folder: str) -> Manifest | Problem:
    """Return the checked manifest of a checkpoint, or what is wrong with it."""
    file = f"{folder}/{layout.MANIFEST}" if folder else layout.MANIFEST
    try:
        return manifests.decode(shelf.store.read(file), folder or shelf.store.uri)
    except FileNotFoundError:
        return Problem(file, "it is missing", _FROM_COPY)
    except CheckpointVersionError as error:
        return Problem(file, error.message, error.hint)
    except CheckpointCorruptError as error:
        return Problem(file, str(getattr(error, "problem", error.message)), _FROM_COPY)


def _remedy(what: str) -> str:
    return _TAKE_OUT if what == UNLISTED else _FROM_COPY


def _content_problem(shelf: Shelf, key: str, digest: str) -> str:
    try:
        with shelf.opened(key) as path:
            found = folders.digest(path)[1]
    except StorageError:
        raise
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    return "" if found == digest else f"its content has the digest {found}, its manifest says {digest}"
