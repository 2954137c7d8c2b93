"""Carries the core's commands to the store out, and answers each with one event.

On local disk a publication is two small writes, a rename and an fsync: too slow for the driver's thread at hundreds of
checkpoints a second, so that it runs on a thread of its own, in the order of the commands. Whatever goes wrong is an
answer, never an exception: the core decides what follows from it.
"""

from __future__ import annotations

import queue
import threading
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
from tunekit.runtime.failure import error_info
from tunekit.runtime.spec import Delivery
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.types import TrialId

StoreCommand: TypeAlias = PublishCheckpoint | DeleteCheckpoint


class Publisher(Protocol):
    """Carries commands to the store out, now or soon."""

    def submit(self, commands: Sequence[StoreCommand]) -> list[Event]:
        """Take commands, and return those answers that are there already; the others reach the inbox."""
        ...

    def close(self) -> None:
        """Finish what was submitted."""
        ...


class DirectPublisher:
    """Carries each command out at once, in the caller's thread.

    Args:
        io: The checkpoints of the experiment.
        trial_name: Gives the folder name of a trial.
    """

    def __init__(self, io: CheckpointIO, trial_name: Callable[[TrialId], str]) -> None:
        """Keep what is needed to carry commands out."""
        self._io = io
        self._trial_name = trial_name

    def submit(self, commands: Sequence[StoreCommand]) -> list[Event]:
        """Carry the commands out, in order, and return their answers."""
        return [self._carry_out(command) for command in commands]

    def close(self) -> None:
        """Nothing is left to finish."""

    def _carry_out(self, command: StoreCommand) -> Event:
        act = self._publish if isinstance(command, PublishCheckpoint) else self._delete
        try:
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
    """Carries commands out on one thread, in order; what has piled up meanwhile is answered in one delivery.

    Args:
        direct: Carries the commands out.
        inbox: Where the answers go.
    """

    def __init__(self, direct: DirectPublisher, inbox: queue.SimpleQueue[Delivery]) -> None:
        """Start the thread."""
        self._direct = direct
        self._inbox = inbox
        self._commands: queue.SimpleQueue[Sequence[StoreCommand] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tunekit-publisher", daemon=True)
        self._thread.start()

    def submit(self, commands: Sequence[StoreCommand]) -> list[Event]:
        """Queue the commands; their answers reach the inbox."""
        if commands:
            self._commands.put(commands)
        return []

    def close(self) -> None:
        """Finish what was submitted, and end the thread."""
        self._commands.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (commands := self._commands.get()) is not None:
            self._inbox.put(Delivery(self._direct.submit(commands)))
