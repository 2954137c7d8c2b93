"""The journal on an object store: one segment for each commit, created if it is absent.

The form is that of the journal on a disk (see ``framing`` and ``segments``), so that an experiment can be copied from
one to the other and go on there. What differs is that nothing can be appended to an object: each commit is a segment of
its own. Records that nobody acts upon therefore wait for others, for ``PATIENCE_S`` seconds at most.

**Who wrote it.** A segment appears as a whole or not at all, and what became of the attempt is told apart:

* *created*, or it holds our very bytes (the reply to an earlier try was lost): it is durable, and is acted upon.
* *somebody else's bytes* under our number: another driver goes on with this experiment. This one is fenced. It writes
  nothing more, since every later number of its own would come after the one that it lost.
* *unknown* (the store failed): the same bytes are tried again for a while. After that the journal is closed, and the
  next driver reads what is really there.

The header of a segment names its writer, so that no two drivers ever write the same bytes.

**Taking over.** A driver that takes the place of one that has not said good-bye first closes the end of the journal
with a segment that holds nothing: a driver that was only slow, and wrote meanwhile, is read and replayed as well; after
the closing it can write no more.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator, Iterator
from typing import NoReturn, TypeVar

from tunekit.core.codec import Record
from tunekit.errors import StorageError
from tunekit.journal.framing import seal
from tunekit.journal.lease import DriverLease
from tunekit.journal.pending import OpenedJournal, Reader, open_and_read
from tunekit.journal.remote_segments import read_remote_records, remote_contents, remote_numbers
from tunekit.journal.segments import make_header, scan_segment, segment_name
from tunekit.store.base import PutOutcome, Store

T = TypeVar("T")

PATIENCE_S = 1.0
"""Seconds for which records that nothing is done about may wait for others."""
_RETRIES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a segment is tried again whose fate the store does not tell …"""
_ENOUGH_S = 60.0
"""… unless so long has passed: a bucket's own retries, below these, take longer."""
_MAX_RACES = 100
"""How often a driver that is not dead, but no longer in charge, may be first with the next segment."""


