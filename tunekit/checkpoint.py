"""What user code holds in its hands: a handle to the files of a checkpoint.

::

    checkpoint = tk.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            model.load_state_dict(torch.load(f"{folder}/model.pt"))

A handle is a path and nothing else, so it is cheap to make and to pickle, and knows no framework. What is known about
the checkpoint is in the manifest beside its files, and so moves with them, whatever moves them. Nothing here unpickles,
but for ``to_dict(pickle=True)``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from tunekit.errors import CheckpointNotFoundError, SaveError
from tunekit.logs import logger_of
from tunekit.store import folders, layout
from tunekit.store import manifest as manifests
from tunekit.store.base import storage_errors
from tunekit.store.finding import find
from tunekit.store.opening import resolve
from tunekit.store.ops import Ops

logger: Final = logger_of("tunekit")


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
        self._is_verified = False

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

        Its files are temporary and go with this handle, a pickle of which does not hold them: report it, or take a copy
        with ``to_directory``.

        Args:
            data: The dict; get it back with ``to_dict``.
            pickle: Whether other values may be pickled. Reading them runs whatever code is in the pickle.

        Raises:
            SaveError: A value is of another kind; says which.
        """
        from tunekit.store import dicts  # noqa: PLC0415 - loaded by those who use one

        folder = tempfile.mkdtemp(prefix="tunekit-")
        checkpoint = cls.from_directory(folder, move=True)
        weakref.finalize(checkpoint, shutil.rmtree, folder, ignore_errors=True)
        dicts.write(data, Path(folder), use_pickle=pickle)
        return checkpoint

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the place alone: whoever gets it looks at the files anew."""
        return (_handle, (self._path, self._move))

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
    def uri(self) -> str:
        """The same as a URI; of a local path ``file:///…``."""
        return self._path if "://" in self._path else Path(self._path).as_uri()

    @property
    def move(self) -> bool:
        """Whether reporting it may take the folder away."""
        return self._move

    @property
    def iteration(self) -> int | None:
        """The training iteration that it was saved at; None if it was never published.

        Raises:
            CheckpointNotFoundError: The folder is gone.
            CheckpointCorruptError: The manifest is damaged.
        """
        manifest = find(self._path).manifest
        return manifest.iteration if manifest else None

    @property
    def metadata(self) -> dict[str, Any]:
        """What was remembered about it: trial name, iteration, attempt, metrics and more; {} if never published.

        All that its manifest holds, but for the list of files; also what this version of tunekit does not know.

        Raises:
            CheckpointNotFoundError: The folder is gone.
            CheckpointCorruptError: The manifest is damaged.
        """
        found = find(self._path)
        if found.manifest is None:
            return {}
        fields = {**msgspec.structs.asdict(found.manifest), **found.document}
        return {name: value for name, value in fields.items() if name not in {"files", "digest", "data"}}

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        """Give a local folder with the files: itself if it is local, else a copy that is removed afterwards.

        Do not change what is in it, since that damages it. A published checkpoint is compared with its manifest first,
        once for each handle.

        Raises:
            CheckpointNotFoundError: It is gone.
            CheckpointCorruptError: It is damaged.
        """
        found = find(self._path)
        with found.files(verify=not self._is_verified) as folder:
            self._is_verified = self._is_verified or found.is_local
            yield str(folder)
            if problem := found.change():
                logger.warning(
                    "the checkpoint %s was changed while it was read: %s; it cannot be used any more. "
                    "Write into a copy, made with to_directory()",
                    self._path,
                    problem,
                )

    def to_directory(self, path: str | os.PathLike[str] | None = None) -> str:
        """Copy the files into a folder of your own and return its path.

        A published checkpoint is compared with its manifest on the way, and its copy is a checkpoint again.

        Args:
            path: The folder: a new or empty one. None: a new temporary one, which is yours to delete.

        Raises:
            CheckpointNotFoundError: The checkpoint is gone.
            CheckpointCorruptError: It is damaged.
            SaveError: ``path`` is not empty, or lies in the checkpoint.
            StorageError: ``path`` cannot be written to; what was copied until then is removed.
        """
        found = find(self._path)
        if path is not None and found.is_local:
            _refuse_inside(path, found.where)
        with found.files(verify=True) as folder:
            target = _new_folder(path)
            try:
                with storage_errors("copy", folder):
                    found.copy(folder, target)
            except BaseException:
                for part in target.iterdir():
                    folders.delete_tree(Ops(), part)
                raise
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
        from tunekit.store import dicts  # noqa: PLC0415 - loaded by those who use one

        with self.as_directory() as folder:
            return dicts.read(Path(folder), use_pickle=pickle)

    def verify(self) -> None:
        """Compare every byte with the manifest.

        Raises:
            CheckpointNotFoundError: The folder is gone.
            CheckpointCorruptError: Something was changed, or there is no manifest to compare with.
        """
        found = find(self._path)
        if found.manifest is None:
            raise manifests.corrupt(self._path, layout.MANIFEST, "it is missing")
        with found.files(verify=True):
            self._is_verified = found.is_local


def _handle(path: str, move: bool) -> Checkpoint:  # noqa: FBT001 - called by pickle
    """Return a handle as it was pickled."""
    checkpoint = Checkpoint(path)
    checkpoint._move = move  # noqa: SLF001 - it has no public way in
    return checkpoint


def _refuse_inside(path: str | os.PathLike[str], checkpoint: str) -> None:
    """Refuse a copy into what is copied: it has no end, and damages the checkpoint.

    Raises:
        SaveError: It lies there.
    """
    target = Path(resolve(path, what="path"))
    if Path(checkpoint).resolve() in target.resolve().parents:
        raise SaveError(
            f"the folder to copy a checkpoint into lies in the checkpoint itself: {target}",
            hint="name a folder somewhere else",
            path=str(target),
        )


def _new_folder(path: str | os.PathLike[str] | None) -> Path:
    """Return an empty local folder.

    Raises:
        SaveError: It is not empty.
        StorageError: It cannot be made.
    """
    if path is None:
        return Path(tempfile.mkdtemp(prefix="tunekit-"))
    target = Path(resolve(path, what="path"))
    with storage_errors("write to", target):
        target.mkdir(parents=True, exist_ok=True)
        if next(target.iterdir(), None) is not None:
            raise SaveError(f"the folder to copy a checkpoint into is not empty: {target}", path=str(target))
    return target
