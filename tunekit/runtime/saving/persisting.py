"""The thread that finishes saves behind the trial: hashing, syncing, uploading.

It has room for two: one at work and one that waits. Who brings a third waits, unless the one that waits may be replaced
by a newer one. So a trial is never more than two saves ahead of its storage, and what it holds in memory and on disk is
bounded.

Whoever brings a save leaves it to the thread in one step. Until that step its cleaning up is the caller's business, and
from then on the thread's; an exception out of nowhere, such as a signal handler may raise in the main thread, finds it
on one side or on the other.

Such an exception is also why there is no ``threading.Condition`` here. It is written in Python, so the exception may
come while it holds its lock and nobody is there to release it, or while it has given it away. A plain lock is taken or
not, and what has changed is told through queues, each of which one side reads: first it is told, then it is done, both
under the lock, so that whoever hears of it finds it done; hearing of nothing does no harm.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

_PATIENCE = 100
"""Tries, a millisecond apart, to meet a thread that may be about to begin."""


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
        self._lock = threading.Lock()
        self._for_thread: SimpleQueue[None] = SimpleQueue()
        """Something may have changed that the thread waits for."""
        self._for_caller: SimpleQueue[None] = SimpleQueue()
        """Something may have changed that whoever brings saves waits for."""
        self._running: Job | None = None
        self._waiting: Job | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight."""
        with self._lock:
            return self._is_idle()

    def make_room(self) -> None:
        """Return when a job can be submitted at once; one that waits and may be replaced is abandoned for it."""
        with self._lock:
            if self._waiting is not None and self._waiting.is_replaceable:
                self._waiting.abandon()
                self._waiting = None
        self._until(lambda: self._waiting is None)

    def submit(self, job: Job) -> bool:
        """Take a job over, for which there must be room. Return False if the system has no thread for it."""
        with self._lock:
            if self._waiting is not None or self._is_closed:
                raise RuntimeError("no room for another save")
            if self._thread is None and not self._start():
                return False
            self._for_thread.put(None)
            self._waiting = job
            return True

    def settle(self) -> None:
        """Return when nothing is in flight."""
        self._until(self._is_idle)

    def close(self) -> None:
        """Abandon what is in flight, and end the thread."""
        with self._lock:
            self._for_thread.put(None)
            self._is_closed = True
            for job in (self._running, self._waiting):
                if job is not None:
                    job.abandon()
            self._for_caller.put(None)
            self._waiting = None
        if self._thread is not None:
            _join(self._thread)

    def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds, which is looked at under the lock."""
        while True:
            with self._lock:
                if holds():
                    return
            self._for_caller.get()

    def _is_idle(self) -> bool:
        return self._waiting is None and self._running is None

    def _start(self) -> bool:
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            return False
        return True

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.finish()
            finally:
                with self._lock:
                    self._running = None
                    self._for_caller.put(None)

    def _next(self) -> Job | None:
        while True:
            self._for_thread.get()
            with self._lock:
                if self._waiting is not None or self._is_closed:
                    job, self._waiting = self._waiting, None
                    self._running = job
                    self._for_caller.put(None)
                    return job


def _join(thread: threading.Thread) -> None:
    """Wait for the end of a thread, even if an exception out of nowhere came while it was being started."""
    for _ in range(_PATIENCE):
        with contextlib.suppress(RuntimeError):  # It is about to begin, or never will.
            thread.join()
            return
        time.sleep(0.001)
