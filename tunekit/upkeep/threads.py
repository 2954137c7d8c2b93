"""Many small requests to a store that is far away, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from tunekit.store.shelf import Shelf
from tunekit.store.shelves import LocalShelf

_AT_ONCE = 16
_A = TypeVar("_A")
_T = TypeVar("_T")


def each(work: Callable[[_A], _T], items: Iterable[_A], *shelves: Shelf) -> Iterator[_T]:
    """Yield what ``work`` returns for each item, in order.

    What is done on this machine alone is done one after another: a disk is not quicker for several.

    Args:
        work: Called for each item; in threads if one of the shelves is far away.
        items: The items.
        shelves: Where the work is done.

    Raises:
        Exception: What ``work`` raised; of what has not begun yet nothing is begun any more.
    """
    if all(isinstance(shelf, LocalShelf) for shelf in shelves):
        yield from map(work, items)
        return
    rest = iter(items)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tunekit-upkeep") as threads:
        waiting: list[Future[_T]] = [threads.submit(work, item) for item in islice(rest, 2 * _AT_ONCE)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [threads.submit(work, item) for item in islice(rest, 1)]
        finally:
            for future in waiting:
                future.cancel()
