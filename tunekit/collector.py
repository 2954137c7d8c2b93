"""Python's garbage collector, off while a great many objects are made that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_rests = False
"""Whether it was on before, and is to be on again."""


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep Python from looking for garbage among what only grows."""
    global _rests  # noqa: PLW0603 - the collector is one for the process, too
    was_enabled = gc.isenabled()
    _rests = _rests or was_enabled
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
            _rests = False


def wake() -> None:
    """Turn it on in a process that another thread has forked meanwhile, which would go without it for good."""
    global _rests  # noqa: PLW0603 - as above
    if _rests:
        gc.enable()
        _rests = False
