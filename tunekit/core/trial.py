"""The state of one trial, as the core knows it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import msgspec

from tunekit.core.events import Draw, ErrorInfo, Place, ResultReported
from tunekit.core.restarts import Beginning, SilentRestart
from tunekit.types import Intent, LossCause, TrialId, TrialStatus


class CheckpointStatus(StrEnum):
    """Where a checkpoint is in its life. What is gone is forgotten."""

    STAGED = "staged"
    """Its files are durable, and the command to publish it is open."""
    PUBLISHED = "published"
    """Visible: it can be restored, copied and relied on."""
    DELETING = "deleting"
    """Superfluous, and the command to delete it is open."""


class CheckpointState(msgspec.Struct):
    """One checkpoint of one trial."""

    iteration: int
    attempt: int
    status: CheckpointStatus
    score: float | None = None
    figures: bytes = b""
    """The numbers of its row, packed by ``core.scores``: what it may be ranked by in a later run."""
    time_total_s: float = 0.0
    """Seconds of training that led to it."""
    num_bytes: int = 0
    """Size of its files."""
    number: int = 0
    """Which publication of the experiment it was, from 1; 0 before."""
    pinned: bool = False
    """Whether the user wants it kept for ever."""
    exact: bool = True
    """False: a failure checkpoint, of which there is one an attempt at most. Nothing goes on from it by itself."""
    damaged: bool = False
    is_suspect: bool = False
    """Whether two attempts in a row have failed in the same way from it: another one is preferred."""
    began_anew: bool = False
    """Whether an attempt saved it that had begun anew, where that is not wanted: no attempt starts from it."""
    is_doubted: bool = False
    """Whether a later save was to replace it and has failed, so that it may be gone by our own doing."""
    interim: bool = False
    """Whether it is there only to go on from: it goes as soon as a newer one is there."""
    manifest: dict[str, Any] | None = None
    """Kept while STAGED, to issue the command again; None afterwards."""
    replaces: CheckpointState | None = None
    """What an earlier attempt left at the same iteration, and what is there until this is PUBLISHED."""


class Likeness(NamedTuple):
    """What two failures have in common that are the same one."""

    type: str
    line: str
    """Where the error was raised; empty where that is not known."""


class Fault(NamedTuple):
    """A failure, and the checkpoint that its attempt had started from."""

    iteration: int
    attempt: int
    likeness: Likeness


class Failure(NamedTuple):
    """What tells a failure that comes in any run from others."""

    iteration: int
    """Of the row after which it came."""
    likeness: Likeness


class Eviction(NamedTuple):
    """Preemptions in a row that have hit a trial on one node, and between which it has come no further."""

    node: str
    iteration: int
    """The row that the newest of these attempts came to."""
    times: int


class CheckpointName(Protocol):
    """What says of which checkpoint of a trial it speaks."""

    @property
    def iteration(self) -> int:
        """Of which iteration."""
        ...

    @property
    def attempt(self) -> int:
        """By which attempt."""
        ...

    @property
    def exact(self) -> bool:
        """False: a failure checkpoint."""
        ...


class TrialState(msgspec.Struct):
    """One trial. Only ``Experiment.handle`` changes it."""

    trial: TrialId
    draw: Draw
    status: TrialStatus = TrialStatus.PENDING
    intent: Intent = Intent.RUN
    attempt: int = 0
    """The current or newest attempt; 0 before the first."""
    reason: str = ""
    """Why it ended, or is to end."""
    last: ResultReported | None = None
    """The newest row of results."""
    error: ErrorInfo | None = None
    """The newest failure; what a FAILED trial died of."""
    cause: LossCause | None = None
    """Why its newest lost attempt was lost."""
    losses: dict[str, int] = msgspec.field(default_factory=dict)
    """How often its attempts were lost, by cause: ``crashed: SIGSEGV``."""
    node: str = ""
    """Id of the node of the current attempt; empty while it is not known."""
    avoided: list[str] = msgspec.field(default_factory=list)
    """Nodes on which no attempt is to run any more, as a rule of the user says."""
    ruled: dict[str, int] = msgspec.field(default_factory=dict)
    """How often a rule has answered for a failure, by pattern."""
    num_failures: int = 0
    """Failures charged to its budget."""
    num_preemptions: int = 0
    """How often its machine was taken away or lost."""
    num_storage_faults: int = 0
    """How often in a row its checkpoint could not be read although it may be whole."""
    spared_from: int | None = None
    """Where the newest attempt had started that was lost while it was to be paused, and nobody paid; None: none was."""
    evicted: Eviction | None = None
    """The newest preemptions, which may be its own doing."""
    own_doings: set[int] = msgspec.field(default_factory=set)
    """Attempts that are said to have been preempted, and were lost by what they did themselves."""
    last_fault: Fault | None = None
    """The newest failure of an attempt that had started from a checkpoint."""
    last_failure: Failure | None = None
    """In deterministic mode, the newest failure that was charged."""
    fails_by_chance: bool = False
    """In deterministic mode, whether two of these came after different rows or were not alike, or the first one may
    have come of restoring, which was done only because of a loss."""
    retry_at: float | None = None
    """While PENDING: when it may be launched again, in experiment seconds; None: at once."""
    checkpoints: dict[int, CheckpointState] = msgspec.field(default_factory=dict)
    """By iteration."""
    failures_saved: dict[int, CheckpointState] = msgspec.field(default_factory=dict)
    """Failure checkpoints, by attempt."""
    has_interim: bool = False
    """Whether any of its checkpoints may be an interim one."""
    failure_saved_by: int = 0
    """The newest attempt that has staged one; 0: none has."""
    resume_from: int | None = None
    """Iteration of the checkpoint that the current attempt started from, or will start from."""
    until: int | None = None
    """The iteration at which the scheduler wants to be asked; None: never."""
    saved_at: int = 0
    """Iteration of the newest checkpoint that the current attempt has staged; 0 before the first."""
    owes_at: int = 0
    """Iteration of the newest row of the current attempt whose save was announced and is still to come; 0: none is."""
    num_staged: int = 0
    """Open commands to publish a checkpoint of it. It is not launched again before they are answered."""
    own_stop: bool = False
    """Whether it is being stopped by a criterion of its own, and so ends COMPLETED."""
    ran_in_full: bool = False
    """Whether the scheduler has ended it because it had gone as far as any trial is to go."""
    deadline: float | None = None
    """While STOPPING: when the next, harder measure is due, in experiment seconds."""
    escalation: int = 0
    """How many harder measures were taken: 1 interrupted, 2 killed."""
    place: Place = Place()
    """Where the newest attempt runs or ran."""
    resources: dict[str, float] = msgspec.field(default_factory=dict)
    """What the newest attempt that began occupies or occupied."""
    is_metered: bool = False
    """Whether that is being counted: a worker has come to the current attempt."""
    is_assigned: bool = False
    """While LAUNCHING: whether a worker has begun to prepare it, as far as anybody says so."""
    launched_at: float = 0.0
    """When the current attempt was launched, in experiment seconds."""
    assigned_at: float | None = None
    """When a worker began to prepare it, if anybody says so and it is not counted yet."""
    unmetered_s: float = 0.0
    """Seconds of attempts that ended before it was known what the trial occupies."""
    started_at: float | None = None
    """When the current attempt began to run, in experiment seconds; None: it has not, or is over."""
    run_s: float = 0.0
    """Seconds that its earlier attempts ran."""
    heard_at: float = 0.0
    """When the current attempt gave its newest sign of life."""
    suspected_at: float | None = None
    """When it was found to be silent for too long; None: it was not, or has spoken since."""
    ends_saving_at: float | None = None
    """When the current attempt last said that it saves and then ends; None: it did not, or has gone on."""
    cut_off: int = 0
    """The newest attempt that stopped although nobody had told it to, having heard nothing from the driver."""
    is_hung: bool = False
    """Whether it is being killed for its silence."""
    beginning: Beginning | None = None
    """Its first rows, as far as they tell anything."""
    silent_restarts: list[SilentRestart] = msgspec.field(default_factory=list)
    """Attempts that began anew although they were given a checkpoint."""
    doom: ErrorInfo | None = None
    """Why it fails as soon as its attempt ends, however that ends."""

    @property
    def is_pruned(self) -> bool:
        """Whether it was stopped early."""
        return self.status is TrialStatus.STOPPED and not self.ran_in_full

    @property
    def iteration(self) -> int:
        """Iteration of the newest row, 0 before the first."""
        return self.last.iteration if self.last else 0

    @property
    def is_waiting(self) -> bool:
        """Whether its newest row is that of its horizon, so that it may not go on before it is told to."""
        last, until = self.last, self.until
        return last is not None and until is not None and last.attempt == self.attempt and last.iteration >= until

    def checkpoint_of(self, name: CheckpointName) -> CheckpointState | None:
        """Return what is at the place of a checkpoint: for one that is exact, perhaps that of another attempt."""
        return self.checkpoints.get(name.iteration) if name.exact else self.failures_saved.get(name.attempt)

    def enter(self, entry: CheckpointState) -> None:
        """Put a checkpoint at its place."""
        if entry.exact:
            self.checkpoints[entry.iteration] = entry
            self.has_interim = self.has_interim or entry.interim
        else:
            self.failures_saved[entry.attempt] = entry

    def forget(self, entry: CheckpointState) -> None:
        """Leave the place of a checkpoint empty."""
        if entry.exact:
            del self.checkpoints[entry.iteration]
        else:
            del self.failures_saved[entry.attempt]
