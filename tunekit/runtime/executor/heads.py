"""Which attempts have come to the head of their worker's queue, so that it is at work on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from tunekit.core.events import TrialAssigned
from tunekit.runtime.line.wire import Assign, AttemptKey


@dataclass(slots=True)
class Held:
    """An attempt that a worker was given."""

    assign: Assign
    is_started: bool = False
    is_announced: bool = False
    """Whether it was said that its worker is at work on it."""
    is_recalled: bool = False
    is_told_to_stop: bool = False
    """Whether that was ordered, so that it is no wonder if it is ended."""
    head_s: float = 0.0
    """Of one whose worker is gone before it had started: for how long nothing else was before it."""

    @property
    def key(self) -> AttemptKey:
        """Which attempt it is."""
        return self.assign.trial, self.assign.attempt


def aged(queue: Iterable[Held], head_s: float) -> list[Held]:
    """Return what a worker that is gone had, the first of which it had been at work on for so many seconds."""
    held = list(queue)
    if held and not held[0].is_started:
        held[0].head_s = head_s
    return held


class Queue(Protocol):
    """A worker and what it has been given."""

    node: str
    held: dict[AttemptKey, Held]
    """In the order in which they will run."""


class Heads:
    """Remembers what is new of them until somebody asks.

    Args:
        announces: Whether anybody will.
    """

    def __init__(self, *, announces: bool) -> None:
        """Begin with no news."""
        self._announces = announces
        self._new: list[AttemptKey] = []

    def note(self, worker: Queue) -> None:
        """Something has come to the head of a worker's queue, unless that is empty."""
        if self._announces and worker.held:
            self._new.append(next(iter(worker.held)))

    def take(self, holder: Callable[[AttemptKey], Queue | None]) -> list[TrialAssigned]:
        """Return the news of attempts that have not started meanwhile.

        Args:
            holder: Returns the worker that has an attempt.
        """
        keys, self._new = self._new, []
        waiting = [(key, worker) for key in keys if (worker := holder(key)) and not worker.held[key].is_started]
        for key, worker in waiting:
            worker.held[key].is_announced = True
        return [TrialAssigned(trial=key[0], attempt=key[1], node=worker.node) for key, worker in waiting]
