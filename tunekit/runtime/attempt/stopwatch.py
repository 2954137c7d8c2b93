"""What a trial's own seconds go into, as far as only its worker can tell: waiting for saves, loading the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Adds up seconds until they are taken, by the thread that reports.

    Args:
        clock: Seconds since any moment, which never run backwards.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with none."""
        self._clock = clock
        self._blocked_s = self._loaded_s = 0.0

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Count the block as time in which user code waits for a save."""
        began_at = self._clock()
        try:
            yield
        finally:
            self._blocked_s += self._clock() - began_at

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Count the block as time in which user code loads its checkpoint."""
        began_at = self._clock()
        try:
            yield
        finally:
            self._loaded_s += self._clock() - began_at

    def take_blocked(self) -> dict[str, Any]:
        """Return ``blocked_s``, the seconds that were waited since the last time that somebody asked.

        A zero is left out: it would be written into every line of the journal.
        """
        taken, self._blocked_s = round(self._blocked_s, 4), 0.0
        return {"blocked_s": taken} if taken else {}

    def take_loaded(self) -> dict[str, Any]:
        """Return ``loaded_s``, the seconds in which the checkpoint was loaded, likewise."""
        taken, self._loaded_s = round(self._loaded_s, 4), 0.0
        return {"loaded_s": taken} if taken else {}
