"""The journal on a local disk: append-only segments, one fsync per commit.

A journal is a folder of *segments*, ``000000000001.jsonl`` and on, without a gap. The chain of checksums (see
``framing``) runs on from one to the next. The first line of a segment is its header: format version, its own number,
and the number of records before it. Batches do not cross segments, and a segment is created with its first batch, so
there is never an empty one in good order.

``append`` only remembers. ``commit`` writes everything appended since the last one with one write and one fsync; when
it returns, and not before, those records may be acted on. Appending commands without a commit is fine: they ride with
the next, and losing them loses nothing, since replay computes them again.

After a write or an fsync has failed, nobody knows what the disk holds: the system may have dropped the pages and will
call the next fsync a success. The journal then closes its file for good, cuts the batch off as far as that is possible,
and raises ``StorageError``. Opening it anew reads what is really there.

``open`` syncs what it found, since a driver that was killed between write and fsync leaves records that are visible but
not yet durable, and the next driver acts on them. Locking is not done here: see ``lock``.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from tunekit.core.codec import FORMAT_VERSION, Record, decode, encode
from tunekit.errors import JournalCorruptError, JournalVersionError, StorageError
from tunekit.journal.durable import cut, make_folder, sync_folder, write_all
from tunekit.journal.framing import Batch, find_damage, read_batches, seal

SEGMENT_BYTES = 64 * 2**20
"""Size from which on a new segment is begun."""

_SEGMENT_NAME = re.compile(r"(\d{12})\.jsonl")
_READ_BYTES = 2**20


class _Header(msgspec.Struct, frozen=True, kw_only=True, tag="segment", tag_field="kind"):
    """First line of each segment. Its form stays the same in all versions, so that any version can read the format."""

    format: int
    number: int
    """Counts from 1; the name of the file says the same."""
    first: int
    """Records in all segments before this one."""


class Journal:
    """The events and commands of an experiment, oldest first, on a local disk. One thread, one writer."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Scan and open the journal; ``Journal.open`` reads better."""
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._pending: list[bytes] = []
        self._fd: int | None = None
        self._closed = False
        self._number = 0
        self._size = 0
        self._chain = 0
        self._num_records = 0
        try:
            make_folder(folder, 0o700)
            self._recover()
        except OSError as error:
            self._fail("opened", error)

    @classmethod
    def open(cls, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> Journal:
        """Open the journal in this folder for writing; create it if there is none. A torn tail is cut.

        Args:
            folder: The folder of the segments.
            segment_bytes: Size from which on a new segment is begun.

        Raises:
            JournalCorruptError: It is damaged where no crash can damage it.
            JournalVersionError: A newer tunekit wrote it.
            StorageError: The disk does not let us.
        """
        return cls(folder, segment_bytes=segment_bytes)

    @property
    def num_records(self) -> int:
        """How many records are durable."""
        return self._num_records

    @property
    def closed(self) -> bool:
        """Whether it takes no more records: it was closed, or a write failed."""
        return self._closed

    def records(self) -> Iterator[Record]:
        """Yield every durable record, oldest first."""
        return read_records(self._folder)

    def append(self, records: Sequence[Record]) -> None:
        """Remember the records for the next commit.

        Raises:
            ReportError: A record holds a value that has no JSON form; none of the records is kept.
            StorageError: The journal is closed.
        """
        self._check_open()
        self._pending += [encode(record) for record in records]

    def commit(self) -> None:
        """Make everything that was appended durable.

        Raises:
            StorageError: The disk does not let us. The journal is closed, and what was appended is lost.
        """
        self._check_open()
        if not self._pending:
            return
        try:
            self._write(self._pending)
        except BaseException as error:
            self._abandon()
            if isinstance(error, OSError):
                self._fail("written", error)
            raise
        self._num_records += len(self._pending)
        self._pending = []

    def close(self) -> None:
        """Commit and close. Closing a second time does nothing."""
        if self._closed:
            return
        self.commit()
        self._closed = True
        self._close_file()

    # -- writing -------------------------------------------------------------------------------------------------------

    def _write(self, payloads: list[bytes]) -> None:
        """Write one batch, into a new segment if it is time for one."""
        begins = self._fd is None or self._size >= self._segment_bytes
        if begins:
            payloads = [self._begin_segment(), *payloads]
        assert self._fd is not None  # noqa: S101 - for the type checker
        data, chain = seal(payloads, self._chain)
        write_all(self._fd, data)
        os.fsync(self._fd)
        if begins:
            sync_folder(self._folder)
        self._size += len(data)
        self._chain = chain

    def _begin_segment(self) -> bytes:
        """Create the next segment and return its header."""
        self._close_file()
        self._number += 1
        self._size = 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        self._fd = os.open(_segment_path(self._folder, self._number), flags, 0o600)
        return msgspec.json.encode(_Header(format=FORMAT_VERSION, number=self._number, first=self._num_records))

    def _abandon(self) -> None:
        """Give the journal up after a failure, and take back what the failed commit may have written."""
        self._closed = True
        opened = self._fd is not None
        with contextlib.suppress(OSError):
            self._close_file()
        if opened:
            with contextlib.suppress(OSError):
                cut(_segment_path(self._folder, self._number), self._size)

    def _close_file(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(
                f"the journal in {self._folder} is closed",
                hint="Run the script again: it goes on from the last commit.",
            )

    def _fail(self, verb: str, error: OSError) -> NoReturn:
        raise StorageError(
            f"the journal in {self._folder} could not be {verb}: {error}",
            hint="Make room or mend the disk, then run the script again: it goes on from the last commit.",
        ) from error

    # -- opening -------------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Find the end of the journal, cut a torn tail, and open the last segment for appending."""
        for path in _segments(self._folder):
            end = 0
            for batch in _read_segment(path, self._chain, self._num_records):
                end, self._chain = batch.end, batch.chain
                self._num_records += len(batch.payloads)
            if end == 0:
                cut(path, 0)
                return
            self._number, self._size = _number(path), end
        if self._number:
            self._resume(_segment_path(self._folder, self._number))

    def _resume(self, path: Path) -> None:
        """Open the last segment for appending, and make durable what was found in it."""
        if path.stat().st_size > self._size:
            cut(path, self._size)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.fsync(self._fd)
            sync_folder(self._folder)
        except OSError:
            self._close_file()
            raise


def read_records(folder: Path) -> Iterator[Record]:
    """Yield every whole record of the journal in this folder, oldest first, and change nothing.

    No folder is a journal without records. A journal that is being written can be read: it ends with the last batch
    that was whole when the reader came there.

    Raises:
        JournalCorruptError: It is damaged where no crash can damage it.
        JournalVersionError: A newer tunekit wrote it.
        StorageError: The disk does not let us.
    """
    chain = count = 0
    try:
        for path in _segments(folder):
            for batch in _read_segment(path, chain, count):
                chain = batch.chain
                count += len(batch.payloads)
                yield from map(decode, batch.payloads)
    except OSError as error:
        raise StorageError(f"the journal in {folder} could not be read: {error}") from error


def _read_segment(path: Path, chain: int, first: int) -> Iterator[Batch]:
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
    if _segment_path(path.parent, _number(path) + 1).exists():
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
    if (header.number, header.first) != (_number(path), first):
        _corrupt(path, 0, 0, f"its header says segment {header.number} from record {header.first}, expected {first}")


def _corrupt(path: Path, offset: int, end: int, what: str) -> NoReturn:
    raise JournalCorruptError(
        f"the journal is damaged in {path} at byte {offset}: {what}. No crash of tunekit leaves such a trace",
        hint="Bring the file back from a copy. To give up everything after the last commit before the damage, "
        f"keep a copy of the folder, remove all later segments and run: truncate -s {end} {path}",
        path=str(path),
        offset=offset,
    )


def _segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:012d}.jsonl"


def _number(path: Path) -> int:
    return int(path.stem)


def _segments(folder: Path) -> list[Path]:
    """Return the segments in order, after a check that none is missing."""
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.iterdir() if _SEGMENT_NAME.fullmatch(path.name))
    for number, path in enumerate(paths, start=1):
        if _number(path) != number:
            missing = _segment_path(folder, number)
            raise JournalCorruptError(
                f"the journal lacks its segment {missing}, though {path.name} is there",
                hint=f"Bring {missing.name} back from a copy of the folder.",
                path=str(missing),
                offset=0,
            )
    return paths
