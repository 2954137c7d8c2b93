"""Requests for the objects below one folder of a bucket: tried again when they fail, several at a time.

What a request means for a checkpoint is not known here: see ``objects`` and ``object_shelf``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tunekit.errors import StorageError
from tunekit.logs import logger_of
from tunekit.store import layout
from tunekit.store.base import PutOutcome, storage_errors
from tunekit.store.object_client import PART_BYTES, ConflictError, Listed, ObjectClient, Patience
from tunekit.store.object_places import EMPTY

_logger = logger_of("tunekit")
_T = TypeVar("_T")
_A = TypeVar("_A")
_FILES_AT_ONCE = 8
"""Small files under way at the same time."""
_ONCE = Patience(deadline_s=0.0)


class ObjectRequests:
    """Asks a service until it answers.

    Args:
        client: Asks once.
        patience: How long requests are tried again.
    """

    def __init__(self, client: ObjectClient, patience: Patience) -> None:
        """Remember the parts; nothing is asked yet."""
        self.client = client
        """Asks once."""
        self._patience = patience

    def ask(self, doing: str, key: str, request: Callable[[], _T]) -> _T:
        """Return the answer to a request.

        Args:
            doing: What it does, for the error.
            key: The object that it is about, for the error.
            request: Makes it once.

        Raises:
            FileNotFoundError: There is no such object.
            ConflictError: Its condition does not hold.
            StorageError: The service fails.
        """
        return self._patience.until_done(doing, self.where(key), request)

    def where(self, key: str) -> str:
        """Return where an object is, for people."""
        return f"{self.client.uri.partition('?')[0].rstrip('/')}/{key}"

    # -- many objects --------------------------------------------------------------------------------------------------

    def listed(self, prefix: str) -> dict[str, Listed]:
        """Return what can be files; nobody may write where other keys lead, and they are none of ours."""

        def request() -> dict[str, Listed]:
            return {entry.key: entry for entry in self.client.listed(prefix) if not layout.leads_outside(entry.key)}

        return self.ask("list", prefix, request)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects. Not being there is fine."""
        if keys:
            self.ask("delete", keys[0], lambda: self.client.delete(keys))

    def copy(self, targets: Mapping[str, str]) -> None:
        """Copy objects inside the service."""
        _each(targets, lambda key: self.ask("copy", key, lambda: self.client.copy(key, targets[key])))

    def upload(self, prefix: str, folder: Path, names: Collection[str]) -> None:
        """Store files of a local folder below a prefix, and a trace of it where there are none."""

        def put(name: str) -> None:
            with storage_errors("read", folder / name):
                self.client.put(prefix + name, folder / name)

        with storage_errors("read", folder):
            sizes = {name: (folder / name).stat().st_size for name in names}
        _transfer(sizes, lambda name: self.ask("upload", prefix + name, lambda: put(name)))
        self.mark(prefix, names)

    def mark(self, prefix: str, names: Collection[str]) -> None:
        """Leave a trace of a folder that holds no file."""
        if not names:
            self.ask("upload", prefix + EMPTY, lambda: self.client.put(prefix + EMPTY, EMPTY.encode()))

    def download(self, prefix: str, folder: Path, sizes: Mapping[str, int]) -> None:
        """Get objects below a prefix as files of a local folder, which has the folders for them."""

        def get(name: str) -> None:
            path = folder / name

            def request() -> None:
                path.unlink(missing_ok=True)
                self.client.download(prefix + name, path)

            with storage_errors("write", path, absent_is_answer=True):
                self.ask("download", prefix + name, request)

        _transfer(sizes, get)

    # -- single objects ------------------------------------------------------------------------------------------------

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """Return the content of one object and the service's tag of it."""
        return self.ask("read", key, lambda: self.client.get(key))

    def write_if(self, key: str, data: bytes, request: Callable[[], None]) -> PutOutcome:
        """Make a conditional write, and where the answer was lost or is a conflict, find out whose bytes are there."""
        try:
            self.ask("write", key, request)
        except ConflictError:
            return self._whose(key, data, absent=PutOutcome.LOST, patience=self._patience)
        except StorageError as error:
            _logger.warning("%s", error.message)  # the caller learns no more than that nobody knows
            return self._whose(key, data, absent=PutOutcome.UNKNOWN, patience=_ONCE)  # all patience has been spent
        return PutOutcome.CREATED

    def abort_uploads(self, older_than_s: float) -> list[str]:
        """Drop the parts of large files whose writers died. Not tried again: that is done another day."""
        return _ONCE.until_done("clear up", self.where(""), lambda: self.client.abort_uploads(older_than_s))

    def _whose(self, key: str, data: bytes, *, absent: PutOutcome, patience: Patience) -> PutOutcome:
        try:
            found, _ = patience.until_done("read", self.where(key), lambda: self.client.get(key))
        except FileNotFoundError:
            return absent
        except StorageError:
            return PutOutcome.UNKNOWN
        return PutOutcome.MINE if found == data else PutOutcome.LOST


def _transfer(sizes: Mapping[str, int], work: Callable[[str], None]) -> None:
    """Transfer files: large ones one after the other, since each is many requests, then small ones side by side."""
    for name, size in sizes.items():
        if size > PART_BYTES:
            work(name)
    _each([name for name, size in sizes.items() if size <= PART_BYTES], work)


def _each(items: Iterable[_A], work: Callable[[_A], None]) -> None:
    """Do something for each of many, several at a time."""
    items = list(items)
    if len(items) == 1:
        work(items[0])
    elif items:
        with ThreadPoolExecutor(min(len(items), _FILES_AT_ONCE), thread_name_prefix="tunekit-objects") as threads:
            for _ in threads.map(work, items):
                pass
