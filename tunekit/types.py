"""The ids, enums and plain aliases that every layer shares."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any, TypeAlias

TrialId: TypeAlias = int
"""A trial is known by its index, from 0, in the order of creation. Its name is made of it by the layout."""

Json: TypeAlias = Any
"""A value of None, bool, int, float, str, lists and string-keyed dicts of the same."""

Metrics: TypeAlias = Mapping[str, Json]
"""What one report recorded. Nested dicts are allowed and addressed as ``a/b``."""


class Mode(StrEnum):
    """Which end of the metric is the better one."""

    MIN = "min"
    MAX = "max"


class TrialStatus(StrEnum):
    """Where a trial is in its life."""

    PENDING = "pending"
    """Waits for a place to run; also between two attempts."""
    LAUNCHING = "launching"
    """A worker was told to start it and has not answered."""
    RUNNING = "running"
    """User code is running."""
    STOPPING = "stopping"
    """The worker was told to stop it and has not answered."""
    PAUSED = "paused"
    """Gave its place away and can go on."""
    COMPLETED = "completed"
    """Ended by itself, by ``done`` or by its own stop condition."""
    STOPPED = "stopped"
    """Ended early by a decision of the scheduler or of the experiment."""
    FAILED = "failed"
    """Its failure budget is used up."""

    __hash__ = str.__hash__  # An Enum's own is a function in Python, and every event looks something up by its status.

    # Set once for each member below: properties would be calls, and every change of a status asks both.
    is_live: bool
    """Whether a worker may be holding the trial."""
    is_ended: bool
    """Whether the trial will never run again by itself."""


for _status in TrialStatus:
    _status.is_live = _status in {TrialStatus.LAUNCHING, TrialStatus.RUNNING, TrialStatus.STOPPING}
    _status.is_ended = _status in {TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.FAILED}


class Intent(IntEnum):
    """What the experiment wants of a live trial. Merged with ``max``: a stop is never taken back."""

    RUN = 0
    PAUSE = 1
    STOP = 2


class LossCause(StrEnum):
    """Why an attempt ended without ending its trial."""

    RAISED = "user exception"
    """User code raised."""
    CRASHED = "crashed"
    """The worker process died: a signal, an exit code, a segmentation fault."""
    OUT_OF_MEMORY = "out of memory"
    NODE_LOST = "node lost"
    PREEMPTED = "preempted"
    """The machine was taken away; never charged to the trial."""
    KILLED = "killed"
    """We killed it, because it did not stop in time."""
    HUNG = "hung"
    """We killed it, because it did not report for so long."""
    DRIVER_LOST = "driver lost"
    """The driver died; never charged to the trial."""
    NOT_STARTED = "not started"
    """The worker died before it came to this trial; never charged to the trial."""
    START_FAILED = "start failed"
    """The worker could not prepare the attempt."""
    RESTORE_FAILED = "restore failed"
    """The checkpoint to go on from is damaged, or gone; never charged to the trial."""
    STORAGE = "storage fault"
    """The storage failed while the checkpoint to go on from was read; never charged to the trial."""


class StartOver(StrEnum):
    """How it shows that an attempt began anew although it was given a checkpoint."""

    UNOPENED = "unopened"
    """A function reported without having asked for it; it counts from 1 again."""
    UNREAD = "unread"
    """A function asked for it, and reported without having looked into it."""
    SAME_ROWS = "same rows"
    """The rows after it are those of the beginning again."""


class Outcome(StrEnum):
    """How a run of the experiment ended."""

    FINISHED = "finished"
    """Every trial has ended."""
    INTERRUPTED = "interrupted"
    """Asked to stop; running the script again goes on."""
    TIME_BUDGET = "time budget"
    """The time budget is used up; a larger one goes on."""
    DEADLINE = "deadline"
    """The deadline has come; a later one goes on."""
    MAX_COST = "max cost"
    """The trials have cost what they may; more goes on."""
    FAILED_FAST = "failed fast"
    """A trial failed under ``fail_fast``."""
    ERROR = "error"
    """The experiment itself cannot go on."""
