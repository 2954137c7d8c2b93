"""The files of a journal, and reading them.

A journal is a folder of *segments*, ``000000000001.jsonl`` and on, without a gap. The chain of checksums (see
``framing``) runs on from one to the next. The first line of a segment is its header: format version, its own number,
and the number of records before it. Batches do not cross segments, and a segment is created with its first batch, so
there is never an empty one in good order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import msgspec

from tunekit.core.codec import FORMAT_VERSION, Record, decode
from tunekit.errors import JournalCorruptError, JournalVersionError, StorageError
from tunekit.journal.framing import Batch, find_damage, read_batches

_SEGMENT_NAME = re.compile(r"\d{12}\.jsonl")
_READ_BYTES = 2**20


class _Header(msgspec.Struct, frozen=True, kw_only=True, tag="segment", tag_field="kind"):
    """First line of each segment. Its form stays the same in all versions, so that any version can read the format."""

    format: int
    number: int
    """Counts from 1; the name of the file says the same."""
    first: int
    """Records in all segments before this one."""


def make_header(number: int, *, first: int) -> bytes:
    """Return the first line of a segment, as JSON."""
    return msgspec.json.encode(_Header(format=FORMAT_VERSION, number=number, first=first))


def read_records(folder: Path, *, holding: bytes = b"") -> Iterator[Record]:
    """Yield every whole record of the journal in this folder, oldest first, and change nothing.

    No folder is a journal without records. A journal that is being written can be read: it ends with the last batch
    that was whole when the reader came there.

    Args:
        folder: The folder of the segments.
        holding: Leave out every record whose line does not hold these bytes, which is cheaper than to decode it.

    Raises:
        JournalCorruptError: It is damaged where no crash can damage it.
        JournalVersionError: A newer tunekit wrote it.
        StorageError: The disk does not let us.
    """
    chain = count = 0
    try:
        for path in segments(folder):
            for batch in read_segment(path, chain, count):
                chain = batch.chain
                count += len(batch.payloads)
                yield from map(
                    decode, [line for line in batch.payloads if holding in line] if holding else batch.payloads
                )
    except OSError as error:
        raise StorageError(f"the journal in {folder} could not be read: {error}") from error


def read_segment(path: Path, chain: int, first: int) -> Iterator[Batch]:
    """Yield the batches of one segment, without its header.

    Args:
        path: Its file. If there is a next segment, then a torn end is damage, too.
        chain: Checksum of the last line of the segment before; 0 for the first.
        first: Records in all segments before.
    """
    end = 0
    with path.open("rb", buffering=_READ_BYTES) as file:
        for batch in read_batches(file, 0, chain):
            if end == 0:
                _check_header(path, batch.payloads.pop(0), first)
            end, chain = batch.end, batch.chain
            yield batch
        if end and end == file.seek(0, os.SEEK_END):
            return
        damage = find_damage(file, end, chain)
    if damage is not None:
        _corrupt(path, damage, end, "its checksum does not match")
    if segment_path(path.parent, segment_number(path) + 1).exists():
        _corrupt(path, end, end, "it ends in the middle of a batch, though a later segment follows")


def _check_header(path: Path, payload: bytes, first: int) -> None:
    try:
        header = msgspec.json.decode(payload, type=_Header)
    except msgspec.DecodeError as error:
        _corrupt(path, 0, 0, f"it does not begin with the header of a segment ({error})")
    if header.format > FORMAT_VERSION:
        raise JournalVersionError(
            f"{path} has format {header.format}, but this tunekit reads formats up to {FORMAT_VERSION}",
            hint="Open it with the version of tunekit that wrote it, or a newer one: pip install -U tunekit.",
        )
    if (header.number, header.first) != (segment_number(path), first):
        _corrupt(path, 0, 0, f"its header says segment {header.number} from record {header.first}, expected {first}")


def _corrupt(path: Path, offset: int, end: int, what: str) -> NoReturn:
    raise JournalCorruptError(
        f"the journal is damaged in {path} at byte {offset}: {what}. No crash of tunekit leaves such a trace",
        hint="Bring the file back from a copy. To give up everything after the last commit before the damage, "
        f"keep a copy of the folder, remove all later segments and run: truncate -s {end} {path}",
        path=str(path),
        offset=offset,
    )


def segment_path(folder: Path, number: int) -> Path:
    """Return where the segment of this number is, or would be."""
    return folder / f"{number:012d}.jsonl"


def segment_number(path: Path) -> int:
    """Return the number in a segment's name."""
    return int(path.stem)


def segments(folder: Path) -> list[Path]:
    """Return the segments in order, after a check that none is missing."""
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.iterdir() if _SEGMENT_NAME.fullmatch(path.name))
    for number, path in enumerate(paths, start=1):
        if segment_number(path) != number:
            missing = segment_path(folder, number)
            raise JournalCorruptError(
                f"the journal lacks its segment {missing}, though {path.name} is there",
                hint=f"Bring {missing.name} back from a copy of the folder.",
                path=str(missing),
                offset=0,
            )
    return paths
