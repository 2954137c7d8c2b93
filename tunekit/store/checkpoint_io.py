"""How a checkpoint comes to be, is found whole, and goes: the one place that knows the protocol.

::

    worker                                   driver
    begin or adopt → user code writes
    seal: hash, make durable ──manifest──►   (journal)
                                             publish: manifest, rename; from here on it is visible
    verify ◄─────────────────────────────    visible, delete, quarantine, sweep

A worker never publishes, so one that is cut off but alive can change nothing that counts. Every method of the driver's
side can be repeated after a crash at any point and then ends in the same state. *Visible* means: the manifest parses
and matches its own digest, and each listed file has its listed size; the content is compared when a checkpoint is
restored.

A failure checkpoint (``exact=False``) takes the same way to a place of its own, where nothing is ever replaced and
nobody looks for something to go on from.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import structs

from tunekit.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointVersionError,
    SaveError,
    StorageError,
)
from tunekit.store import folders, layout
from tunekit.store import manifest as manifests
from tunekit.store.base import Store, storage_errors
from tunekit.store.layout import CheckpointKey
from tunekit.store.manifest import FileEntry, Manifest
from tunekit.store.ops import Ops
from tunekit.store.sealing import hash_all, is_checkpoint
from tunekit.store.verify import size_problems, verify_folder
from tunekit.types import Json

UPLOAD_GRACE_S = 24 * 3600.0
"""Seconds after which nobody is believed to be still uploading a file that he has begun."""
_UNKNOWN_ATTEMPT = 0
"""Attempts count from 1, so this marks a damaged folder of which nobody knows who wrote it."""


class CheckpointIO:
    """Writes, publishes, checks and removes the checkpoints of one experiment.

    Safe to be used by several threads, as long as each checkpoint is handled by one of them at a time.

    Args:
        store: Where the experiment is.
        ops: How local folders are changed; replaced by tests.
    """

    def __init__(self, store: Store, *, ops: Ops | None = None) -> None:
        """Remember the store; nothing is read or written yet."""
        self._store = store
        self.ops = ops or Ops()
        """How local folders are changed."""
        self._scratch: dict[CheckpointKey, Path] = {}
        self._downloads: dict[Path, Path] = {}

    @property
    def store(self) -> Store:
        """Where the experiment is."""
        return self._store

    # -- the worker's side ---------------------------------------------------------------------------------------------

    def begin(self, trial_name: str, iteration: int, attempt: int, *, exact: bool = True) -> Path:
        """Return a new, empty folder for user code to write a checkpoint into. What was staged before is dropped.

        Raises:
            StorageError: It cannot be made.
        """
        key = CheckpointKey(trial_name, iteration, attempt, exact)
        path = self._scratch[key] = self._store.scratch(layout.staging_name(*key))
        return path

    def adopt(self, src: Path, trial_name: str, iteration: int, attempt: int, *, move: bool) -> Path:
        """Stage the content of a folder of the user, and return the staged folder.

        Args:
            src: The user's folder. A published checkpoint may be given too; it is copied in any case.
            trial_name: The trial that saves.
            iteration: Its iteration.
            attempt: Its attempt.
            move: Whether ``src`` may be taken away, which costs nothing on the same file system.

        Raises:
            SaveError: ``src`` is no folder, or holds what cannot be in a checkpoint.
            StorageError: It cannot be read or copied.
        """
        src = Path(src)
        if not src.is_dir():
            problem = "is not a folder" if src.exists() else "does not exist"
            raise SaveError(
                f"the folder to be saved {problem}: {src}",
                hint="write the files first, then report the folder that holds them",
                path=str(src),
            )
        published = is_checkpoint(src)
        path = self.begin(trial_name, iteration, attempt)
        if path.resolve().is_relative_to(src.resolve()):
            self.discard(trial_name, iteration, attempt)
            raise SaveError(
                f"the folder to be saved contains the experiment's own folder: {src}",
                hint="report a folder that holds the files of this checkpoint and nothing else",
                path=str(src),
            )
        may_take = move and not published and not src.is_symlink()
        with storage_errors("copy", src):
            if may_take and self._rename(src, path):
                return path
            folders.copy_into(self.ops, src, path, skip=[layout.MANIFEST] if published else [])
            if may_take:
                folders.delete_tree(self.ops, src)
        return path

    def seal(
        self,
        trial_name: str,
        iteration: int,
        attempt: int,
        *,
        metadata: Mapping[str, Json],
        exact: bool = True,
        known: Sequence[FileEntry] = (),
    ) -> dict[str, Json]:
        """Hash what was staged, make it durable, and return its manifest. User code must have finished writing.

        Args:
            trial_name: The trial that saves.
            iteration: Its iteration.
            attempt: Its attempt.
            metadata: What to remember about the checkpoint; see the fields of ``Manifest``.
            exact: Whether a trial that goes on from it goes on exactly.
            known: Files that were hashed while they were written.

        Raises:
            SaveError: User code left something that cannot be a checkpoint, or is still writing.
            StorageError: The files cannot be read or made durable.
            CheckpointNotFoundError: Nothing was begun.
        """
        key = CheckpointKey(trial_name, iteration, attempt, exact)
        staging = layout.staging_name(*key)
        path = self._scratch.get(key)
        if path is None:
            raise CheckpointNotFoundError(f"nothing was staged for {staging}", path="")
        with storage_errors("read", path):
            entries = hash_all(path, known)
        document = manifests.seal(key, entries, {**metadata, **self._data_folder(staging)})
        self._store.persist(staging, [entry.name for entry in entries])
        self._scratch.pop(key, None)
        return document

    def discard(self, trial_name: str, iteration: int, attempt: int, *, exact: bool = True) -> None:
        """Drop what was staged, if anything was.

        Raises:
            StorageError: It cannot be removed.
        """
        key = CheckpointKey(trial_name, iteration, attempt, exact)
        self._scratch.pop(key, None)
        self._store.remove(layout.staging_name(*key))

    # -- the driver's side ---------------------------------------------------------------------------------------------

    def publish(
        self, trial_name: str, iteration: int, attempt: int, manifest: Mapping[str, Json], *, exact: bool = True
    ) -> None:
        """Make a sealed checkpoint visible and durable. Done twice, it changes nothing.

        The visible checkpoint of an older attempt at the same iteration is replaced; a damaged one is put aside.

        Raises:
            CheckpointNotFoundError: Its files are neither staged nor published.
            CheckpointCorruptError: The staged files do not match the manifest.
            CheckpointError: A newer attempt has published this iteration.
            StorageError: Storage failed; it can be tried again.
        """
        key = CheckpointKey(trial_name, iteration, attempt, exact)
        staging, folder = layout.staging_name(*key), layout.place(key)
        checked = manifests.check(manifest, self._path(staging))
        if checked.key != key:
            raise CheckpointCorruptError(f"the manifest of {checked.key} was given to publish {key}", path=staging)
        shown = self._shown(folder)
        if isinstance(shown, Manifest) and shown.attempt == attempt:
            self._store.remove(staging)
        else:
            self._refuse_newer(shown, key)
            self._check_staged(staging, checked)
            if isinstance(shown, CheckpointError):
                self._put_aside(folder, key._replace(attempt=_UNKNOWN_ATTEMPT))
        self._store.commit(staging, folder, manifests.encode(manifest))

    def delete(self, trial_name: str, iteration: int, attempt: int, *, exact: bool = True) -> None:
        """Remove the checkpoint of this attempt, staged or visible. One with an unreadable manifest is put aside.

        Raises:
            StorageError: Storage failed; it can be tried again.
        """
        key = CheckpointKey(trial_name, iteration, attempt, exact)
        folder = layout.place(key)
        shown = self._shown(folder)
        if isinstance(shown, CheckpointError):
            self._put_aside(folder, key._replace(attempt=_UNKNOWN_ATTEMPT))
        elif shown is None or shown.attempt == attempt:
            self._store.remove(folder)
        if shown is None or (isinstance(shown, Manifest) and shown.attempt != attempt):
            self._store.remove(layout.staging_name(*key))  # it could not be published

    def quarantine(self, trial_name: str, iteration: int, attempt: int, *, exact: bool = True) -> None:
        """Put a checkpoint of this attempt aside that is damaged or of a newer tunekit.

        Nothing restores it there, and somebody can look at it.

        Raises:
            StorageError: Storage failed; it can be tried again.
        """
        key = CheckpointKey(trial_name, iteration, attempt, exact)
        folder = layout.place(key)
        shown = self._shown(folder)
        if shown is None or (isinstance(shown, Manifest) and shown.attempt != attempt):
            return
        self._put_aside(folder, key)

    def visible(self, trial_name: str) -> list[tuple[int, int]]:
        """Return (iteration, attempt) of every visible checkpoint of a trial, the oldest first, without failure ones.

        One that a newer tunekit wrote is none of them: nothing here can go on from it.

        Raises:
            StorageError: Storage failed.
        """
        return sorted((shown.iteration, shown.attempt) for shown in self._visible(trial_name) if shown.exact)

    def visible_failures(self, trial_name: str) -> list[tuple[int, int]]:
        """Return (iteration, attempt) of every visible failure checkpoint of a trial, the oldest first.

        Raises:
            StorageError: Storage failed.
        """
        return sorted((shown.iteration, shown.attempt) for shown in self._visible(trial_name) if not shown.exact)

    def verify(self, trial_name: str, iteration: int) -> Path:
        """Return a local folder with the files of a visible checkpoint, after comparing every byte with the manifest.

        The folder must not be changed: it may be the checkpoint itself. If it is not, ``release`` removes it.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            CheckpointCorruptError: It is damaged; says which file, and how.
            CheckpointVersionError: It was written by a newer tunekit.
            StorageError: Storage failed.
        """
        folder = layout.checkpoint_path(trial_name, iteration)
        shown = self._shown(folder)
        if isinstance(shown, CheckpointError):
            raise shown
        where = self._path(folder)
        with storage_errors("read", where, absent_is_answer=True):
            try:
                local = None if shown is None else self._store.local(folder)
            except FileNotFoundError:
                local = None
        if local is None or shown is None:
            raise CheckpointNotFoundError(
                f"there is no checkpoint at {where}",
                hint="the trial has not published one at this iteration, or it was deleted by the retention settings",
                path=where,
            )
        path = local / shown.data
        if str(local) != where:
            self._downloads[path] = local
        try:
            verify_folder(local, where=where)
        except BaseException:
            self.release(path)
            raise
        return path

    def release(self, path: Path) -> None:
        """Remove what ``verify`` has returned, if that is a download: nobody reads from it any more."""
        if (download := self._downloads.pop(path, None)) is not None:
            shutil.rmtree(download, ignore_errors=True)

    def sweep(self, live: Iterable[str] = (), *, attempts: Mapping[str, int] | None = None) -> list[str]:
        """Remove what is staged, except for ``live``, and finish deletions that a crash interrupted.

        Never raises for the storage's trouble: what stays costs space and nothing else, and is swept another time.

        Args:
            live: Staging names (as of ``layout.staging_name``, with or without its folder) to leave alone.
            attempts: The newest attempt of each trial, by its name; what a later one has staged is left alone, since
                another driver has taken over. None: nothing is.

        Returns:
            The places that were removed.
        """
        keep = {name.rpartition("/")[2] for name in live}
        places = []
        for parent in (layout.STAGING, layout.TRASH):
            with contextlib.suppress(StorageError):
                names = {name.partition("/")[0] for name in self._store.sizes(parent)}
                spared = keep | layout.later_saves(names, attempts) if parent == layout.STAGING else set()
                places += [f"{parent}/{name}" for name in sorted(names - spared)]
        # The last are not there; but with them goes the folder around them, if a crash left that empty.
        nothing = [f"{parent}/.none" for parent in (layout.STAGING, layout.TRASH)]
        removed = {place for place in [*places, *nothing] if self._is_removed(place)}
        with contextlib.suppress(StorageError):
            self._store.abort_uploads(UPLOAD_GRACE_S)
        return [place for place in places if place in removed]

    def _is_removed(self, place: str) -> bool:
        try:
            self._store.remove(place)
        except StorageError:
            return False
        return True

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _visible(self, trial_name: str) -> list[Manifest]:
        found = self._store.sizes(layout.check_name(trial_name, "trial name"))
        inside: dict[str, dict[str, int]] = {}
        for name, size in found.items():
            folder, _, rest = name.partition("/")
            inside.setdefault(folder, {})[rest] = size
        result = []
        for folder, listing in inside.items():
            if layout.MANIFEST not in listing or layout.parse_place(trial_name, folder, _UNKNOWN_ATTEMPT) is None:
                continue
            shown = self._shown(f"{trial_name}/{folder}")
            if isinstance(shown, Manifest) and not size_problems(shown, listing, complete=False):
                result.append(shown)
        return result

    def _data_folder(self, staging: str) -> dict[str, Json]:
        data = self._store.data_folder(staging)
        return {"data": data} if data else {}

    def _put_aside(self, folder: str, key: CheckpointKey) -> None:
        self._store.remove(folder, aside=layout.quarantine_name(*key))

    def _shown(self, folder: str) -> Manifest | CheckpointError | None:
        """Return the manifest at a checkpoint's place, None if there is no folder, or what is wrong with it."""
        where = self._path(folder)
        try:
            data = self._store.read(f"{folder}/{layout.MANIFEST}")
        except FileNotFoundError:
            return manifests.corrupt(where, layout.MANIFEST, "it is missing") if self._store.has(folder) else None
        try:
            found = manifests.decode(data, where)
        except (CheckpointCorruptError, CheckpointVersionError) as error:
            return error
        if layout.place(found.key) != folder:
            return manifests.corrupt(where, layout.MANIFEST, f"it is that of {found.trial_name}, {found.iteration}")
        return found

    def _check_staged(self, staging: str, manifest: Manifest) -> None:
        listing = self._store.sizes(staging)
        if not listing and not self._store.has(staging):
            raise CheckpointNotFoundError(
                f"the files of {self._path(staging)} are gone, so they cannot be published",
                hint="the trial goes on from its previous checkpoint",
                path=self._path(staging),
            )
        if problems := size_problems(structs.replace(manifest, data=""), listing, complete=True):
            name, problem = problems[0]
            raise manifests.corrupt(self._path(staging), name, problem)

    def _refuse_newer(self, shown: Manifest | CheckpointError | None, key: CheckpointKey) -> None:
        if isinstance(shown, Manifest) and shown.attempt > key.attempt:
            raise CheckpointError(
                f"attempt {key.attempt} cannot publish iteration {key.iteration} of {key.trial_name}: "
                f"attempt {shown.attempt} already has",
                path=self._path(layout.checkpoint_path(key.trial_name, key.iteration)),
            )

    def _rename(self, src: Path, path: Path) -> bool:
        try:
            self.ops.rename(src, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return False
        return True

    def _path(self, folder: str) -> str:
        return f"{self._store.uri.rstrip('/')}/{folder}"
