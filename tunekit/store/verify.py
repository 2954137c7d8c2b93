"""Compares the files of a checkpoint with its manifest."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from tunekit.errors import CheckpointNotFoundError
from tunekit.store import folders, layout
from tunekit.store import manifest as manifests
from tunekit.store.base import storage_errors
from tunekit.store.manifest import Manifest

_UNREADABLE = {errno.ENOENT, errno.EIO, errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
"""Errors of reading a listed file that speak of the file rather than of the storage."""


def size_problems(manifest: Manifest, found: Mapping[str, int], *, complete: bool) -> list[tuple[str, str]]:
    """Return (file, what is wrong with it) for every file that is missing or has another size.

    Args:
        manifest: What should be there.
        found: Sizes by path relative to the checkpoint's folder, as ``Store.sizes`` returns them.
        complete: Whether a file that is not listed is wrong as well.
    """
    prefix = f"{manifest.data}/" if manifest.data else ""
    problems = []
    for entry in manifest.files:
        size = found.get(prefix + entry.name)
        if size is None:
            problems.append((entry.name, "it is missing"))
        elif size == folders.NOT_A_FILE:
            problems.append((entry.name, "it is not a regular file"))
        elif size != entry.size:
            problems.append((entry.name, f"it has {size} bytes, its manifest says {entry.size}"))
    if complete:
        listed = {prefix + entry.name for entry in manifest.files} | {layout.MANIFEST}
        extra = (name for name in found if name.startswith(prefix) and name not in listed and not name.endswith("/"))
        problems += [(name, "it is not in the manifest") for name in extra if not folders.is_dropping(name)]
    return problems


def verify_folder(folder: Path, *, where: str = "") -> Manifest:
    """Return the manifest of a local checkpoint folder, after comparing every byte with it.

    Args:
        folder: The folder that holds the manifest.
        where: How messages call it, if not by its path.

    Raises:
        CheckpointNotFoundError: There is no such folder.
        CheckpointCorruptError: A file is missing, added or changed; says which, and how.
        CheckpointVersionError: A newer tunekit wrote it.
        StorageError: It cannot be read.
    """
    where = where or str(folder)
    manifest = read_manifest(folder, where=where)
    with storage_errors("read", where):
        problems = size_problems(manifest, folders.sizes(folder), complete=True)
    if problems:
        raise manifests.corrupt(where, *problems[0])
    for entry in manifest.files:
        path = folder / manifest.data / entry.name
        try:
            _, digest = folders.digest(path)
        except OSError as error:
            if error.errno not in _UNREADABLE:
                with storage_errors("read", path):
                    raise
            raise manifests.corrupt(where, entry.name, f"it cannot be read ({error.strerror})") from error
        if digest != entry.xxh3_128:
            problem = f"its content has the digest {digest}, its manifest says {entry.xxh3_128}"
            raise manifests.corrupt(where, entry.name, problem)
    return manifest


def read_manifest(folder: Path, *, where: str = "") -> Manifest:
    """Return the manifest of a local checkpoint folder, without looking at the other files.

    Raises:
        CheckpointNotFoundError: There is no such folder.
        CheckpointCorruptError: The manifest is missing or damaged.
        CheckpointVersionError: A newer tunekit wrote it.
        StorageError: It cannot be read.
    """
    where = where or str(folder)
    if not folder.is_dir():
        raise CheckpointNotFoundError(
            f"there is no checkpoint at {where}", hint="check the path; it must be the folder itself", path=where
        )
    path = folder / layout.MANIFEST
    with storage_errors("read", path):
        if path.is_symlink() or not path.is_file():
            raise manifests.corrupt(where, layout.MANIFEST, "it is missing")
        return manifests.decode(path.read_bytes(), where)
