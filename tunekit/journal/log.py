"""The journal on a local disk: append-only segments, one fsync per commit.

How records become lines is told in ``framing``, and how lines fill segments in ``segments``.

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
import errno
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NoReturn, TypeVar

from tunekit.core.codec import Record, decode, encode
from tunekit.errors import StorageError
from tunekit.journal.durable import cut, make_folder, sync_folder, write_all
from tunekit.journal.framing import seal
from tunekit.journal.segments import make_header, read_records, read_segment, segment_number, segment_path, segments

T = TypeVar("T")

SEGMENT_BYTES = 64 * 2**20
"""Size from which on a new segment is begun."""

__all__ = ["SEGMENT_BYTES", "Journal", "read_records"]


class Journal:
    """The events and commands of an experiment, oldest first, on a local disk. One thread, one writer."""

    patience_s = 0.0
    """Records never wait for others: a commit costs no more than an fsync."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        read: Callable[[Iterator[Record]], object] | None = None,
    ) -> None:
        """Scan and open the journal; ``Journal.open`` and ``Journal.replayed`` read better."""
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._pending: list[bytes] = []
        self._fd: int | None = None
        self._closed = False
        self._number = 0
        self._size = 0
        self._chain = 0
        self._num_records = 0
        self._read_all(read)
        self._resume()

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

    @classmethod
    def replayed(cls, folder: Path, read: Callable[[Iterator[Record]], T]) -> tuple[Journal, T]:
        """Open the journal, and read it in the same pass that looks for its end.

        Args:
            folder: The folder of the segments.
            read: Called once with every durable record, oldest first. What it raises leaves the journal unopened.

        Returns:
            The journal, and what ``read`` returned.

        Raises:
            TunekitError: As ``open``.
        """
        found: list[T] = []
        journal = cls(folder, read=lambda records: found.append(read(records)))
        return journal, found[0]

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
        if os.fstat(self._fd).st_nlink == 0:  # The system goes on writing a file that somebody has removed.
            raise FileNotFoundError(errno.ENOENT, "it was removed", str(segment_path(self._folder, self._number)))
        self._size += len(data)
        self._chain = chain

    def _begin_segment(self) -> bytes:
        """Create the next segment and return its header."""
        self._close_file()
        self._number += 1
        self._size = 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        self._fd = os.open(segment_path(self._folder, self._number), flags, 0o600)
        return make_header(self._number, first=self._num_records)

    def _abandon(self) -> None:
        """Give the journal up after a failure, and take back what the failed commit may have written."""
        self._closed = True
        opened = self._fd is not None
        with contextlib.suppress(OSError):
            self._close_file()
        if opened:
            with contextlib.suppress(OSError):
                cut(segment_path(self._folder, self._number), self._size)

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

    def _read_all(self, read: Callable[[Iterator[Record]], object] | None) -> None:
        """Find the end of the journal, and let ``read`` have the records on the way there."""
        with contextlib.closing(self._scan()) as batches:
            if read is not None:
                read(chain.from_iterable(map(decode, payloads) for payloads in batches))
            for _ in batches:  # what nobody wanted to read must be in order, too
                pass

    def _scan(self) -> Generator[list[bytes]]:
        """Yield the records of each batch, and note where it ends. A segment without a whole batch is removed."""
        try:
            make_folder(self._folder, 0o700)
            for path in segments(self._folder):
                for batch in read_segment(path, self._chain, self._num_records):
                    self._number, self._size, self._chain = segment_number(path), batch.end, batch.chain
                    self._num_records += len(batch.payloads)
                    yield batch.payloads
                if self._number != segment_number(path):
                    cut(path, 0)
        except OSError as error:
            self._fail("opened", error)

    def _resume(self) -> None:
        """Cut what is torn off the last segment, open it for appending, and make durable what was found in it."""
        if not self._number:
            return
        path = segment_path(self._folder, self._number)
        try:
            if path.stat().st_size > self._size:
                cut(path, self._size)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.fsync(self._fd)
            sync_folder(self._folder)
        except OSError as error:
            self._close_file()
            self._fail("opened", error)
