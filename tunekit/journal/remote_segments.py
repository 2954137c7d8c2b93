"""Reading the segments of a journal that are objects of their own."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from tunekit.core.codec import Record, decode
from tunekit.errors import JournalCorruptError
from tunekit.journal.segments import scan_segment, segment_name, segment_numbers
from tunekit.store.base import Store

_AHEAD = 16
"""Segments that are read at the same time."""
_FEW = 3
"""So many are not worth threads."""


def read_remote_records(store: Store, folder: str, *, holding: bytes = b"") -> Iterator[Record]:
    """Yield every record of a journal on an object store, oldest first, and change nothing.

    Args:
        store: The experiment.
        folder: The folder of the segments in it.
        holding: Leave out every record whose line does not hold these bytes, which is cheaper than to decode it.

    Raises:
        JournalCorruptError: It is damaged where no crash can damage it.
        JournalVersionError: A newer tunekit wrote it.
        StorageError: The store does not let us.
    """
    digest = count = 0
    numbers = remote_numbers(store, folder)
    for number, data in remote_contents(store, folder, numbers):
        name = f"{store.uri.rstrip('/')}/{folder}/{segment_name(number)}"
        has_next = partial(len(numbers).__gt__, number)
        for batch in scan_segment(io.BytesIO(data), name, number, digest, count, has_next=has_next):
            digest = batch.chain
            count += len(batch.payloads)
            yield from map(decode, [line for line in batch.payloads if holding in line])


def remote_numbers(store: Store, folder: str) -> range:
    """Return the numbers of the segments, after a check that none is missing."""
    return segment_numbers(store.sizes(folder), f"{store.uri.rstrip('/')}/{folder}")


def remote_contents(store: Store, folder: str, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each segment in order, and read some ahead."""

    def read(number: int) -> bytes:
        key = f"{folder}/{segment_name(number)}"
        try:
            return store.read(key)
        except FileNotFoundError as error:
            raise JournalCorruptError(
                f"the segment {key} of the journal in {store.uri} was there a moment ago, and is gone",
                hint="Somebody is removing or moving this experiment; look at it again when that has ended.",
                path=key,
                offset=0,
            ) from error

    numbers = list(numbers)
    if len(numbers) <= _FEW:
        yield from ((number, read(number)) for number in numbers)
        return
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="tunekit-journal") as pool:
        waiting: deque[tuple[int, Future[bytes]]] = deque()
        try:
            for number in numbers:
                waiting.append((number, pool.submit(read, number)))
                if len(waiting) >= _AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
