"""What a folder holds that is about to become a checkpoint: every file with its size and digest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunekit.errors import CheckpointCorruptError, SaveError
from tunekit.store import folders, layout
from tunekit.store import manifest as manifests
from tunekit.store.manifest import FileEntry


def hash_all(folder: Path, known: Sequence[FileEntry] = ()) -> list[FileEntry]:
    """Return an entry for every file below ``folder``.

    Args:
        folder: The folder.
        known: Entries of files that we have written ourselves, which are not read again unless their size is another.

    Raises:
        SaveError: Something there cannot be in a checkpoint, or a file changed while it was read.
    """
    files, _ = folders.scan(folder)
    before = {name: _stamp(folder / name) for name in files}
    ours = {entry.name: entry for entry in known if entry.name in before and before[entry.name][1] == entry.size}
    entries = [ours.get(name) or FileEntry(name, *folders.digest(folder / name)) for name in files]
    changed = [entry.name for entry in entries if before[entry.name] != _stamp(folder / entry.name)]
    if changed or folders.scan(folder)[0] != files:
        raise SaveError(
            f"files changed while the checkpoint was being sealed: {changed or 'some were added or removed'}",
            hint="finish writing before returning or reporting; join threads that still write",
            path=str(folder),
        )
    return entries


def _stamp(path: Path) -> tuple[int, int, int]:
    info = path.lstat()
    return info.st_ino, info.st_size, info.st_mtime_ns


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder is a published checkpoint, rather than the user's own."""
    path = folder / layout.MANIFEST
    try:
        manifests.decode(path.read_bytes(), str(folder))
    except (OSError, CheckpointCorruptError):
        return False
    return True
