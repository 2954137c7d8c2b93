"""What a worker is told: once for the sweep, and once for each attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from tunekit.config import CheckpointConfig
from tunekit.core.cadence import Outlook
from tunekit.core.commands import ContinueTrial, InterruptTrial, KillTrial, LaunchTrial, StopTrial, TellOutlook
from tunekit.core.events import Event
from tunekit.types import TrialId


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """The same for every trial of a sweep."""

    experiment: str
    """Name of the experiment."""
    path: str
    """Folder of the experiment: an absolute local path or a URI. Never persisted."""
    nonce: str = ""
    """Digest of the experiment's header: a worker that does not find it in ``path`` sees another folder."""
    version: str = ""
    """Version of tunekit that the driver runs, and so must each worker; empty: not compared."""
    seed: int
    metric: str | None = None
    stop: Mapping[str, float] = field(default_factory=dict)
    """A trial ends as soon as one of these keys reaches its value (>=)."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    reuse_actors: bool = False
    """Whether a class trainable is reset with ``reset_config`` instead of made anew."""
    fresh_process: bool = False
    """Whether each trial gets a process of its own."""
    deterministic: bool = False
    """Whether trials may be parked through a checkpoint, so that each must be able to save one at any row."""
    saves_behind: bool = True
    """Whether a trial may go on while its checkpoint is finished. False: what a save holds does not depend on time."""
    capture_output: bool = True
    """Whether what a trial prints goes to its log file."""
    preemption_grace_s: float = 30.0
    """Seconds from SIGTERM to the end of a worker process."""
    lease_s: float = 60.0
    """Seconds that a worker may work on without word from the mailbox."""
    hang_timeout_s: float | None = None
    """Seconds that a trial may take from one report to the next; None: any."""
    silent_restart: str = "warn"
    """What becomes of a trial that makes nothing of the checkpoint it is given: ``warn`` or ``fail``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSpec:
    """One life of one trial."""

    trial: TrialId
    attempt: int
    trial_name: str
    config: dict[str, Any]
    resume_from: int | None = None
    until: int | None = None
    time_total_s: float = 0.0
    outlook: Outlook | None = None
    """What it may expect, where it chooses how often it saves."""
    resources: Mapping[str, float] = field(default_factory=lambda: {"CPU": 1.0})


ExecutorCommand: TypeAlias = LaunchTrial | ContinueTrial | TellOutlook | StopTrial | InterruptTrial | KillTrial
"""The commands that an executor carries out; the others belong to the searcher and the store."""


class Delivery(NamedTuple):
    """Events as they reached the driver, in the order of each sender."""

    events: list[Event]
    token: object = None
    """Given back to ``Executor.acknowledge`` once the events are in the journal."""


class Executor(Protocol):
    """Runs attempts somewhere. It puts a ``Delivery`` into the driver's inbox for whatever happens."""

    def execute(self, commands: list[ExecutorCommand]) -> None:
        """Carry the commands out. Never blocks for long and never raises for bad news: that comes as an event."""
        ...

    def acknowledge(self, tokens: list[object]) -> None:
        """Say that the deliveries with these tokens are durable, so that their senders can forget them."""
        ...

    def close(self) -> None:
        """End every worker that this executor started, and leave Ray as it was found."""
        ...
