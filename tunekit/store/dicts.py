"""A dict as the files of a checkpoint, and back: what ``save_checkpoint`` returns, and ``Checkpoint.from_dict``.

Up to three files::

    _tunekit_dict.json           the tree, with all that JSON can say (``tunekit.store.trees``)
    _tunekit_dict.safetensors    NumPy arrays, torch tensors and long bytes
    _tunekit_dict.pkl            whatever else there is, if pickle was allowed, in one pickle

Reading the first two runs no code. The third is read only by who asks for it: the trial itself, which wrote it, or a
user, by name.

Taking a dict apart is one thing and writing it another, so that the state of a trial can be written while the trial
goes on: ``capture`` looks at it, ``freeze`` copies its arrays into a buffer that is used again and again, and from then
on the state may change. Everything small is encoded by ``capture`` itself.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import cloudpickle
import msgspec
import xxhash

from tunekit.errors import CheckpointCorruptError, CheckpointVersionError, SaveError
from tunekit.store import arrays
from tunekit.store.manifest import FileEntry
from tunekit.store.ops import Ops
from tunekit.store.tensor_file import TensorFile, TensorLayout
from tunekit.store.trees import Grower, Planter, Tree

DATA: Final = "_tunekit_dict.json"
TENSORS: Final = "_tunekit_dict.safetensors"
PICKLE: Final = "_tunekit_dict.pkl"
FORMAT: Final = 1

Dumps: TypeAlias = Callable[[Any], bytes]

_CHUNK_BYTES: Final = 1 << 20
"""Small enough to be in the processor's cache still when it is written after it was hashed."""


class Snapshot:
    """A dict that was taken apart. Its arrays are those of the user until ``freeze``."""

    def __init__(self, document: bytes, layout: TensorLayout, pickled: bytes) -> None:
        """Keep the parts."""
        self._document = document
        self._layout = layout
        self._pickled = pickled
        self._frozen: memoryview | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of its arrays: the size of the buffer that ``freeze`` needs."""
        return self._layout.num_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of all of it."""
        return self.num_bytes + len(self._document) + len(self._pickled)

    @property
    def is_on_device(self) -> bool:
        """Whether some of it is in the memory of an accelerator."""
        return any(leaf.is_on_device for leaf in self._layout.leaves)

    def freeze(self, buffer: Any) -> None:
        """Copy the arrays into a flat NumPy array of at least ``num_bytes`` bytes, and forget the user's."""
        self._layout.copy_to(buffer)
        self._frozen = memoryview(buffer)[: self.num_bytes]
        self._layout.leaves = []

    def write(self, folder: Path, ops: Ops) -> list[FileEntry]:
        """Write the files, and return their names, sizes and digests."""
        entries = [_write(folder / DATA, [memoryview(self._document)], ops)]
        if header := self._layout.header():
            views = self._layout.views() if self._frozen is None else iter([self._frozen])
            entries.append(_write(folder / TENSORS, _chain(memoryview(header), views), ops))
        if self._pickled:
            entries.append(_write(folder / PICKLE, [memoryview(self._pickled)], ops))
        return entries


def capture(data: Mapping[Any, Any], what: str, *, dumps: Dumps | None = cloudpickle.dumps) -> Snapshot:
    """Take a dict apart.

    Args:
        data: The dict.
        what: How to call it in messages.
        dumps: How to pickle what is neither plain nor an array; None: not at all.

    Raises:
        SaveError: A value in it cannot be stored; says which.
    """
    planter = Planter()
    try:
        tree = planter.plant(data)
        document = msgspec.json.encode({"format": FORMAT, "tree": tree.document})
    except RecursionError as error:
        if dumps is None:
            raise SaveError(
                f"{what}: it holds itself, or is nested too deeply", hint="leave out what refers back to its owner"
            ) from error
        tree = Tree({"$pickle": 0}, [], [], [data], [""])
        document = msgspec.json.encode({"format": FORMAT, "tree": tree.document})
    pickled = _pickled(tree, what, dumps) if tree.others else b""
    return Snapshot(document, TensorLayout(tree.leaves, tree.names), pickled)


def write(data: Mapping[Any, Any], folder: Path, *, use_pickle: bool) -> None:
    """Write ``data`` into an empty folder.

    Raises:
        SaveError: It is no dict, or a value in it can only be pickled and ``use_pickle`` is False.
    """
    if not isinstance(data, Mapping):
        raise SaveError(f"Checkpoint.from_dict: got {type(data).__qualname__}, but must be a dict")
    capture(dict(data), "Checkpoint.from_dict", dumps=pickle.dumps if use_pickle else None).write(folder, Ops())


def is_dict(folder: Path) -> bool:
    """Return whether a folder holds a dict."""
    return (folder / DATA).is_file()


def read(folder: Path, *, use_pickle: bool) -> dict[Any, Any]:
    """Return the dict that the folder was made of.

    Raises:
        CheckpointCorruptError: The files are not those of a dict, or are damaged.
        CheckpointVersionError: A newer tunekit wrote them.
        SaveError: It holds a pickle and ``use_pickle`` is False.
    """
    try:
        document = msgspec.json.decode((folder / DATA).read_bytes())
        _check_version(document, folder)
        with _Files(folder, use_pickle=use_pickle) as files:
            value = _as_dict(Grower(files.leaf, files.other).grow(document["tree"]))
            files.fill()
            return value
    except FileNotFoundError as error:
        raise CheckpointCorruptError(
            f"{folder} does not hold what Checkpoint.from_dict writes: {Path(error.filename or DATA).name} is missing",
            hint="read its files with as_directory()",
            path=str(folder),
        ) from error
    except ImportError as error:
        raise SaveError(
            f"{folder} holds tensors of torch, which cannot be imported: {error}",
            hint="pip install 'tunekit[torch]'",
            path=str(folder),
        ) from error
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        if isinstance(error, SaveError | CheckpointCorruptError | CheckpointVersionError):
            raise
        raise CheckpointCorruptError(f"{folder / DATA} is damaged: {error}", path=str(folder), file=DATA) from error


