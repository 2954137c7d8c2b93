"""The thread that finishes saves behind the trial: hashing, syncing, uploading.

It has room for two: one at work and one that waits. Who brings a third waits, unless the one that waits may be replaced
by a newer one. So a trial is never more than two saves ahead of its storage, and what it holds in memory and on disk is
bounded.

Whoever brings a save leaves it to the thread in one step. Until that step its cleaning up is the caller's business, and
from then on the thread's; an exception out of nowhere, such as a signal handler may raise in the main thread, finds it
on one side or on the other.
"""

from __future__ import annotations

import threading
from typing import Protocol


class Job(Protocol):
    """A save that is to be finished."""

    @property
    def is_replaceable(self) -> bool:
        """Whether a newer one makes it superfluous."""
        ...

    def finish(self) -> None:
        """Do it. Raises nothing."""
        ...

    def abandon(self) -> None:
        """Clean up what was prepared, from any thread. Raises nothing. What is being finished ends soon."""
        ...


class Persister:
    """Finishes jobs one after another on a thread that lives while there is something to do.

    Args:
        name: What the thread is called.
    """

    def __init__(self, name: str) -> None:
        """Start nothing yet."""
        self._name = name
        self._changed = threading.Condition()
        self._running: Job | None = None
        self._waiting: Job | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight."""
        with self._changed:
            return self._is_idle()

    def make_room(self) -> None:
        """Return when a job can be submitted at once; one that waits and may be replaced is abandoned for it."""
        with self._changed:
            if self._waiting is not None and self._waiting.is_replaceable:
                self._waiting.abandon()
                self._waiting = None
            while self._waiting is not None:
                self._changed.wait()

    def submit(self, job: Job) -> bool:
        """Take a job over, for which there must be room. Return False if the system has no thread for it."""
        with self._changed:
            if self._waiting is not None or self._is_closed:
                raise RuntimeError("no room for another save")
            if self._thread is None and not self._start():
                return False
            self._waiting = job
            self._changed.notify_all()
            return True

    def settle(self) -> None:
        """Return when nothing is in flight."""
        with self._changed:
            while not self._is_idle():
                self._changed.wait()

    def close(self) -> None:
        """Abandon what is in flight, and end the thread."""
        with self._changed:
            self._is_closed = True
            for job in (self._waiting, self._running):
                if job is not None:
                    job.abandon()
            self._waiting = None
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _is_idle(self) -> bool:
        return self._waiting is None and self._running is None

    def _start(self) -> bool:
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.finish()
            finally:
                with self._changed:
                    self._running = None
                    self._changed.notify_all()

    def _next(self) -> Job | None:
        with self._changed:
            while self._waiting is None and not self._is_closed:
                self._changed.wait()
            job, self._waiting = self._waiting, None
            self._running = job
            self._changed.notify_all()
            return job
