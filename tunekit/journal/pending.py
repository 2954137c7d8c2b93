"""What journals have in common, wherever they are: records wait in memory for the commit that makes them durable."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from tunekit.core.codec import Record, decode, encode
from tunekit.errors import StorageError

J = TypeVar("J")
T = TypeVar("T")
Reader = Callable[[Iterator[Record]], object]
"""Called once with every durable record, oldest first."""


class OpenedJournal(ABC):
    """A journal that one driver writes. One thread, one writer."""

    def __init__(self) -> None:
        """Begin with an empty one."""
        self._pending: list[bytes] = []
        self._closed = False
        self._number = 0
        """Of the newest segment; 0: there is none."""
        self._chain = 0
        """Checksum of the newest line."""
        self._num_records = 0

    @property
    def num_records(self) -> int:
        """How many records are durable."""
        return self._num_records

    @property
    def closed(self) -> bool:
        """Whether it takes no more records: it was closed, it was fenced, or a write failed."""
        return self._closed

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
            ExperimentExistsError: Another driver has taken over. The journal is closed; nothing written counts.
            StorageError: The storage does not let us. The journal is closed, and what was appended is lost.
        """
        self._check_open()
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        self._closed = True  # and it stays so unless all goes well
        self._write(pending)
        self._closed = False
        self._num_records += len(pending)

    def close(self) -> None:
        """Commit and close. Closing a second time does nothing."""
        if not self._closed:
            self.commit()
            self._closed = True
            self._let_go()

    @property
    @abstractmethod
    def _where(self) -> str:
        """What the journal is called in errors."""

    @property
    @abstractmethod
    def _hint(self) -> str:
        """What to do when it cannot be written."""

    @abstractmethod
    def _write(self, payloads: list[bytes]) -> None:
        """Write one batch durably, or let go of everything and raise."""

    def _let_go(self) -> None:  # noqa: B027 - not every journal holds something
        """Close what is open."""

    @abstractmethod
    def _scan(self) -> Generator[list[bytes]]:
        """Yield the records of each batch, and note where the journal ends."""

    def _read_all(self, read: Reader | None) -> None:
        """Find the end of the journal, and let ``read`` have the records on the way there."""
        with contextlib.closing(self._scan()) as batches:
            if read is not None:
                read(chain.from_iterable(map(decode, payloads) for payloads in batches))
            for _ in batches:  # what nobody wanted to read must be in order, too
                pass

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"the journal in {self._where} is closed", hint=self._hint)


def open_and_read(make: Callable[[Reader], J], read: Callable[[Iterator[Record]], T]) -> tuple[J, T]:
    """Return a journal that is read in the same pass that looks for its end, and what ``read`` returned."""
    found: list[T] = []
    journal = make(lambda records: found.append(read(records)))
    return journal, found[0]
