"""When what was recorded becomes durable.

On a disk each turn of the driver ends with an fsync before anything is decided. On an object store every commit is an
object of its own, which costs money and a round trip, and is read again by each later driver. There, what the core
makes nothing of (a result between two horizons) waits for company, for a second at most; what the core answers with a
command is committed, together with everything before it, before the command is carried out. Nobody is told that
something is recorded before it is durable: neither observers nor the senders of events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tunekit.core.commands import Command
from tunekit.core.events import Event
from tunekit.runtime.line.children import Home


class Recorder(Protocol):
    """What the driver needs of the journal."""

    @property
    def patience_s(self) -> float:
        """Seconds for which records that nothing is done about may wait for others; 0: they never do."""
        ...

    def append(self, records: Sequence[Event | Command]) -> None:
        """Add records, in order."""
        ...

    def commit(self) -> None:
        """Make everything appended so far durable."""
        ...


class Commits:
    """Commits no more often than the journal likes.

    Args:
        journal: Where events become durable.
        clock: Seconds that never run backwards.
    """

    def __init__(self, journal: Recorder, clock: Callable[[], float]) -> None:
        """Begin with nothing to commit."""
        self._home = Home()
        self._journal = journal
        self._clock = clock
        self._since: float | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds until something that waits must be committed; None: nothing waits."""
        return None if self._since is None else max(0.0, self._since + self._journal.patience_s - self._clock())

    def record(self, events: Sequence[Event]) -> None:
        """Take new events, before they are decided about."""
        self._home.check()
        self._journal.append(events)
        if not self._journal.patience_s:
            self._journal.commit()
        elif self._since is None:
            self._since = self._clock()

    def answer(self, commands: Sequence[Command]) -> None:
        """Take what was decided. When it returns, the commands may be carried out."""
        if commands:
            self._journal.append(commands)
        if self._since is not None and (commands or not self.left_s):
            self.flush()

    def flush(self) -> None:
        """Commit what waits, if anything does."""
        if self._since is not None:
            self._journal.commit()
            self._since = None
