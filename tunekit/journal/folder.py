"""An experiment's folder, wherever it is: its header, its journal, and the right to write them.

On a disk these are files that are locked, appended to and synced; on an object store they are objects that are created
if they are absent, and replaced if they are as they were read. Whoever runs an experiment sees the same few methods.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from xxhash import xxh3_64_hexdigest

from tunekit.core.codec import Record
from tunekit.errors import StorageError
from tunekit.journal.durable import remove_drafts
from tunekit.journal.header import (
    HEADER_NAME,
    ExperimentHeader,
    create_header,
    header_content,
    holds_one_already,
    parse_header,
    read_header,
    replace_header,
)
from tunekit.journal.holder import parse_holder
from tunekit.journal.lease import LEASE_NAME, LEASE_S, DriverLease
from tunekit.journal.lock import DriverLock, folder_nonce
from tunekit.journal.log import Journal
from tunekit.journal.remote import RemoteJournal
from tunekit.journal.remote_segments import read_remote_records
from tunekit.journal.right import DriverRight
from tunekit.journal.segments import read_records
from tunekit.store.base import PutOutcome, Store
from tunekit.store.joining import joined
from tunekit.store.opening import open_store, resolve

T = TypeVar("T")
_HINT = "check that the storage is reachable and may be written to"


class OpenJournal(Protocol):
    """The journal of an experiment that this driver may write."""

    @property
    def patience_s(self) -> float:
        """Seconds for which records that nothing is done about may wait for others."""
        ...

    def append(self, records: Sequence[Record]) -> None:
        """Remember records for the next commit."""
        ...

    def commit(self) -> None:
        """Make everything that was appended durable."""
        ...

    def close(self) -> None:
        """Commit and close."""
        ...


class ExperimentFolder(Protocol):
    """What an experiment says of itself, and who may say more."""

    @property
    def path(self) -> str:
        """The absolute local path or the URI."""
        ...

    def taken(self, *, takeover: bool = False) -> AbstractContextManager[DriverRight]:
        """Hold the right to write, or raise ``ExperimentExistsError``. What a driver left that died is tidied up.

        Args:
            takeover: Whether to take the right from a driver that holds it.
        """
        ...

    def header(self) -> ExperimentHeader | None:
        """Return what ``experiment.json`` holds, or None if there is none."""
        ...

    def begin(self, header: ExperimentHeader) -> None:
        """Write ``experiment.json``, as a whole or not at all, and never over another one."""
        ...

    def begin_again(self, header: ExperimentHeader) -> None:
        """Write ``experiment.json`` over one that binds nobody yet, and forget the journal, which spoke of that one."""
        ...

    def replayed(self, read: Callable[[Iterator[Record]], T]) -> tuple[OpenJournal, T]:
        """Open the journal for writing, and have it read in the same pass. The right to write is held."""
        ...

    def records(self, *, holding: bytes = b"") -> Iterator[Record]:
        """Yield every durable record whose line holds these bytes, oldest first; write nothing."""
        ...

    def nonce(self) -> str:
        """Return a text that only this folder shows, and only while its present driver runs."""
        ...


class LocalExperiment:
    """An experiment in a local folder, or in one that all machines have mounted."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self._folder = folder
        self._right = DriverLock(folder)

    @property
    def path(self) -> str:
        """The absolute path."""
        return str(self._folder)

    def taken(self, *, takeover: bool = False) -> AbstractContextManager[DriverRight]:
        """Lock the folder."""
        return _taken(self._right, takeover)

    def header(self) -> ExperimentHeader | None:
        """Read the file."""
        return read_header(self._folder)

    def begin(self, header: ExperimentHeader) -> None:
        """Create the file."""
        create_header(self._folder, header)

    def begin_again(self, header: ExperimentHeader) -> None:
        """Empty the journal, then replace the file."""
        replace_header(self._folder, header, journal=self._journal())

    def replayed(self, read: Callable[[Iterator[Record]], T]) -> tuple[OpenJournal, T]:
        """Open the segments, with the drafts of a driver that was killed out of the way."""
        remove_drafts(self._folder)
        right, journal = self._right, self._journal()
        if right.took_over:
            remove_drafts(journal)
        opened = Journal.replayed(journal, read, guard=right.check, closes=right.took_over)
        right.end_is_closed()
        return opened

    def records(self, *, holding: bytes = b"") -> Iterator[Record]:
        """Read the segments."""
        return read_records(self._journal(), holding=holding)

    def nonce(self) -> str:
        """Digest the header, and what the lock's files say of this driver."""
        return folder_nonce(self._folder)

    def _journal(self) -> Path:
        header = self.header()
        return self._folder / (header.journal if header else "journal")


