"""Whose fault it is that a worker does not find the experiment's folder: its machine's, or everybody's.

A path that only the driver's machine has ends the run: no worker could ever save anything. A machine whose mount is
late shows an empty folder, too, and is no reason to end a sweep on a hundred others. What tells them apart is whether
any worker has found the folder. While none has, it is still open as long as another one is about to look.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from tunekit.core.events import Event, LaunchFailed, TrialStarted
from tunekit.runtime.executor.records import WorkerRecord
from tunekit.types import LossCause


class Sight:
    """Knows which workers of this run have looked for the folder."""

    def __init__(self) -> None:
        """Begin with none."""
        self._is_found = False
        self._blind: set[int] = set()

    def judged(self, event: Event, worker: int, workers: Iterable[WorkerRecord]) -> Event:
        """Return what a worker said; that it did not find the folder ends the run only if nobody does.

        Args:
            event: What it said.
            worker: Who.
            workers: All that there are.
        """
        if isinstance(event, TrialStarted):
            self._is_found = True
        if not isinstance(event, LaunchFailed) or not event.fatal or event.cause is not LossCause.STORAGE:
            return event
        self._blind.add(worker)
        if self._is_found or any(map(self._is_about_to_look, workers)):
            return structs.replace(event, fatal=False, local=True)
        return event

    def _is_about_to_look(self, record: WorkerRecord) -> bool:
        return record.id not in self._blind and any(not held.is_started for held in record.held.values())
