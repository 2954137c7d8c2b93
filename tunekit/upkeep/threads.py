"""Many small requests to a store that is far away, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from tunekit.store.shelf import Shelf
from tunekit.store.shelves import LocalShelf

_AT_ONCE = 16
_WRITERS = 4
"""On this machine."""
_A = TypeVar("_A")
_T = TypeVar("_T")


def each(work: Callable[[_A], _T], items: Iterable[_A], *shelves: Shelf, writes: bool = False) -> Iterator[_T]:
    """Yield what ``work`` returns for each item, in order.

    What is read on this machine alone is read one after another: a disk is not quicker for several. What is written is
    waited for until it is durable, and those that wait at the same time share a commit of the file system.

    Args:
        work: Called for each item; in threads if one of the shelves is far away, or if it ``writes``.
        items: The items.
        shelves: Where the work is done.
        writes: Whether it writes.

    Raises:
        Exception: What ``work`` raised; of what has not begun yet nothing is begun any more.
    """
    is_local = all(isinstance(shelf, LocalShelf) for shelf in shelves)
    if is_local and not writes:
        yield from map(work, items)
        return
    at_once = _WRITERS if is_local else _AT_ONCE
    rest = iter(items)
    with ThreadPoolExecutor(at_once, thread_name_prefix="tunekit-upkeep") as threads:
        waiting: list[Future[_T]] = [threads.submit(work, item) for item in islice(rest, 2 * at_once)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [threads.submit(work, item) for item in islice(rest, 1)]
        finally:
            for future in waiting:
                future.cancel()
