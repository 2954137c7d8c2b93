"""From the path or URI of one checkpoint to its files and its manifest, wherever it is and whoever put it there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tunekit.errors import CheckpointError, CheckpointNotFoundError, StorageError, TunekitError
from tunekit.store import folders, layout
from tunekit.store import manifest as manifests
from tunekit.store.base import Store
from tunekit.store.joining import parent_of
from tunekit.store.local import LocalStore
from tunekit.store.manifest import Manifest
from tunekit.store.opening import open_store
from tunekit.store.ops import Ops
from tunekit.store.verify import size_problems, verify_folder

_HEADER = "experiment.json"
"""What an experiment's folder holds and no other one."""


class Found(NamedTuple):
    """What a handle leads to."""

    store: Store
    """The folder that holds the manifest, as a store of its own."""
    where: str
    """Its path or URI."""
    document: dict[str, Any]
    """What the manifest says, to the letter."""
    manifest: Manifest | None
    """The same, checked; None if there is none."""

    @property
    def is_local(self) -> bool:
        """Whether the files can be read where they are."""
        return isinstance(self.store, LocalStore)

    @contextmanager
    def files(self, *, verify: bool) -> Iterator[Path]:
        """Give a local folder with the files, for as long as the block takes.

        Args:
            verify: Whether to compare them with the manifest, if there is one.
        """
        try:
            home = self.store.local("")
        except FileNotFoundError as error:
            damaged = manifests.corrupt(self.where, layout.MANIFEST, "the files beside it are gone")
            raise self._deleted() or damaged from error
        try:
            if verify and self.manifest:
                self._verify(home)
            yield home / (self.manifest.data if self.manifest else "")
        finally:
            if not self.is_local:
                shutil.rmtree(home, ignore_errors=True)

    def _verify(self, home: Path) -> None:
        try:
            verify_folder(home, where=self.where)
        except CheckpointError as error:
            if deleted := self._deleted():
                raise deleted from error
            raise

    def _deleted(self) -> CheckpointNotFoundError | None:
        """Return the error if the manifest is gone by now: it was deleted while we looked, and is not damaged."""
        try:
            self.store.read(layout.MANIFEST)
        except (FileNotFoundError, StorageError) as error:
            return _not_found(self.where) if isinstance(error, FileNotFoundError) else None
        return None

    def change(self) -> str:
        """Return what has become of the folder by now, as far as sizes tell; empty: nothing, or it was not ours."""
        if not self.is_local or self.manifest is None:
            return ""
        sizes = self.store.sizes("")
        problems = size_problems(self.manifest, sizes, complete=True) if layout.MANIFEST in sizes else []
        return ": ".join(problems[0]) if problems else ""  # One that is gone was deleted by retention.

    def copy(self, source: Path, target: Path) -> None:
        """Copy the files, and after them the manifest, in the form that it has beside the files."""
        ops = Ops()
        folders.copy_into(ops, source, target, skip=[layout.MANIFEST])
        if self.manifest:
            document = {**self.document, "data": ""} if self.manifest.data else self.document
            ops.write(target / layout.MANIFEST, manifests.encode({**document, "digest": manifests.digest(document)}))


def find(path: str) -> Found:
    """Return where the files are and what the manifest says; read nothing else.

    The files may be in a folder inside, which the manifest names; the handle may be to either of the two.
    """
    store = _opened(path)
    if (document := _document(store, path)) is not None:
        return Found(store, path, document, manifests.check(document, path))
    if (above := _find_above(path)) is not None:
        return above
    _refuse_remains(store, path)
    return Found(store, path, {}, None)


def _opened(path: str) -> Store:
    """Return the folder as a store of its own."""
    try:
        return open_store(path, create=False)
    except StorageError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            raise _not_found(path) from error
        raise


def _find_above(path: str) -> Found | None:
    """Return the checkpoint in whose folder of data this is. Any other neighbour is no business of ours."""
    above, name = parent_of(path)
    if not above:
        return None
    try:
        store = open_store(above, create=False)
        document = _document(store, above)
        manifest = None if document is None else manifests.check(document, above)
    except (CheckpointError, StorageError):
        return None
    return Found(store, above, document or {}, manifest) if manifest and manifest.data == name else None


def _refuse_remains(store: Store, path: str) -> None:
    """Raise for a folder without a manifest, unless it is one of the user's."""
    if not isinstance(store, LocalStore) and not store.sizes(""):
        raise _not_found(path)
    trial, name = parent_of(path)
    if layout.parse_checkpoint_name(name) is None:
        return
    experiment, _ = parent_of(trial)
    try:
        open_store(experiment, create=False).read(_HEADER)
    except (FileNotFoundError, TunekitError):
        return
    raise manifests.corrupt(path, layout.MANIFEST, "it is missing")


def _not_found(path: str) -> CheckpointNotFoundError:
    return CheckpointNotFoundError(
        f"there is no checkpoint at {path}",
        hint="check the path; the retention settings may have deleted it",
        path=path,
    )


def _document(store: Store, where: str) -> dict[str, Any] | None:
    """Return what the manifest in a folder says; None if there is none, as in a folder that was never published."""
    try:
        data = store.read(layout.MANIFEST)
    except FileNotFoundError:
        if isinstance(store, LocalStore) and os.path.lexists(Path(store.uri) / layout.MANIFEST):
            raise manifests.corrupt(where, layout.MANIFEST, "it is not a regular file") from None
        return None
    document = manifests.parse(data, where)
    if not isinstance(document, dict):
        raise manifests.corrupt(where, layout.MANIFEST, "it is not a JSON object")
    return document
