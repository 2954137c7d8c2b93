"""Carries the core's commands to the store out, and answers each with one event.

On local disk a publication is two small writes, a rename and an fsync: too slow for the driver's thread at hundreds of
checkpoints a second, so that it runs on a thread of its own. Whatever goes wrong is an answer, never an exception: the
core decides what follows from it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from tunekit.core.commands import DeleteCheckpoint, PublishCheckpoint
from tunekit.core.events import (
    CheckpointDeleted,
    CheckpointPublished,
    DeleteFailed,
    Event,
    PublishFailed,
)
from tunekit.runtime.line.failure import error_info
from tunekit.runtime.line.spec import Delivery
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.types import TrialId

LANES_ACROSS_A_NETWORK = 8
"""Commands under way at once where each takes a few round trips."""
_FAREWELL_S = 5.0
"""Seconds to wait, after a failure, for what is under way."""

StoreCommand: TypeAlias = PublishCheckpoint | DeleteCheckpoint


class Publisher(Protocol):
    """Carries commands to the store out, now or soon."""

    def submit(self, commands: Sequence[StoreCommand]) -> list[Event]:
        """Take commands, and return those answers that are there already; the others reach the inbox."""
        ...

    def close(self, *, finish: bool = True) -> None:
        """End.

        Args:
            finish: Whether to carry out what was submitted. A driver that has failed leaves it to the next one, which
                finds in the journal what is open: it may not be the driver any more, or its storage not be there.
        """
        ...


class DirectPublisher:
    """Carries each command out at once, in the caller's thread.

    Args:
        io: The checkpoints of the experiment.
        trial_name: Gives the folder name of a trial.
        allowed: Raises if this driver may change nothing any more.
    """

    def __init__(
        self, io: CheckpointIO, trial_name: Callable[[TrialId], str], *, allowed: Callable[[], None] = lambda: None
    ) -> None:
        """Keep what is needed to carry commands out."""
        self._io = io
        self._trial_name = trial_name
        self._allowed = allowed

    def submit(self, commands: Sequence[StoreCommand]) -> list[Event]:
        """Carry the commands out, in order, and return their answers."""
        return [self._carry_out(command) for command in commands]

    def close(self, *, finish: bool = True) -> None:
        """Nothing is left to finish."""

    def _carry_out(self, command: StoreCommand) -> Event:
        act = self._publish if isinstance(command, PublishCheckpoint) else self._delete
        try:
            self._allowed()
            return act(command)
        except Exception as error:  # noqa: BLE001 - bad news from the store is an answer, not a crash of the driver
            return _failed(command, error)

    def _publish(self, command: StoreCommand) -> Event:
        manifest = command.manifest if isinstance(command, PublishCheckpoint) else {}
        self._io.publish(*self._place(command), manifest, exact=command.exact)
        return CheckpointPublished(**_about(command))

    def _delete(self, command: StoreCommand) -> Event:
        quarantine = isinstance(command, DeleteCheckpoint) and command.quarantine
        remove = self._io.quarantine if quarantine else self._io.delete
        remove(*self._place(command), exact=command.exact)
        return CheckpointDeleted(**_about(command))

    def _place(self, command: StoreCommand) -> tuple[str, int, int]:
        return self._trial_name(command.trial), command.iteration, command.attempt


def _failed(command: StoreCommand, error: Exception) -> Event:
    info = error_info(error)
    kind = PublishFailed if isinstance(command, PublishCheckpoint) else DeleteFailed
    return kind(**_about(command), error=info)


def _about(command: StoreCommand) -> dict[str, Any]:
    """Return what the answer to a command is about."""
    fields = ("trial", "attempt", "iteration", "exact")
    return {field: getattr(command, field) for field in fields}


class ThreadedPublisher:
    """Carries commands out on threads; what has piled up meanwhile is answered in one delivery.

    Publications go before deletions: somebody waits for them, and nobody for the space. Commands about the same place
    keep their order.

    Args:
        direct: Carries the commands out.
        inbox: Where the answers go.
        num_threads: How many commands are under way at once. One is best on a disk; across a network each command is a
            few round trips, which several trials need not wait for one after the other.
    """

    def __init__(self, direct: DirectPublisher, inbox: queue.SimpleQueue[Delivery], *, num_threads: int = 1) -> None:
        """Start the threads."""
        self._lanes = [_Lane(direct, inbox) for _ in range(num_threads)]

    def submit(self, commands: Sequence[StoreCommand]) -> list[Event]:
        """Queue the commands; their answers reach the inbox. All of one trial take the same thread."""
        num = len(self._lanes)
        for index, lane in enumerate(self._lanes):
            if mine := [command for command in commands if command.trial % num == index]:
                lane.commands.put(mine)
        return []

    def close(self, *, finish: bool = True) -> None:
        """End the threads, after what was submitted or after what they have begun; storage may hold that up."""
        for lane in self._lanes:
            lane.is_given_up = not finish
            lane.commands.put(None)
        end = None if finish else time.monotonic() + _FAREWELL_S
        for lane in self._lanes:
            lane.thread.join(None if end is None else max(0.0, end - time.monotonic()))


class _Lane:
    """One thread and what it has to do."""

    def __init__(self, direct: DirectPublisher, inbox: queue.SimpleQueue[Delivery]) -> None:
        self.commands: queue.SimpleQueue[Sequence[StoreCommand] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="tunekit-publisher", daemon=True)
        self._direct = direct
        self._inbox = inbox
        self._later: deque[DeleteCheckpoint] = deque()
        self._is_closing = False
        self.is_given_up = False
        """Whether nothing more is to be begun."""
        self.thread.start()

    def _work(self) -> None:
        while not self._is_closing or self._later:
            answers = [
                each for command in self._next() if not self.is_given_up for each in self._direct.submit([command])
            ]
            if answers:
                self._inbox.put(Delivery(answers))
            if self.is_given_up:
                return

    def _next(self) -> list[StoreCommand]:
        """Return what is to be done now: all publications that wait, or else one deletion."""
        ready: list[StoreCommand] = []
        while not self._is_closing:
            try:
                commands = self.commands.get(block=not (ready or self._later))
            except queue.Empty:
                break
            if commands is None:
                self._is_closing = True
                break
            for command in commands:
                self._sort(command, ready)
        if not ready and self._later:
            return [self._later.popleft()]
        return ready

    def _sort(self, command: StoreCommand, ready: list[StoreCommand]) -> None:
        if isinstance(command, DeleteCheckpoint):
            self._later.append(command)
            return
        first = [other for other in self._later if _place(other) == _place(command)]
        for other in first:
            self._later.remove(other)
        ready += [*first, command]


def _place(command: StoreCommand) -> tuple[TrialId, int]:
    return command.trial, command.iteration
