"""A safetensors file, written straight from memory and read straight into it.

The format is eight bytes with the length of a header, the header as JSON, and the bytes of all tensors without gaps.
It can hold nothing that runs, and any reader of safetensors can open it. The library of that name is not used: it would
have every byte copied once more before it is written, and says nothing about what was read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from tunekit.store.arrays import Leaf, copy_joined
from tunekit.types import Json

_ALIGNMENT: Final = 8
_MAX_HEADER_BYTES: Final = 100_000_000
"""More is refused by other readers."""
_PIECE_BYTES: Final = 1 << 23
_PARALLEL_BYTES: Final = 1 << 24
_MAX_THREADS: Final = 4
"""New memory is slow to touch for the first time, and for that the system uses several processors."""


class TensorLayout:
    """Where each leaf lies in the file: those of large items first, so that each is aligned to its items."""

    def __init__(self, leaves: Sequence[Leaf], names: Sequence[str]) -> None:
        """Lay them out."""
        placed = sorted(zip(leaves, names, strict=True), key=lambda pair: -pair[0].item_bytes)
        self.leaves = [leaf for leaf, _ in placed]
        self.num_bytes = sum(leaf.num_bytes for leaf in leaves)
        """Of all leaves, without the header."""
        self._about = [(name, leaf.dtype, leaf.shape, leaf.num_bytes) for leaf, name in placed]

    def header(self) -> bytes:
        """Return what comes before the bytes of the leaves; nothing if there are none."""
        if not self._about:
            return b""
        start = 0
        header: dict[str, Json] = {"__metadata__": {"written_by": "tunekit"}}
        for name, dtype, shape, num_bytes in self._about:
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + num_bytes]}
            start += num_bytes
        text = msgspec.json.encode(header)
        text += b" " * (-len(text) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    def copy_to(self, buffer: Any) -> None:
        """Copy the leaves into a flat array of bytes, as they will lie in the file."""
        start = 0
        for small_type, group in groupby(self.leaves, _small_type):
            leaves = list(group)
            end = start + sum(leaf.num_bytes for leaf in leaves)
            if small_type is not None and start % small_type.itemsize == 0:  # Fields may have odd sizes.
                copy_joined(leaves, buffer[start:end])
            else:
                _copy_each(leaves, buffer[start:end])
            start = end

    def views(self) -> Iterator[memoryview]:
        """Yield the bytes of each leaf as they are when it is its turn."""
        for leaf in self.leaves:
            yield leaf.view()


def _small_type(leaf: Leaf) -> Any:
    """Return the type of a tensor that is copied together with its neighbours; None for any other leaf."""
    return leaf.value.dtype if leaf.is_small else None


def _copy_each(leaves: Sequence[Leaf], buffer: Any) -> None:
    start = 0
    for leaf in leaves:
        leaf.copy_to(buffer[start : start + leaf.num_bytes])
        start += leaf.num_bytes


class TensorFile:
    """Reads a file of tensors.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is none.
    """

    def __init__(self, path: Path) -> None:
        """Open it, and read its header."""
        self._file = path.open("rb", buffering=0)
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def describe(self, name: str) -> tuple[str, list[int], int]:
        """Return type, shape and number of bytes of a tensor.

        Raises:
            KeyError: There is none of this name.
        """
        entry = self._entries[name]
        return entry.dtype, entry.shape, entry.data_offsets[1] - entry.data_offsets[0]

    def read_into(self, wanted: Sequence[tuple[str, memoryview]]) -> None:
        """Fill each ``memoryview`` with the bytes of the tensor of that name, on several processors if they are many.

        Raises:
            ValueError: One has another number of bytes.
        """
        pieces: list[tuple[memoryview, int]] = []
        for name, target in wanted:
            start, end = self._entries[name].data_offsets
            if target.nbytes != end - start:
                raise ValueError(f"{name!r} has {end - start} bytes, but {target.nbytes} are needed")
            offsets = range(0, target.nbytes, _PIECE_BYTES)
            pieces += [(target[at : at + _PIECE_BYTES], self._start + start + at) for at in offsets]
        if sum(piece.nbytes for piece, _ in pieces) < _PARALLEL_BYTES:
            for piece in pieces:
                self._read(piece)
        else:
            with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
                deque(pool.map(self._read, pieces), maxlen=0)

    def _read(self, piece: tuple[memoryview, int]) -> None:
        target, offset = piece
        while target:
            count = os.preadv(self._file.fileno(), [target], offset)
            if not count:
                raise ValueError("it ends before its last tensor does")
            target, offset = target[count:], offset + count

    def _read_header(self) -> None:
        length = int.from_bytes(self._file.read(8), "little")
        if not 0 < length <= min(self._size - 8, _MAX_HEADER_BYTES):
            raise ValueError(f"its header cannot be {length} bytes long")
        header = msgspec.json.decode(self._file.read(length), type=dict[str, Any])
        header.pop("__metadata__", None)
        self._entries = msgspec.convert(header, dict[str, _Entry])
        self._start = 8 + length
        for name, entry in self._entries.items():
            start, end = entry.data_offsets
            if not 0 <= start <= end <= self._size - self._start or min(entry.shape, default=0) < 0:
                raise ValueError(f"{name!r} cannot be where its header says")


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]