class RemoteJournal(OpenedJournal):
    """The events and commands of an experiment, oldest first, on an object store. One thread, one writer.

    Args:
        store: The experiment.
        folder: The folder of the segments in it.
        lease: The right to write, which is held.
        read: Called once with every record, oldest first; None: they are verified only.
        pause: Waits; replaced by tests.

    Raises:
        JournalCorruptError: It is damaged where no crash can damage it.
        JournalVersionError: A newer tunekit wrote it.
        ExperimentExistsError: Another driver is writing.
        StorageError: The store does not let us.
    """

    patience_s = PATIENCE_S
    """Seconds for which records that nothing is done about may wait for others."""

    def __init__(
        self,
        store: Store,
        folder: str,
        lease: DriverLease,
        *,
        read: Reader | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Read all that is there, and close its end against a driver that was replaced."""
        super().__init__()
        self._store = store
        self._folder = folder
        self._lease = lease
        self._pause = pause
        self._torn = ""
        """Tag of a segment that is to be written over: no commit in it is whole."""
        self._read_all(read)

    @classmethod
    def replayed(
        cls, store: Store, folder: str, lease: DriverLease, read: Callable[[Iterator[Record]], T]
    ) -> tuple[RemoteJournal, T]:
        """Open the journal, and read it in the same pass.

        Args:
            store: The experiment.
            folder: The folder of the segments in it.
            lease: The right to write, which is held.
            read: Called once with every record, oldest first. What it raises leaves the journal unopened.

        Returns:
            The journal, and what ``read`` returned.
        """
        return open_and_read(lambda reader: cls(store, folder, lease, read=reader), read)

    def records(self) -> Iterator[Record]:
        """Yield every durable record, oldest first."""
        return read_remote_records(self._store, self._folder)

    # -- writing -------------------------------------------------------------------------------------------------------

    def _write(self, payloads: list[bytes]) -> None:
        """Write one segment, of which nothing is there if its number is somebody else's."""
        if not self._has_written(payloads):
            raise self._lease.fenced()

    def _has_written(self, payloads: list[bytes]) -> bool:
        """Write one segment. Return False if its number is somebody else's."""
        self._lease.check()
        number = self._number + 1
        header = make_header(number, first=self._num_records, writer=self._lease.token)
        data, end = seal([header, *payloads], self._chain)
        began = time.monotonic()
        outcome = self._put(number, data)
        for pause_s in _RETRIES_S:
            if outcome is not PutOutcome.UNKNOWN or time.monotonic() - began > _ENOUGH_S:
                break
            self._pause(pause_s)
            self._lease.check()
            outcome = self._put(number, data)
        if outcome is PutOutcome.UNKNOWN:
            self._fail(f"could not be written: it does not say what became of segment {number}")
        if outcome is PutOutcome.LOST:
            return False
        self._number, self._chain, self._torn = number, end, ""
        return True

    def _put(self, number: int, data: bytes) -> PutOutcome:
        key = self._key(number)
        outcome = self._store.replace(key, data, self._torn) if self._torn else self._store.put_if_absent(key, data)
        if outcome is PutOutcome.LOST and not self._is_there(number):
            return PutOutcome.UNKNOWN  # a service may report a conflict with a write that then came to nothing
        return outcome

    def _is_there(self, number: int) -> bool:
        try:
            self._store.read(self._key(number))
        except FileNotFoundError:
            return False
        except StorageError:
            return True
        return True

    def _fail(self, what: str) -> NoReturn:
        raise StorageError(f"the journal in {self._where} {what}", hint=self._hint)

    # -- opening -------------------------------------------------------------------------------------------------------

    def _scan(self) -> Generator[list[bytes]]:
        """Yield every batch up to the end, and hold the end when it is reached."""
        numbers = remote_numbers(self._store, self._folder)
        for number, data in remote_contents(self._store, self._folder, numbers):
            yield from self._take_in(number, data, has_next=number < len(numbers))
        if not self._lease.took_over:
            return
        for _ in range(_MAX_RACES):
            if self._has_written([]):
                return
            number = self._number + 1
            yield from self._take_in(number, self._store.read(self._key(number)), has_next=False)
        raise self._lease.fenced()

    def _take_in(self, number: int, data: bytes, *, has_next: bool) -> Iterator[list[bytes]]:
        """Yield the batches of one segment, and cut what is torn off the last one.

        Only a journal that comes from a disk can be torn: it was copied after a crash.
        """
        end = 0
        for batch in scan_segment(
            io.BytesIO(data),
            f"{self._where}/{segment_name(number)}",
            number,
            self._chain,
            self._num_records,
            has_next=lambda: has_next,
        ):
            end, self._number, self._chain = batch.end, number, batch.chain
            self._num_records += len(batch.payloads)
            yield batch.payloads
        if end < len(data) or not end:
            self._cut(number, data, end)

    def _cut(self, number: int, data: bytes, end: int) -> None:
        found, tag = self._store.read_tagged(self._key(number))
        if found != data:
            raise self._lease.fenced()
        if end == 0:
            self._torn = tag
            return
        outcome = self._store.replace(self._key(number), data[:end], tag)
        if outcome is PutOutcome.LOST:
            raise self._lease.fenced()
        if outcome is PutOutcome.UNKNOWN and self._store.read(self._key(number)) != data[:end]:
            self._fail(f"could not be written: the end of segment {number} is torn and cannot be cut off")

    def _key(self, number: int) -> str:
        return f"{self._folder}/{segment_name(number)}"

    @property
    def _where(self) -> str:
        return f"{self._store.uri.rstrip('/')}/{self._folder}"

    @property
    def _hint(self) -> str:
        return "Check that the storage is reachable, then run the script again: it goes on from the last commit."