def _check_version(document: Any, folder: Path) -> None:
    version = document["format"]
    if isinstance(version, int) and version > FORMAT:
        raise CheckpointVersionError(
            f"{folder / DATA} has format version {version}, but this tunekit reads versions up to {FORMAT}",
            hint="install a newer tunekit to use this checkpoint; nothing was changed",
            path=str(folder),
            version=version,
        )


def _as_dict(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"it holds a {type(value).__qualname__}")
    return value


# -- files -------------------------------------------------------------------------------------------------------------


def _write(path: Path, parts: Iterable[memoryview], ops: Ops) -> FileEntry:
    digest = _Digest()
    ops.write_parts(path, digest.passing(parts))
    return FileEntry(path.name, digest.size, digest.hasher.hexdigest())


class _Digest:
    """Size and digest of what passes."""

    def __init__(self) -> None:
        self.size = 0
        self.hasher = xxhash.xxh3_128()

    def passing(self, parts: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yield the parts in chunks, each of which was hashed just before."""
        for part in parts:
            for start in range(0, part.nbytes, _CHUNK_BYTES):
                chunk = part[start : start + _CHUNK_BYTES]
                self.hasher.update(chunk)
                self.size += chunk.nbytes
                yield chunk


def _chain(first: memoryview, rest: Iterator[memoryview]) -> Iterator[memoryview]:
    yield first
    yield from rest


class _Files:
    """The files beside the document, opened when something of them is needed."""

    def __init__(self, folder: Path, *, use_pickle: bool) -> None:
        self._folder = folder
        self._use_pickle = use_pickle
        self._tensors: TensorFile | None = None
        self._made: dict[str, Any] = {}
        self._empty: list[tuple[str, memoryview]] = []
        self._others: list[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tensors is not None:
            self._tensors.close()

    def leaf(self, kind: str, note: dict[str, Any]) -> Any:
        """Return an array or tensor that ``fill`` will fill, or bytes; the same object for the same name."""
        name = note["name"]
        if name not in self._made:
            self._made[name] = self._read(kind, note, name)
        return self._made[name]

    def fill(self) -> None:
        """Read what is in the arrays and tensors."""
        if self._tensors is not None:
            self._tensors.read_into(self._empty)

    def other(self, number: int) -> Any:
        """Return what was pickled."""
        path = self._folder / PICKLE
        if not self._use_pickle:
            raise SaveError(
                f"{path} is a pickle, which can run any code when it is read",
                hint="if you trust who wrote this checkpoint, use to_dict(pickle=True)",
                path=str(path),
            )
        if self._others is None:
            self._others = _unpickled(path)
        return self._others[number]

    def _read(self, kind: str, note: dict[str, Any], name: str) -> Any:
        if self._tensors is None:
            self._tensors = TensorFile(self._folder / TENSORS)
        dtype, shape, num_bytes = self._tensors.describe(name)
        if kind == "bytes":
            content = bytearray(num_bytes)
            self._tensors.read_into([(name, memoryview(content))])
            return bytes(content)
        made, flat = arrays.empty(kind, note, dtype, shape, num_bytes)
        self._empty.append((name, memoryview(flat)))
        return made


# -- pickle ------------------------------------------------------------------------------------------------------------


def _pickled(tree: Tree, what: str, dumps: Dumps | None) -> bytes:
    if dumps is None:
        value, path = tree.others[0], tree.paths[0]
        raise SaveError(
            f"{what}: {path}: got {type(value).__module__}.{type(value).__qualname__}, but must be None, bool, int, "
            "float, str, bytes, a NumPy array or scalar, a torch tensor, or a dict, list or tuple of them",
            hint="save it in a file (for example torch.save) and use Checkpoint.from_directory, "
            "or pass pickle=True here and to to_dict()",
            key=path,
        )
    try:
        return dumps(tree.others)
    except Exception as error:
        path, problem = _culprit(tree, dumps) or (tree.paths[0], error)
        raise SaveError(
            f"{what}: {path}: it cannot be pickled: {problem}",
            hint="leave such objects out, and make them again when the checkpoint is loaded",
            key=path,
        ) from error


def _culprit(tree: Tree, dumps: Dumps) -> tuple[str, Exception] | None:
    for value, path in zip(tree.others, tree.paths, strict=True):
        try:
            dumps(value)
        except Exception as error:  # noqa: BLE001 - reduce methods may raise anything
            return path, error
    return None


def _unpickled(path: Path) -> list[Any]:
    data = path.read_bytes()
    try:
        return pickle.loads(data)  # type: ignore[no-any-return] # noqa: S301 - the caller asked for it
    except Exception as error:
        raise CheckpointCorruptError(
            f"{path} cannot be unpickled: {error}",
            hint="its classes must be importable under the same names as when it was saved",
            path=str(path.parent),
            file=PICKLE,
        ) from error
