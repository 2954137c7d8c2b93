"""Who may draw from the generators of the process: its attempts, or somebody for a moment while none runs.

Attempts do not wait for each other: a trial may lead to a sweep of its own, on another thread even, and wait for that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


class Turns:
    """Lets attempts run at any time but in those moments."""

    def __init__(self) -> None:
        """Begin with nobody at work."""
        self._changed = threading.Condition()
        self._num_attempts = 0
        self._is_lent = False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run an attempt inside."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_lent)
            self._num_attempts += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_attempts -= 1
                self._changed.notify_all()

    @contextmanager
    def between(self) -> Iterator[None]:
        """Do something inside that takes a moment, and runs no attempt; wait for those that run."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._is_lent or self._num_attempts))
            self._is_lent = True
        try:
            yield
        finally:
            with self._changed:
                self._is_lent = False
                self._changed.notify_all()


TURNS: Final = Turns()
"""Those of this process."""
