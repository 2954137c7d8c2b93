"""What a checkpoint holds, whatever format its files have. Read only in a process of its own: unpickling runs code."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import xxhash

from tunekit.runtime.saving.saving import content_of
from tunekit.store import layout
from tunekit.validation.content import leaves
from tunekit.validation.jobs import Leaf, State

_MAX_TEXT_BYTES = 1_000_000
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number with which files of torch began before they were zip files."""


def state_of(folder: Path, roots: Iterable[str]) -> State:
    """Return what the checkpoint in ``folder`` holds.

    Args:
        folder: The files that user code wrote, or those of the dict that it returned.
        roots: See ``leaves``.
    """
    content = content_of(folder)
    if isinstance(content, dict):
        return leaves(content, roots)
    found: State = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        if name != layout.MANIFEST:
            found |= _of_file(file, name, list(roots))
    return found


def _of_file(file: Path, name: str, roots: list[str]) -> State:
    data = file.read_bytes()
    for read in (_from_torch, _from_numpy, _from_pickle, _from_joblib, _from_json, _from_text):
        try:
            value = read(data, name)
        except Exception:  # noqa: BLE001, S112 - of another format, or of a kind that only its writer can read
            continue
        if value is not _OTHER:
            return leaves(value, roots, name=f"{name}:")
    return {name: Leaf(xxhash.xxh3_128_hexdigest(data), f"{len(data):,} bytes", is_opaque=True)}


_OTHER = object()
"""The file is of another format."""


def _from_torch(data: bytes, name: str) -> Any:
    del name
    if not data.startswith(_OLD_TORCH) and not _zip_has(data, lambda entry: entry.endswith("/data.pkl")):
        return _OTHER
    return import_module("torch").load(io.BytesIO(data), map_location="cpu", weights_only=False)


def _from_numpy(data: bytes, name: str) -> Any:
    del name
    if data.startswith(b"\x93NUMPY") or _zip_has(data, lambda entry: entry.endswith(".npy")):
        loaded = import_module("numpy").load(io.BytesIO(data), allow_pickle=True)
        return {key: loaded[key] for key in loaded.files} if hasattr(loaded, "files") else loaded
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {entry: archive.read(entry) for entry in archive.namelist()}
    return _OTHER


def _from_pickle(data: bytes, name: str) -> Any:
    del name
    plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    if not plain.startswith(b"\x80"):
        return _OTHER if plain is data else plain
    stream = io.BytesIO(plain)
    value = pickle.load(stream)  # noqa: S301 - the trial itself does the same when it is restored
    # Several things may be in one file, and joblib's arrays lie between the pickles.
    return _OTHER if stream.read(1) else value


def _from_joblib(data: bytes, name: str) -> Any:
    if not name.endswith((".joblib", ".jbl", ".pkl", ".pickle", ".sav")):
        return _OTHER
    return import_module("joblib").load(io.BytesIO(data))


def _from_json(data: bytes, name: str) -> Any:
    return json.loads(data) if name.endswith(".json") else _OTHER


def _from_text(data: bytes, name: str) -> Any:
    del name
    return data.decode() if len(data) <= _MAX_TEXT_BYTES and b"\0" not in data else _OTHER


def _zip_has(data: bytes, matches: Callable[[str], bool]) -> bool:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return False
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return any(matches(entry) for entry in archive.namelist())
