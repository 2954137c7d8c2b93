"""What user code holds in its hands: a handle to the files of a checkpoint.

::

    checkpoint = tk.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            model.load_state_dict(torch.load(f"{folder}/model.pt"))

A handle is a path and nothing else, so it is cheap to make and to pickle. What is known about the checkpoint is in the
manifest beside its files, and so moves with them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tunekit.errors import CheckpointCorruptError, CheckpointError, CheckpointNotFoundError, SaveError, StorageError
from tunekit.store import dicts, folders, layout
from tunekit.store.base import storage_errors
from tunekit.store.manifest import Manifest
from tunekit.store.opening import open_store, resolve
from tunekit.store.ops import Ops
from tunekit.store.verify import read_manifest, verify_folder


class Checkpoint:
    """A handle to a folder with files of a trial.

    Args:
        path: The folder: a local path (made absolute now) or a URI.

    Raises:
        ConfigError: The path is empty or of a kind that is not supported.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Remember the path; nothing is read yet."""
        self._path = resolve(path, what="path")
        self._move = False

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str], *, move: bool = False) -> Checkpoint:
        """Return a handle to a local folder that user code has written.

        Args:
            path: The folder.
            move: Whether reporting the checkpoint may take the folder away. That costs nothing on the file system of
                the experiment, where a copy costs every byte again.

        Raises:
            CheckpointNotFoundError: There is no such folder.
        """
        checkpoint = cls(path)
        if not Path(checkpoint.path).is_dir():
            problem = "is not a folder" if Path(checkpoint.path).exists() else "does not exist"
            raise CheckpointNotFoundError(
                f"the folder of the checkpoint {problem}: {checkpoint.path}",
                hint="write the files first, and give the folder that holds them",
                path=checkpoint.path,
            )
        checkpoint._move = bool(move)
        return checkpoint

    @classmethod
    def from_dict(cls, data: Mapping[Any, Any], *, pickle: bool = False) -> Checkpoint:
        """Return a checkpoint that holds a dict of plain values, NumPy arrays and bytes, nested as you like.

        Args:
            data: The dict; get it back with ``to_dict``.
            pickle: Whether other values may be pickled. Reading them runs whatever code is in the pickle.

        Raises:
            SaveError: A value is of another kind; says which.
        """
        folder = tempfile.mkdtemp(prefix="tunekit-")
        checkpoint = cls.from_directory(folder, move=True)
        weakref.finalize(checkpoint, shutil.rmtree, folder, ignore_errors=True)
        dicts.write(data, Path(folder), use_pickle=pickle)
        return checkpoint

    def __repr__(self) -> str:
        """Return the class and the path."""
        return f"Checkpoint({self._path!r})"

    def __eq__(self, other: object) -> bool:
        """Return whether both are handles to the same place."""
        return isinstance(other, Checkpoint) and self._path == other._path

    def __hash__(self) -> int:
        """Return the hash of the place."""
        return hash(self._path)

    @property
    def path(self) -> str:
        """The folder's absolute local path or URI."""
        return self._path

    @property
    def move(self) -> bool:
        """Whether reporting it may take the folder away."""
        return self._move

    @property
    def iteration(self) -> int | None:
        """The training iteration that it was saved at; None if it was never published."""
        _, manifest = self._open()
        return manifest.iteration if manifest else None

    @property
    def metadata(self) -> dict[str, Any]:
        """What was remembered about it: trial name, iteration, attempt, metrics and more; {} if never published.

        Raises:
            CheckpointNotFoundError: The folder is gone.
            CheckpointCorruptError: The manifest is damaged.
        """
        _, manifest = self._open()
        if manifest is None:
            return {}
        fields = msgspec.structs.asdict(manifest)
        return {name: value for name, value in fields.items() if name not in {"files", "digest", "data"}}

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        """Give a local folder with the files, without a copy if they are local. Do not change what is in it.

        Raises:
            CheckpointNotFoundError: The folder is gone.
        """
        home, manifest = self._open()
        yield str(home / manifest.data if manifest else home)

    def to_directory(self, path: str | os.PathLike[str] | None = None) -> str:
        """Copy the files into a folder of your own and return its path.

        A published checkpoint is compared with its manifest on the way, and its copy is a checkpoint again.

        Args:
            path: The folder: a new or empty one. None: a new temporary one, which is yours to delete.

        Raises:
            CheckpointNotFoundError: The checkpoint is gone.
            CheckpointCorruptError: It is damaged.
            SaveError: ``path`` is not empty.
            StorageError: ``path`` cannot be written to.
        """
        home, manifest = self._open()
        if manifest:
            verify_folder(home, where=self._path)
        target = Path(tempfile.mkdtemp(prefix="tunekit-") if path is None else resolve(path, what="path"))
        with storage_errors("write to", target):
            target.mkdir(parents=True, exist_ok=True)
            if next(target.iterdir(), None) is not None:
                raise SaveError(f"the folder to copy a checkpoint into is not empty: {target}", path=str(target))
        ops = Ops()
        with storage_errors("copy", home):
            folders.copy_into(ops, home / (manifest.data if manifest else ""), target, skip=[layout.MANIFEST])
            if manifest and not manifest.data:
                ops.copy(home / layout.MANIFEST, target / layout.MANIFEST)
        return str(target)

    def to_dict(self, *, pickle: bool = False) -> dict[Any, Any]:
        """Return the dict that it was made of with ``from_dict``.

        Args:
            pickle: Whether pickled values may be read, which runs whatever code is in them.

        Raises:
            CheckpointNotFoundError: The folder is gone.
            CheckpointCorruptError: The files are damaged, or are not those of a dict.
            SaveError: It holds pickled values and ``pickle`` is False.
        """
        with self.as_directory() as folder:
            return dicts.read(Path(folder), use_pickle=pickle)

    def verify(self) -> None:
        """Compare every byte with the manifest.

        Raises:
            CheckpointNotFoundError: The folder is gone.
            CheckpointCorruptError: Something was changed, or there is no manifest to compare with.
        """
        verify_folder(self._open()[0], where=self._path)

    def _open(self) -> tuple[Path, Manifest | None]:
        """Return the local folder with the manifest, and the manifest; None if it was never published.

        The files may be in a folder inside, which the manifest names; the handle may be to either of the two.
        """
        folder = self._folder()
        if (manifest := _manifest_of(folder)) is not None:
            return folder, manifest
        try:
            above = _manifest_of(folder.parent)
        except CheckpointError:
            above = None  # whatever lies beside a folder of the user is no business of ours
        return (folder.parent, above) if above and above.data == folder.name else (folder, None)

    def _folder(self) -> Path:
        """Return the local folder that the handle is to."""
        try:
            if "://" in self._path:
                parent, _, name = self._path.rpartition("/")
                return open_store(parent, create=False).local(name)
            if Path(self._path).is_dir():
                return Path(self._path)
        except (FileNotFoundError, StorageError) as error:
            raise self._not_found() from error
        raise self._not_found()

    def _not_found(self) -> CheckpointNotFoundError:
        return CheckpointNotFoundError(
            f"there is no checkpoint at {self._path}",
            hint="check the path; the retention settings may have deleted it",
            path=self._path,
        )


def _manifest_of(folder: Path) -> Manifest | None:
    """Return the manifest in a folder; None if there is none, as in a folder that was never published."""
    try:
        return read_manifest(folder)
    except CheckpointCorruptError:
        if not (folder / layout.MANIFEST).exists():
            return None
        raise
