"""Runs single attempts without a driver, and keeps what they sent: for tests of trainables and of the worker's side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tunekit.core.cadence import Outlook
from tunekit.core.commands import ContinueTrial, StopTrial
from tunekit.core.events import CheckpointStaged, Event, ResultReported, TrialSaving
from tunekit.runtime.attempt.attempt import run_attempt
from tunekit.runtime.line.channel import Preempted
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.store.local import LocalStore


class RecordingChannel:
    """Keeps every event, and answers by script.

    Args:
        answers: What a trial is told that waits at its horizon, one by one; after them it may go on for ever.
        stop_at: From the row of this iteration on, an order to stop is pending.
        stop: That order, or another reason to stop.
    """

    def __init__(
        self,
        answers: list[ContinueTrial | StopTrial] | None = None,
        *,
        stop_at: int | None = None,
        stop: StopTrial | Preempted | None = None,
    ) -> None:
        """Begin with nothing sent."""
        self.events: list[Event] = []
        self.num_waits = 0
        self.told: Outlook | None = None
        """What the trial is told after its launch that it may expect."""
        self._answers = list(answers or [])
        self._stop_at = stop_at
        self.is_saving = False
        self._stop = stop if stop is not None else StopTrial(trial=0, attempt=1)

    def send(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    def wait(self) -> ContinueTrial | StopTrial:
        """Give the next answer."""
        self.num_waits += 1
        return self._answers.pop(0) if self._answers else ContinueTrial(trial=0, attempt=1)

    def pending_stop(self) -> StopTrial | Preempted | None:
        """Give the order to stop once its row has come."""
        return self._stop if self._stop_at is not None and len(self.rows) >= self._stop_at else None

    def outlook(self) -> Outlook | None:
        """Give what it is told."""
        return self.told

    def flush(self) -> None:
        """Nothing is held back."""

    @property
    def kinds(self) -> list[str]:
        """Name of each event's class, with its iteration if it has one, such as ``ResultReported 3``.

        ``TrialSaving`` is left out: saves end when they end, so before or after it.
        """
        told = (event for event in self.events if not isinstance(event, TrialSaving))
        return [" ".join([type(event).__name__, *_iteration(event)]) for event in told]

    @property
    def last_words(self) -> Event:
        """The newest event, as if no save had kept the trial waiting."""
        event = self.events[-1]
        return msgspec.structs.replace(event, blocked_s=0.0) if hasattr(event, "blocked_s") else event

    @property
    def rows(self) -> list[ResultReported]:
        """The results."""
        return [event for event in self.events if isinstance(event, ResultReported)]

    @property
    def staged(self) -> list[CheckpointStaged]:
        """The checkpoints."""
        return [event for event in self.events if isinstance(event, CheckpointStaged)]

    @property
    def saved(self) -> list[int]:
        """Iterations of the checkpoints."""
        return [event.iteration for event in self.staged]


class RecordedTrial:
    """One trial whose attempts are run by hand. Checkpoints are published as a driver would.

    Args:
        folder: The experiment's folder.
        trainable: A function or a class.
        config: The configuration.
        sweep: Fields of the ``SweepSpec``.
    """

    def __init__(self, folder: Path, trainable: Any, config: Mapping[str, Any] | None = None, **sweep: Any) -> None:
        """Make the store; nothing runs yet."""
        fields = {"experiment": "experiment", "path": str(folder), "seed": 1, **sweep}
        self.sweep = SweepSpec(**fields)
        self.trainable = trainable
        self.config = dict(config or {})
        self.io = CheckpointIO(LocalStore(folder))
        self.num_attempts = 0
        self.is_reusable = True
        """Whether the last attempt left the process fit for another one."""

    def run(self, channel: RecordingChannel | None = None, **spec: Any) -> RecordingChannel:
        """Run the next attempt, and return the channel with what it sent.

        Args:
            channel: How it is answered; None: it never stops.
            spec: Fields of the ``AttemptSpec``, such as ``resume_from``.
        """
        channel = channel or RecordingChannel()
        self.num_attempts += 1
        fields = {"trial": 0, "attempt": self.num_attempts, "trial_name": "trial_00000", "config": self.config, **spec}
        self.is_reusable = run_attempt(self.sweep, AttemptSpec(**fields), self.trainable, channel, self.io)
        for event in channel.staged:
            self.io.publish("trial_00000", event.iteration, event.attempt, event.manifest, exact=event.exact)
        return channel

    def resume(self, channel: RecordingChannel | None = None, **spec: Any) -> RecordingChannel:
        """Run the next attempt from the newest checkpoint."""
        iteration, _ = self.io.visible("trial_00000")[-1]
        return self.run(channel, resume_from=iteration, **spec)


def _iteration(event: Event) -> list[str]:
    iteration = getattr(event, "iteration", None)
    return [] if iteration is None else [str(iteration)]
