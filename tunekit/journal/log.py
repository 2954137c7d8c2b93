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

**After a takeover** the driver before may still have the newest segment open, and may be stopped in the middle of a
commit. Its lock has been replaced by then, so whatever it writes from there on it will not act upon. The journal puts a
copy in the place of that segment, so that the open file has no name any more. Then it reads, and begins the next
segment itself, in the place of one that the driver before may just have begun. A commit asks a *guard* whether the lock
is still ours, before it writes and again when all is durable: a commit that was acted upon was there before the lock
was replaced, and so before the copy was made.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

from tunekit.core.codec import Record
from tunekit.errors import ExperimentExistsError, StorageError, TunekitError
from tunekit.journal.durable import cut, cut_same, make_folder, replace_file, sync_folder, write_all
from tunekit.journal.framing import seal
from tunekit.journal.pending import OpenedJournal, Reader, open_and_read
from tunekit.journal.segments import (
    detach_end,
    make_header,
    read_records,
    read_segment,
    segment_number,
    segment_path,
    segments,
)

T = TypeVar("T")

SEGMENT_BYTES = 64 * 2**20
"""Size from which on a new segment is begun."""

__all__ = ["SEGMENT_BYTES", "Journal", "read_records"]


class Journal(OpenedJournal):
    """The events and commands of an experiment, oldest first, on a local disk. One thread, one writer."""

    patience_s = 0.0
    """Records never wait for others: a commit costs no more than an fsync."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        read: Reader | None = None,
        guard: Callable[[], None] = lambda: None,
        closes: bool = False,
    ) -> None:
        """Scan and open the journal; ``Journal.open`` and ``Journal.replayed`` read better."""
        super().__init__()
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._guard = guard
        self._closes = closes
        self._fd: int | None = None
        self._size = 0
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
    def replayed(
        cls,
        folder: Path,
        read: Callable[[Iterator[Record]], T],
        *,
        guard: Callable[[], None] = lambda: None,
        closes: bool = False,
    ) -> tuple[Journal, T]:
        """Open the journal, and read it in the same pass that looks for its end.

        Args:
            folder: The folder of the segments.
            read: Called once with every durable record, oldest first. What it raises leaves the journal unopened.
            guard: Raises if another driver has taken over; asked before and after each commit.
            closes: Whether the driver before may still have the journal open.

        Returns:
            The journal, and what ``read`` returned.

        Raises:
            TunekitError: As ``open``.
        """
        return open_and_read(lambda reader: cls(folder, read=reader, guard=guard, closes=closes), read)

    def records(self) -> Iterator[Record]:
        """Yield every durable record, oldest first."""
        return read_records(self._folder)

    @property
    def _where(self) -> str:
        return str(self._folder)

    @property
    def _hint(self) -> str:
        return "Run the script again: it goes on from the last commit."

    # -- writing -------------------------------------------------------------------------------------------------------

    def _write(self, payloads: list[bytes]) -> None:
        """Write one batch. It counts only if nobody has taken over by the time at which it is durable."""
        try:
            self._guard()
            self._write_batch(payloads)
            self._guard()
        except ExperimentExistsError:
            self._let_go()
            raise
        except BaseException as error:
            self._abandon()
            if isinstance(error, OSError) and not isinstance(error, TunekitError):
                with contextlib.suppress(StorageError):
                    self._guard()  # a file that was replaced may look like a broken disk
                self._fail("written", error)
            raise

    def _write_batch(self, payloads: list[bytes]) -> None:
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
        self._let_go()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        self._fd = os.open(segment_path(self._folder, self._number + 1), flags, 0o600)
        self._number += 1
        self._size = 0
        return make_header(self._number, first=self._num_records)

    def _abandon(self) -> None:
        """Give the journal up after a failure, and take back what the failed commit may have written.

        It is taken back from the very file that it was written to: the name may be another driver's file by now.
        """
        if self._fd is None:
            return
        with contextlib.suppress(OSError):
            mine = os.fstat(self._fd)
            self._let_go()
            cut_same(segment_path(self._folder, self._number), self._size, mine)
        with contextlib.suppress(OSError):
            self._let_go()

    def _let_go(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _fail(self, verb: str, error: OSError) -> NoReturn:
        raise StorageError(
            f"the journal in {self._folder} could not be {verb}: {error}",
            hint="Make room or mend the disk, then run the script again: it goes on from the last commit.",
        ) from error

    # -- opening -------------------------------------------------------------------------------------------------------

    def _scan(self) -> Generator[list[bytes]]:
        """Yield the records of each batch, and note where it ends. A segment without a whole batch is removed."""
        try:
            make_folder(self._folder, 0o700)
            for path in detach_end(self._folder) if self._closes else segments(self._folder):
                number = segment_number(path)
                for batch in read_segment(path, self._chain, self._num_records):
                    self._number, self._size, self._chain = number, batch.end, batch.chain
                    self._num_records += len(batch.payloads)
                    yield batch.payloads
                if self._number != number and not self._closes:
                    cut(path, 0)
        except OSError as error:
            if isinstance(error, TunekitError):
                raise
            self._fail("opened", error)

    def _resume(self) -> None:
        """Cut what is torn off the last segment, open it for appending, and make durable what was found in it."""
        if not self._number and not self._closes:
            return
        try:
            path = segment_path(self._folder, self._number)
            if self._number and path.stat().st_size > self._size:
                cut(path, self._size)
            if self._closes:
                path = self._close_end()
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.fsync(self._fd)
            sync_folder(self._folder)
        except OSError as error:
            self._let_go()
            self._fail("opened", error)

    def _close_end(self) -> Path:
        """Begin a segment where the driver before would begin its next one, or just has, and return it."""
        self._number += 1
        path = segment_path(self._folder, self._number)
        data, self._chain = seal([make_header(self._number, first=self._num_records)], self._chain)
        replace_file(path, data)
        self._size = len(data)
        return path
