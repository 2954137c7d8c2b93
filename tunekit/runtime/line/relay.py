"""The way to the mailbox for workers on other machines: an actor on the driver's machine that passes frames on.

It keeps nothing. Killed, it costs those who wait for it an exchange, which they make again when Ray has started the
next one. It is started when there is somebody who needs it, because a process of Ray takes most of a second of a core.
"""

from __future__ import annotations

import threading
from collections import deque

from tunekit.runtime.line.door import Errand, Visitor

SPARE_THREADS = 8
"""For those who do not wait."""


class Relay:
    """The actor; its methods are called on many threads.

    Args:
        door: Name of the driver's door.
        max_waiting: Most calls that may wait for an order, each on one of the actor's threads; others are answered at
            once.
    """

    def __init__(self, door: str, max_waiting: int) -> None:
        """Knock with the first call."""
        self._door = door
        self._places = threading.Semaphore(max_waiting)
        self._idle: dict[Errand, deque[Visitor]] = {errand: deque() for errand in Errand}

    def exchange(self, frame: bytes, timeout_s: float) -> bytes:
        """Have the mailbox exchange a frame.

        Raises:
            ConnectionError: The driver cannot be reached.
        """
        if not self._places.acquire(blocking=False):
            return self._visit(Errand.EXCHANGE_AT_ONCE, frame, timeout_s)
        try:
            return self._visit(Errand.EXCHANGE, frame, timeout_s)
        finally:
            self._places.release()

    def contract(self, frame: bytes, timeout_s: float) -> bytes:
        """Ask what a worker is hired for.

        Raises:
            ConnectionError: The driver cannot be reached.
        """
        return self._visit(Errand.CONTRACT, frame, timeout_s)

    def _visit(self, errand: Errand, frame: bytes, timeout_s: float) -> bytes:
        try:
            visitor = self._idle[errand].pop()
        except IndexError:
            visitor = Visitor(self._door, errand, _refuse)
        try:
            return visitor(frame, timeout_s)
        finally:
            self._idle[errand].append(visitor)

    def close(self) -> None:
        """Hang up."""
        for visitors in self._idle.values():
            for visitor in visitors:
                visitor.close()


def _refuse(frame: bytes, timeout_s: float) -> bytes:
    del frame, timeout_s
    raise ConnectionError("the driver's door does not open")