class RemoteExperiment:
    """An experiment on an object store, or in memory.

    Args:
        store: The experiment's folder.
        lease_s: Without a sign of life for so long, a driver counts as dead; None: as usual.
    """

    def __init__(self, store: Store, *, lease_s: float | None = None) -> None:
        """Remember the store; nothing is asked yet."""
        self._store = store
        self._lease = DriverLease(store, lease_s=LEASE_S if lease_s is None else lease_s)

    @property
    def path(self) -> str:
        """The URI."""
        return self._store.uri

    def taken(self, *, takeover: bool = False) -> AbstractContextManager[DriverRight]:
        """Take the lease."""
        return _taken(self._lease, takeover)

    def header(self) -> ExperimentHeader | None:
        """Read the object."""
        return self._header()[0]

    def begin(self, header: ExperimentHeader) -> None:
        """Create the object."""
        self._put(header, None)

    def begin_again(self, header: ExperimentHeader) -> None:
        """Replace the object by one that names another folder for the journal; this is one step."""
        before, tag = self._header()
        name = f"journal-{self._lease.generation}"
        self._put(msgspec.structs.replace(header, journal=name), tag)
        if before is not None and before.journal != name:
            self._store.remove(before.journal)

    def replayed(self, read: Callable[[Iterator[Record]], T]) -> tuple[OpenJournal, T]:
        """Open the segments."""
        return RemoteJournal.replayed(self._store, self._journal(), self._lease, read)

    def records(self, *, holding: bytes = b"") -> Iterator[Record]:
        """Read the segments."""
        return read_remote_records(self._store, self._journal(), holding=holding)

    def nonce(self) -> str:
        """Digest the header, and the token of the driver that holds the lease."""
        try:
            header, lease = self._store.read(HEADER_NAME), self._store.read(LEASE_NAME)
        except FileNotFoundError:
            return ""
        holder = parse_holder(lease)
        return xxh3_64_hexdigest(header + (holder.token.encode() if holder else b""))

    def _journal(self) -> str:
        header = self.header()
        return header.journal if header else "journal"

    def _header(self) -> tuple[ExperimentHeader | None, str | None]:
        try:
            content, tag = self._store.read_tagged(HEADER_NAME)
        except FileNotFoundError:
            return None, None
        return parse_header(joined(self.path, HEADER_NAME), content), tag

    def _put(self, header: ExperimentHeader, tag: str | None) -> None:
        content = header_content(header)
        outcome = self._store.replace(HEADER_NAME, content, tag)
        if outcome is PutOutcome.UNKNOWN:
            outcome = self._store.replace(HEADER_NAME, content, tag)
        if outcome is PutOutcome.UNKNOWN:
            raise StorageError(f"{joined(self.path, HEADER_NAME)} could not be written", hint=_HINT, path=self.path)
        if outcome is PutOutcome.LOST:
            raise holds_one_already(self.path) if tag is None else self._lease.fenced()


@contextmanager
def _taken(right: DriverRight, takeover: bool) -> Iterator[DriverRight]:  # noqa: FBT001 - used twice, above
    right.acquire(takeover=takeover)
    try:
        yield right
    finally:
        right.release()


def experiment_folder(place: str | os.PathLike[str] | Store) -> ExperimentFolder:
    """Return the experiment in a local folder, at a URI, or in a store. Touches nothing.

    Raises:
        ConfigError: It is empty, or its scheme is not supported.
    """
    if not isinstance(place, str | os.PathLike):
        return RemoteExperiment(place)
    where = resolve(place)
    return RemoteExperiment(open_store(where, create=False)) if "://" in where else LocalExperiment(Path(where))


def experiment_nonce(path: str) -> str:
    """Return a text that only this experiment's folder shows, and only while its present driver runs.

    A worker that finds another one, or none, at the driver's path sees another place. Empty: there is no experiment.

    Raises:
        StorageError: It cannot be read.
    """
    return experiment_folder(path).nonce()
