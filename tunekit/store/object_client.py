"""The few requests that an object store is asked for, and how they are tried again.

``ObjectStore`` knows how checkpoints are published with them; a client knows how one kind of service is asked. So a
test can stand between the two and lose any reply.

A client answers, or raises one of four: ``FileNotFoundError`` (the key does not exist), ``ConflictError`` (the
condition of a conditional write was not met), ``RequestError`` with ``may_pass`` (what became of a write is not known)
and ``RequestError`` without it (asking again would be answered alike).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from tunekit.errors import StorageError
from tunekit.logs import logger_of

_logger = logger_of("tunekit")
_T = TypeVar("_T")
PART_BYTES = 5 << 20
"""Files larger than this are transferred in parts, several at a time, and so one file after the other."""


_SILENT_S = 10.0
"""Seconds of failures that are nobody's business; then whoever waits is told what for."""


class Listed(NamedTuple):
    """One object of a listing."""

    key: str
    size: int
    tag: str
    """Another one whenever the content is another one."""
    modified: float
    """Unix seconds, by the clock of the service."""


class ConflictError(Exception):
    """A conditional write found something else than it was to find."""


class RequestError(Exception):
    """A request failed, or was not answered.

    Args:
        message: What the service or the network said.
        may_pass: Whether it may succeed when it is tried again.
    """

    def __init__(self, message: str, *, may_pass: bool = True) -> None:
        """Keep both."""
        super().__init__(message)
        self.may_pass = may_pass


class ObjectClient(Protocol):
    """One folder of one bucket. Keys are relative to it. Safe to be used by several threads; can be pickled."""

    @property
    def atomic(self) -> bool:
        """Whether nobody else can write between the check of a condition and the write."""
        ...

    @property
    def uri(self) -> str:
        """The URI of the folder, with what else is needed to reach it, but no secrets."""
        ...

    def listed(self, prefix: str) -> Iterable[Listed]:
        """Yield every object whose key begins with ``prefix``, which is empty or ends with ``/``."""
        ...

    def get(self, key: str) -> tuple[bytes, str]:
        """Return the content of a small object, and its tag."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Write the content of an object to a new local file."""
        ...

    def put(self, key: str, source: bytes | Path) -> None:
        """Create or overwrite an object, all of it or nothing; a large file in parts, several at a time."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Create an object unless it exists."""
        ...

    def swap(self, key: str, data: bytes, tag: str) -> None:
        """Overwrite an object if it has this tag."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy an object without its bytes coming here, if the service can."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects. Not being there is fine."""
        ...

    def abort_uploads(self, older_than_s: float) -> list[str]:
        """Drop what was uploaded of files, this long ago, that never came to be whole; return their keys."""
        ...


def pause(failures: int) -> float:
    """Return the seconds to wait after so many failures: at random, up to a bound that doubles.

    So those who failed at the same moment do not all come back at the same moment.
    """
    return random.uniform(0, min(5.0, 0.1 * 2.0 ** min(failures, 9)))  # noqa: S311 - spreads requests, keeps no secret


@dataclass(frozen=True)
class Patience:
    """How long requests are tried again.

    Args:
        deadline_s: Seconds from the first try after which none is made any more.
        pause: Seconds to wait after a number of failures.
        clock: Monotonic seconds.
        sleep: Waits so many seconds.
    """

    deadline_s: float = 120.0
    pause: Callable[[int], float] = pause
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def until_done(self, doing: str, where: str, request: Callable[[], _T]) -> _T:
        """Return what ``request`` returns, trying again while it fails in a way that may pass.

        Args:
            doing: What is tried, as in "could not <doing> <where>".
            where: The URI that it is tried on.
            request: Can be repeated.

        Raises:
            FileNotFoundError: The key does not exist.
            ConflictError: The condition of a conditional write was not met.
            StorageError: It failed for good, or until the deadline.
        """
        began = self.clock()
        failures, is_said = 0, False
        while True:
            try:
                return request()
            except RequestError as error:
                failures += 1
                wait, since = self.pause(failures), self.clock() - began
                if not error.may_pass or since + wait > self.deadline_s:
                    raise _storage_error(doing, where, error, failures) from error
                if since > _SILENT_S and not is_said:
                    is_said = True
                    left = self.deadline_s - since
                    _logger.warning("still trying to %s %s, for up to %.0f s more: %s", doing, where, left, error)
            self.sleep(wait)


def _storage_error(doing: str, where: str, error: RequestError, tries: int) -> StorageError:
    tried = f" (tried {tries} times)" if tries > 1 else ""
    hint = (
        "check that the storage is reachable and healthy"
        if error.may_pass
        else "check the credentials, the name of the bucket, and what they allow"
    )
    return StorageError(f"could not {doing} {where}: {error}{tried}", hint=hint, errno=None, path=where)
