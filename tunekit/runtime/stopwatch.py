"""What a trial's own seconds go into, as far as only its worker can tell: waiting for saves, loading the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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

    def take_blocked(self) -> float:
        """Return the seconds that were waited since the last time that somebody asked."""
        taken, self._blocked_s = self._blocked_s, 0.0
        return round(taken, 4)

    def take_loaded(self) -> float:
        """Return the seconds in which the checkpoint was loaded, likewise."""
        taken, self._loaded_s = self._loaded_s, 0.0
        return round(taken, 4)
