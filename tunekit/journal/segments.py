"""The files of a journal, and reading them.

A journal is a folder of *segments*, ``000000000001.jsonl`` and on, without a gap. The chain of checksums (see
``framing``) runs on from one to the next. The first line of a segment is its header: format version, its own number,
and the number of records before it. Batches do not cross segments, and a segment is created with its first batch, so
there is never an empty one in good order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

from tunekit.core.codec import FORMAT_VERSION, Record, decode
from tunekit.errors import JournalCorruptError, JournalVersionError, StorageError
from tunekit.journal.durable import replace_file
from tunekit.journal.framing import Batch, find_damage, read_batches

_SEGMENT_NAME = re.compile(r"\d{12}\.jsonl")
_READ_BYTES = 2**20


class _Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="segment", tag_field="kind"):
    """First line of each segment. Its form stays the same in all versions, so that any version can read the format."""

    format: int
    number: int
    """Counts from 1; the name of the file says the same."""
    first: int
    """Records in all segments before this one."""
    writer: str = ""
    """Unlike that of any other driver, so that no two of them ever write the same bytes; empty on a local disk."""


def make_header(number: int, *, first: int, writer: str = "") -> bytes:
    """Return the first line of a segment, as JSON."""
    return msgspec.json.encode(_Header(format=FORMAT_VERSION, number=number, first=first, writer=writer))


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
        raise StorageError(
            f"the journal in {folder} could not be read: {error}",
            hint="Check that the disk is there and may be read, then run the script again.",
        ) from error


def read_segment(path: Path, chain: int, first: int) -> Iterator[Batch]:
    """Yield the batches of one segment, without its header.

    Args:
        path: Its file. If there is a next segment, then a torn end is damage, too.
        chain: Checksum of the last line of the segment before; 0 for the first.
        first: Records in all segments before.
    """
    number = segment_number(path)
    with path.open("rb", buffering=_READ_BYTES) as file:
        yield from scan_segment(
            file, str(path), number, chain, first, has_next=lambda: segment_path(path.parent, number + 1).exists()
        )


def scan_segment(
    file: BinaryIO, name: str, number: int, chain: int, first: int, *, has_next: Callable[[], bool]
) -> Iterator[Batch]:
    """Yield the batches of one segment, without its header.

    Args:
        file: What it holds.
        name: What it is called in errors.
        number: Its number.
        chain: Checksum of the last line of the segment before; 0 for the first.
        first: Records in all segments before.
        has_next: Whether there is a next segment: then a torn end is damage, too.

    Raises:
        JournalCorruptError: It is damaged where no crash can damage it.
        JournalVersionError: A newer tunekit wrote it.
    """
    end = 0
    for batch in read_batches(file, 0, chain):
        if end == 0:
            _check_header(name, number, batch.payloads.pop(0), first)
        end, chain = batch.end, batch.chain
        yield batch
    if end and end == file.seek(0, os.SEEK_END):
        return
    damage = find_damage(file, end, chain)
    if damage is not None:
        _corrupt(name, damage, end, "its checksum does not match")
    if has_next():
        _corrupt(name, end, end, "it ends in the middle of a batch, though a later segment follows")


def _check_header(name: str, number: int, payload: bytes, first: int) -> None:
    try:
        header = msgspec.json.decode(payload, type=_Header)
    except (msgspec.DecodeError, RecursionError) as error:
        _corrupt(name, 0, 0, f"it does not begin with the header of a segment ({error})")
    if header.format > FORMAT_VERSION:
        raise JournalVersionError(
            f"{name} has format {header.format}, but this tunekit reads formats up to {FORMAT_VERSION}",
            hint="Open it with the version of tunekit that wrote it, or a newer one: pip install -U tunekit.",
        )
    if (header.number, header.first) != (number, first):
        _corrupt(name, 0, 0, f"its header says segment {header.number} from record {header.first}, expected {first}")


def _corrupt(name: str, offset: int, end: int, what: str) -> NoReturn:
    cut = f"cut this one to its first {end} bytes" if "://" in name else f"run: truncate -s {end} {name}"
    raise JournalCorruptError(
        f"the journal is damaged in {name} at byte {offset}: {what}. No crash of tunekit leaves such a trace",
        hint="Bring the file back from a copy. To give up everything after the last commit before the damage, "
        f"keep a copy of the folder, remove all later segments and {cut}",
        path=name,
        offset=offset,
    )


def segment_path(folder: Path, number: int) -> Path:
    """Return where the segment of this number is, or would be."""
    return folder / segment_name(number)


def segment_number(path: Path) -> int:
    """Return the number in a segment's name."""
    return int(path.stem)


def segments(folder: Path) -> list[Path]:
    """Return the segments in order, after a check that none is missing."""
    if not folder.is_dir():
        return []
    numbers = segment_numbers((path.name for path in folder.iterdir()), str(folder))
    return [segment_path(folder, number) for number in numbers]


def detach_end(folder: Path) -> list[Path]:
    """Put the end of the journal out of reach of a driver that has been replaced, and return what is to be read.

    The newest segment gives its place to a copy: whoever has it open writes to a file without a name from now on. A
    segment that such a driver begins after this look at the folder holds nothing that it acts upon, and is not read.
    """
    found = segments(folder)
    if found:
        replace_file(found[-1], found[-1].read_bytes())
    return found


def segment_name(number: int) -> str:
    """Return the name of the segment of this number."""
    return f"{number:012d}.jsonl"


def segment_numbers(names: Iterable[str], folder: str) -> range:
    """Return the numbers of the segments among these names, after a check that none is missing.

    Args:
        names: Names of files in the folder of the journal.
        folder: What it is called in errors.

    Raises:
        JournalCorruptError: A segment is missing.
    """
    found = sorted(name for name in names if _SEGMENT_NAME.fullmatch(name))
    for number, name in enumerate(found, start=1):
        if name != segment_name(number):
            missing = segment_name(number)
            raise JournalCorruptError(
                f"the journal lacks its segment {folder}/{missing}, though {name} is there",
                hint=f"Bring {missing} back from a copy of the folder.",
                path=f"{folder}/{missing}",
                offset=0,
            )
    return range(1, len(found) + 1)
