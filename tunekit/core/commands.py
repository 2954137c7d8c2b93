"""Wishes: everything that the core can ask the shell to do, in the imperative.

Each command names the events that can close it. A command may be carried out twice (after a crash of the driver it is
issued again), so each is keyed by what makes it unique: trial, attempt, iteration.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from tunekit.core.cadence import Outlook
from tunekit.types import Outcome, TrialId


class _Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    pass


class _TrialCommand(_Command, frozen=True, kw_only=True, omit_defaults=True):
    trial: TrialId
    attempt: int


class AskSearcher(_Command, frozen=True, kw_only=True, tag="ask"):
    """Suggest up to ``count`` configurations, the first for trial ``first``. → TrialsSuggested | SearcherFailed."""

    first: TrialId
    count: int


class TellSearcher(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="tell"):
    """Tell a searcher that learns how a trial ended. Needs no answer."""

    trial: TrialId
    metrics: dict[str, Any] | None = None
    """The trial's last row; None if it has none."""
    failed: bool = False


class LaunchTrial(_TrialCommand, frozen=True, kw_only=True, omit_defaults=True, tag="launch"):
    """Start an attempt. → TrialStarted | LaunchFailed | RestoreFailed | WorkerLost."""

    resume_from: int | None = None
    """Iteration of the checkpoint to restore; None: from the beginning."""
    until: int | None = None
    """First horizon: the iteration at which the trial waits for a decision. None: it never asks."""
    time_total_s: float = 0.0
    """Seconds of training that the checkpoint holds already."""
    avoid: list[str] = []
    """Ids of nodes on which it is not to run, as long as there is another one that can hold it."""
    outlook: Outlook | None = None
    """What it may expect, to choose by it how often it saves; None: the script says how often."""


class ContinueTrial(_TrialCommand, frozen=True, kw_only=True, omit_defaults=True, tag="continue"):
    """Answer a trial that waits at its horizon: go on. → its next events."""

    until: int | None = None


class TellOutlook(_TrialCommand, frozen=True, kw_only=True, tag="outlook"):
    """Tell a trial that has saved what it may expect now. Needs no answer."""

    outlook: Outlook


class StopTrial(_TrialCommand, frozen=True, kw_only=True, omit_defaults=True, tag="stop"):
    """Stop the trial at its next report. → TrialHalted | TrialReturned | TrialRaised | TrialPreempted | WorkerLost."""

    reason: str = ""
    pause: bool = False
    """Whether the trial is to go on later: then it saves a checkpoint first if it can, whatever ``at_end`` says."""


class InterruptTrial(_TrialCommand, frozen=True, kw_only=True, tag="interrupt"):
    """Raise ``TrialStopped`` in the trial's main thread: it did not come to a report within the grace."""


class KillTrial(_TrialCommand, frozen=True, kw_only=True, tag="kill"):
    """End the worker process of the attempt. → WorkerLost."""


class _CheckpointCommand(_TrialCommand, frozen=True, kw_only=True, omit_defaults=True):
    exact: bool = True
    """False: a failure checkpoint, in a place of its own."""


class PublishCheckpoint(_CheckpointCommand, frozen=True, kw_only=True, omit_defaults=True, tag="publish"):
    """Make a staged checkpoint visible. → CheckpointPublished | PublishFailed.

    A visible checkpoint of another attempt at the same iteration goes to the trash first. Carried out twice for the
    same attempt, it changes nothing.
    """

    iteration: int
    manifest: dict[str, Any]


class DeleteCheckpoint(_CheckpointCommand, frozen=True, kw_only=True, omit_defaults=True, tag="delete"):
    """Remove a published checkpoint. → CheckpointDeleted | DeleteFailed.

    Does nothing when the visible checkpoint at this iteration belongs to another attempt.
    """

    iteration: int
    quarantine: bool = False
    """Whether it is damaged: it is kept aside for a look instead of being deleted."""


class EndExperiment(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="end"):
    """Nothing is left to do in this run."""

    outcome: Outcome
    error: str = ""


Command: TypeAlias = (
    AskSearcher
    | TellSearcher
    | LaunchTrial
    | ContinueTrial
    | TellOutlook
    | StopTrial
    | InterruptTrial
    | KillTrial
    | PublishCheckpoint
    | DeleteCheckpoint
    | EndExperiment
)
