"""Exactly once, in order, over a channel that loses and repeats.

The sender numbers its messages from 1 and keeps each until the receiver has acknowledged it, cumulatively. After any
doubt (a failed call) it sends everything unacknowledged again. The receiver takes a message only if it is the next one:
what it has already is a repetition, and what lies beyond a gap will come again behind the message that is missing.
(Go-back-N, as in the textbooks; messages are lost only when a process dies, so that sending a few of them in vain costs
nothing.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice


class Outbox:
    """The sender's side: messages that have not been acknowledged."""

    def __init__(self) -> None:
        """Begin with nothing sent."""
        self._kept: deque[tuple[bytes, int]] = deque()
        self._acknowledged = 0
        self._sent = 0
        self.weight = 0
        """Sum of the weights of all messages that are kept."""

    def __len__(self) -> int:
        """Return how many messages are kept."""
        return len(self._kept)

    @property
    def last(self) -> int:
        """Number of the newest message, 0 before the first."""
        return self._acknowledged + len(self._kept)

    @property
    def has_unsent(self) -> bool:
        """Whether a message waits to be sent, or to be sent again."""
        return self._sent < self.last

    def put(self, message: bytes, weight: int = 1) -> None:
        """Add a message."""
        self._kept.append((message, weight))
        self.weight += weight

    def take_unsent(self) -> tuple[int, list[bytes]]:
        """Return what is to be sent now, and the number of its first message."""
        skip = self._sent - self._acknowledged
        messages = [message for message, _ in islice(self._kept, skip, None)]
        first, self._sent = self._sent + 1, self.last
        return first, messages

    def rewind(self) -> None:
        """Have everything that is kept sent again."""
        self._sent = self._acknowledged

    def acknowledge(self, number: int) -> None:
        """Forget all messages up to this number."""
        while self._acknowledged < number and self._kept:
            _, weight = self._kept.popleft()
            self.weight -= weight
            self._acknowledged += 1
        self._sent = max(self._sent, self._acknowledged)


class Inbox:
    """The receiver's side: what has come, in order."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self.received = 0
        """Number of the last message that was accepted; all before it were, too."""

    def accept(self, first: int, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Return those messages that are new and follow what is there without a gap."""
        skip = self.received + 1 - first
        if skip < 0 or skip >= len(messages):
            return ()
        fresh = messages[skip:]
        self.received += len(fresh)
        return fresh
