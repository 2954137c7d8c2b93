"""A dict of plain values as the files of a checkpoint, and back.

What JSON can say (through ``tunekit.core.codec``, so NaN, tuples and keys that are no strings are kept) goes to
``data.json``. NumPy arrays become ``.npy`` files that load without pickle, and bytes become files of their own.
Anything else is refused, unless the user asks for pickle on both ways: reading a pickle runs whatever code is in it.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tunekit.core import codec
from tunekit.errors import CheckpointCorruptError, JournalVersionError, ReportError, SaveError

DATA = "data.json"
_SUFFIXES = {"array": ".npy", "scalar": ".npy", "bytes": ".bin", "pickle": ".pkl"}


def write(data: Mapping[Any, Any], folder: Path, *, use_pickle: bool) -> None:
    """Write ``data`` into an empty folder.

    Raises:
        SaveError: It is no dict, or a value in it can only be pickled and ``use_pickle`` is False.
    """
    if not isinstance(data, Mapping):
        raise SaveError(f"Checkpoint.from_dict: got {type(data).__qualname__}, but must be a dict")
    leaves: list[list[str]] = []
    tree = _write_leaves(dict(data), "", folder, leaves, use_pickle=use_pickle)
    try:
        content = codec.encode_value({"tree": tree, "leaves": leaves})
    except (ReportError, RecursionError) as error:
        raise SaveError(f"Checkpoint.from_dict: {error}") from error
    (folder / DATA).write_bytes(content)


def read(folder: Path, *, use_pickle: bool) -> dict[Any, Any]:
    """Return the dict that ``write`` made the folder of.

    Raises:
        CheckpointCorruptError: The files are not those of a dict, or are damaged.
        SaveError: It holds a pickle and ``use_pickle`` is False.
    """
    try:
        document = codec.decode_value((folder / DATA).read_bytes())
        leaves = [_read_leaf(folder, kind, name, use_pickle=use_pickle) for kind, name in document["leaves"]]
        return dict(_filled(document["tree"], leaves))
    except FileNotFoundError as error:
        raise CheckpointCorruptError(
            f"{folder} does not hold what Checkpoint.from_dict writes: {Path(error.filename or DATA).name} is missing",
            hint="read its files with as_directory()",
            path=str(folder),
        ) from error
    except (msgspec.DecodeError, JournalVersionError, KeyError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, SaveError):
            raise
        raise CheckpointCorruptError(f"{folder / DATA} is damaged: {error}", path=str(folder), file=DATA) from error


def _write_leaves(value: Any, path: str, folder: Path, leaves: list[list[str]], *, use_pickle: bool) -> Any:
    """Return ``value`` with each leaf that goes to a file replaced by ``[its number]``, and lists by ``[None, …]``."""
    if isinstance(value, dict):
        return {
            key: _write_leaves(item, f"{path}/{key}", folder, leaves, use_pickle=use_pickle)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple) and type(value) in {list, tuple}:
        items = [
            _write_leaves(item, f"{path}/{index}", folder, leaves, use_pickle=use_pickle)
            for index, item in enumerate(value)
        ]
        return [None, *items] if isinstance(value, list) else tuple(items)
    if value is None or type(value) in {bool, int, float, str}:
        return value
    kind = _kind(value)
    if kind == "pickle" and not use_pickle:
        raise SaveError(
            f"Checkpoint.from_dict: {path.lstrip('/')}: got {type(value).__module__}.{type(value).__qualname__}, but "
            "must be None, bool, int, float, str, bytes, a NumPy array, or a dict, list or tuple of them",
            hint="save it in a file (for example torch.save) and use Checkpoint.from_directory, "
            "or pass pickle=True here and to to_dict()",
            key=path.lstrip("/"),
        )
    name = f"{len(leaves):06d}{_SUFFIXES[kind]}"
    _write_leaf(value, kind, folder / name, path)
    leaves.append([kind, name])
    return [len(leaves) - 1]


def _kind(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return "bytes"
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return "pickle"
    if type(value) is numpy.ndarray and not value.dtype.hasobject:
        return "array"
    return "scalar" if isinstance(value, numpy.generic) and not value.dtype.hasobject else "pickle"


def _write_leaf(value: Any, kind: str, file: Path, path: str) -> None:
    if kind == "bytes":
        file.write_bytes(value)
    elif kind == "pickle":
        try:
            file.write_bytes(pickle.dumps(value))
        except Exception as error:
            raise SaveError(f"Checkpoint.from_dict: {path.lstrip('/')}: it cannot be pickled: {error}") from error
    else:
        sys.modules["numpy"].save(file, value, allow_pickle=False)


def _read_leaf(folder: Path, kind: str, name: str, *, use_pickle: bool) -> Any:
    file = folder / Path(name).name
    if kind == "bytes":
        return file.read_bytes()
    if kind == "pickle":
        if not use_pickle:
            raise SaveError(
                f"{file} is a pickle, which can run any code when it is read",
                hint="if you trust who wrote this checkpoint, use to_dict(pickle=True)",
                path=str(file),
            )
        return pickle.loads(file.read_bytes())  # noqa: S301 - the caller asked for it
    import numpy as np  # noqa: PLC0415 - only a checkpoint with arrays needs it

    array = np.load(file, allow_pickle=False)
    return array[()] if kind == "scalar" else array


def _filled(tree: Any, leaves: list[Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _filled(item, leaves) for key, item in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_filled(item, leaves) for item in tree)
    if isinstance(tree, list):
        return [_filled(item, leaves) for item in tree[1:]] if tree[0] is None else leaves[tree[0]]
    return tree
