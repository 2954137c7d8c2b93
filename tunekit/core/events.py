"""Facts: everything that can happen to an experiment, in the past tense.

Events are the only input of the core and the only content of the journal. They are made where the fact is learned (in
a worker, in the store's thread, in the driver) with ``at=0.0``; the driver stamps the moment of arrival before it
journals them. Every event about a trial carries the attempt that it speaks of, so that a late word of an earlier life
can be told apart and ignored.
"""

# Long because this is the whole vocabulary of the journal, and is looked up rather than read.

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from tunekit.types import LossCause, StartOver, TrialId


class Draw(msgspec.Struct, frozen=True, omit_defaults=True):
    """One configuration, as the search drew it: enough to make it again from the search space."""

    values: dict[str, Any] = {}
    """An index or a JSON value per path of the space, such as ``{"layers/0/width": 2, "lr": 0.003}``."""
    shown: dict[str, Any] = {}
    """The same paths with printable values (JSON scalars), for tables and logs."""


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception of user code, as text, so that no unpicklable exception can stop a message."""

    type: str
    """Qualified name of the exception's class."""
    message: str
    traceback: str = ""
    hint: str = ""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an attempt runs."""

    pid: int = 0
    hostname: str = ""
    node_ip: str = ""
    worker: str = ""
    """Id of the worker process within this run of the driver."""
    node: str = ""
    """Id of its node in the cluster."""


class Rule(msgspec.Struct, frozen=True):
    """What the user knows of a failure: a pattern of its error, and what to do about it."""

    pattern: str
    """A regular expression."""
    action: str
    """``retry``, ``give_up`` or ``avoid_node``."""
    max_times: int
    """How often in a trial's life it is not charged; -1: any number."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the core must know of the user's configuration. Journalled at every start of a driver.

    Defaults are written out, unlike those of events: should one change, old journals still replay as they ran.
    """

    metric: str | None = None
    mode: str = "min"
    seed: int = 0
    num_trials: int | None = None
    """Total over all runs of the script. None: until the searcher is exhausted."""
    ask_batch: int = 1
    """How many configurations are asked for at once; 1 for a searcher that learns from results."""
    searcher_learns: bool = False
    """Whether the searcher wants to be told results."""
    time_budget_s: float | None = None
    """Seconds of experiment time (time in which no driver ran is not counted)."""
    deadline_s: float | None = None
    """When the run is to end, in experiment seconds: what the clock on the wall said when its driver started."""
    max_cost: float | None = None
    """What all trials may cost, by ``prices``; None: any."""
    prices: dict[str, float] = {}
    """What an hour of each resource costs."""
    max_failures: int = 0
    """Failures that a trial survives; -1: any number."""
    max_preemption_failures: int = -1
    """How often a trial survives that its machine is taken away or lost; -1: any number."""
    max_futile_preemptions: int | None = None
    """More preemptions in a row on one node, with no new row in between, are crashes. None: any number are none."""
    backoff_s: float = 0.0
    """Seconds that a trial waits after its first failure, twice that after its second, and so on."""
    max_identical_failures: int | None = None
    """So many trials that fail in the same way, before any trial has reported a row, end the run; None: any number."""
    rules: list[Rule] = []
    """The first one that fits a failure holds."""
    fail_fast: bool = False
    silent_restart: str = "warn"
    """What becomes of a trial that is seen to have begun anew although it had a checkpoint: ``warn`` or ``fail``."""
    hang_timeout_s: float | None = None
    """Seconds that a running trial may take from one report to the next before it is killed; None: any."""
    time_limit_s: float | None = None
    """Seconds that a trial may run in all of its attempts; None: any."""
    num_to_keep: int | None = None
    score_attribute: str | None = None
    score_order: str = "max"
    max_experiment_bytes: int | None = None
    """Bytes that the checkpoints of all trials may take together; None: any."""
    saves_at_end: bool = False
    """Whether a trial that is stopped saves a last checkpoint first."""
    asks_every_result: bool = False
    """Whether the driver evaluates a stop criterion on each result, so that no horizon may be further than 1."""
    stop_grace_s: float = 10.0
    """Seconds from a stop to the signal that interrupts user code, and again from there to SIGKILL."""
    save_grace_s: float = 600.0
    """Seconds that a trial which stopped as told may take to finish its saves, before the same measures are taken."""
    resume_errored: bool = False
    """FAILED trials go on from their newest checkpoint, with a fresh budget."""
    restart_errored: bool = False
    """FAILED trials start over, with a fresh budget."""
    fails_without_checkpoint: bool = False
    """Whether a trial fails that has lost the last checkpoint which it could go on from; False: it starts over."""
    tells_outlook: bool = False
    """Whether trials choose how often they save, and so are told what they may expect."""
    logical_slots: int | None = None
    """In deterministic mode, how many trials are under way at a time, whatever the workers; None: it is off."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    at: float = 0.0
    """Seconds since the experiment began, stamped by the driver on arrival."""


class _TrialEvent(_Event, frozen=True, kw_only=True, omit_defaults=True):
    trial: TrialId
    attempt: int
    """Counts from 1. An event of an older attempt is ignored."""


class _Beginning(_TrialEvent, frozen=True, kw_only=True, omit_defaults=True):
    took_s: float = 0.0
    """Seconds from when the worker came to the attempt; 0: nobody knows."""


class _Ending(_TrialEvent, frozen=True, kw_only=True, omit_defaults=True):
    blocked_s: float = 0.0
    """Seconds since the newest row for which user code waited for saves."""


# -- the experiment ----------------------------------------------------------------------------------------------------


class DriverStarted(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="driver_started"):
    """A driver took the experiment over. The first one begins it; each later one finds its workers gone."""

    generation: int
    """Counts from 1."""
    settings: Settings
    run: dict[str, Any] = {}
    """What else the script asked for, as JSON: of no interest to the core, and there to restore from the path alone."""


class CapacityChanged(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="capacity_changed"):
    """The executor can hold this many trials at a time, those waiting ready on a busy worker included."""

    max_live: int


class StopRequested(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="stop_requested"):
    """The user interrupted the sweep. Trials are saved and paused, and go on when the script is run again."""

    reason: str = ""


class TimerFired(_Event, frozen=True, kw_only=True, tag="timer_fired"):
    """The moment that ``next_deadline()`` asked for has come."""


class TrialsSuggested(_Event, frozen=True, kw_only=True, omit_defaults=True, tag="trials_suggested"):
    """The searcher answered. The draws become the next trials, in order."""

    draws: list[Draw]
    exhausted: bool = False
    """Whether the space has no further configuration."""


class SearcherFailed(_Event, frozen=True, kw_only=True, tag="searcher_failed"):
    """The searcher raised. Running trials end in peace; no new one is made."""

    error: ErrorInfo


class StopCriterionFailed(_Event, frozen=True, kw_only=True, tag="stop_criterion_failed"):
    """The user's stop function raised. It would for other trials too: they are saved and paused, and the run ends."""

    error: ErrorInfo


# -- an attempt --------------------------------------------------------------------------------------------------------


class TrialAssigned(_TrialEvent, frozen=True, kw_only=True, omit_defaults=True, tag="trial_assigned"):
    """A worker that is up has been given the attempt, and nothing is before it. Said only where hangs matter."""

    node: str = ""
    """Id of the worker's node."""


class TrialStarted(_Beginning, frozen=True, kw_only=True, omit_defaults=True, tag="trial_started"):
    """The worker restored what there was to restore; the next thing that runs is user code."""

    restored_from: int | None = None
    """Iteration of the checkpoint, verified."""
    place: Place = Place()
    resources: dict[str, float] | None = None
    """What the trial occupies; None: one CPU."""


class TrialStartedOver(_TrialEvent, frozen=True, kw_only=True, omit_defaults=True, tag="trial_started_over"):
    """User code is about to report its first row, and has made nothing of the checkpoint that it was given."""

    iteration: int
    """Of that checkpoint."""
    sign: StartOver
    """UNOPENED: its rows count from 1 again. UNREAD: they count on."""


class LaunchFailed(_Beginning, frozen=True, kw_only=True, omit_defaults=True, tag="launch_failed"):
    """The worker could not prepare the attempt, for a reason that an earlier checkpoint would not mend."""

    error: ErrorInfo
    retryable: bool = True
    """False: the same error is certain to come again, so no budget is spent on it."""
    cause: LossCause = LossCause.START_FAILED
    """START_FAILED; STORAGE if the storage is to blame, RESTORE_FAILED if it is the only checkpoint that there is."""
    node: str = ""
    """Id of the worker's node, if there was a worker."""
    fatal: bool = False
    """True: no attempt could be prepared (the code cannot be loaded, the folder is not the driver's); the run ends."""


class RestoreFailed(_Beginning, frozen=True, kw_only=True, omit_defaults=True, tag="restore_failed"):
    """The checkpoint to resume from does not match its manifest, or is not there."""

    iteration: int
    error: ErrorInfo


class ResultReported(_TrialEvent, frozen=True, kw_only=True, omit_defaults=True, tag="result"):
    """One row of results."""

    iteration: int
    metrics: dict[str, Any]
    """The user's metrics only, normalised to JSON (NaN and infinities allowed)."""
    timestamp: float = 0.0
    """Unix seconds at the worker."""
    time_this_iter_s: float = 0.0
    time_total_s: float = 0.0
    """Seconds of training up to here, over all attempts that led here."""
    final: bool = False
    """Whether the trial ends by itself with this row, so that nobody needs to be asked."""
    saves: bool = False
    """Whether a checkpoint of this row is to follow: until it has come, the trial owes it."""
    stop: str = ""
    """Non-empty: a stop criterion of the user, evaluated by the driver, ends the trial here; this is its reason."""
    blocked_s: float = 0.0
    """Seconds since the row before for which user code waited for saves. ``time_this_iter_s`` leaves them out."""
    loaded_s: float = 0.0
    """Seconds of ``time_this_iter_s`` in which the trial loaded its checkpoint."""


class TrialReturned(_Ending, frozen=True, kw_only=True, omit_defaults=True, tag="trial_returned"):
    """The trial came to its own end: the function returned, a result said ``done``, or its stop condition was met."""

    reason: str = ""


class TrialRaised(_Ending, frozen=True, kw_only=True, omit_defaults=True, tag="trial_raised"):
    """User code raised."""

    error: ErrorInfo
    retryable: bool = True
    """False: the same error is certain to come again (a misuse of the API), so no budget is spent on it."""
    fatal: bool = False
    """True: the configuration is wrong for every trial; the experiment ends."""


class TrialHalted(_Ending, frozen=True, kw_only=True, omit_defaults=True, tag="trial_halted"):
    """The worker stopped the trial as it was told; everything that it saved has been staged before this."""


class TrialPreempted(_Ending, frozen=True, kw_only=True, omit_defaults=True, tag="trial_preempted"):
    """Its process was told to end, and the trial ended in peace; everything that it saved has been staged before this.

    If it can save at any row, that includes its newest.
    """

    reason: str = ""
    """What told the process to end, and what else there is to say."""


class TrialSaving(_TrialEvent, frozen=True, kw_only=True, omit_defaults=True, tag="trial_saving"):
    """The trial waits until its saves are finished: it is busy, not stuck. Said whenever it comes to its end.

    Where silence is taken for a hang, it is said again and again, and also in the middle of a trial.
    """

    final: bool = False
    """Whether the attempt ends once they are finished."""


class WorkerLost(_Beginning, frozen=True, kw_only=True, omit_defaults=True, tag="worker_lost"):
    """The attempt's worker is gone. It may live on unseen; its words no longer count.

    ``took_s`` is said of an attempt that had not started.
    """

    cause: LossCause
    detail: str = ""
    exit: str = ""
    """How its process ended, as far as that is known: ``SIGSEGV`` or ``exit code 3``."""
    node: str = ""
    """Id of the node that it ran on, if that is known."""


# -- checkpoints -------------------------------------------------------------------------------------------------------


class _CheckpointEvent(_TrialEvent, frozen=True, kw_only=True, omit_defaults=True):
    exact: bool = True
    """False: a failure checkpoint, in a place of its own; nothing goes on from it by itself."""


class CheckpointStaged(_CheckpointEvent, frozen=True, kw_only=True, omit_defaults=True, tag="checkpoint_staged"):
    """A checkpoint's files are durable in the staging folder. All results up to its iteration came before this.

    Saving goes on behind the training, so later results of the attempt may have come before this, too.
    """

    iteration: int
    manifest: dict[str, Any]
    """Ready to be published as it is."""
    score: float | None = None
    """Value of the score attribute at this iteration; None when it is missing or not a finite number."""
    pinned: bool = False
    """Whether the user wants it kept for ever."""
    took_s: float = 0.0
    """Seconds from when it was asked for to when it was durable."""
    interim: bool = False
    """Whether it is there only because the trial had to leave its place: an undisturbed run would not have saved it."""
    blocked_s: float = 0.0
    """Seconds of these for which the trial stood still; 0: nobody knows, or it was at its end."""


class SaveFailed(_TrialEvent, frozen=True, kw_only=True, omit_defaults=True, tag="save_failed"):
    """Storage failed while the worker staged a checkpoint. The trial goes on with the previous one."""

    iteration: int
    error: ErrorInfo


class CheckpointPublished(_CheckpointEvent, frozen=True, kw_only=True, omit_defaults=True, tag="checkpoint_published"):
    """The checkpoint is visible and durable."""

    iteration: int


class PublishFailed(_CheckpointEvent, frozen=True, kw_only=True, omit_defaults=True, tag="publish_failed"):
    """The staged files could not be made visible."""

    iteration: int
    error: ErrorInfo


class CheckpointDeleted(_CheckpointEvent, frozen=True, kw_only=True, omit_defaults=True, tag="checkpoint_deleted"):
    """The checkpoint of this attempt and iteration is gone from the trial's folder."""

    iteration: int


class DeleteFailed(_CheckpointEvent, frozen=True, kw_only=True, omit_defaults=True, tag="delete_failed"):
    """The checkpoint could not be removed; it is tried again by the next driver."""

    iteration: int
    error: ErrorInfo


class CheckpointAdopted(_CheckpointEvent, frozen=True, kw_only=True, omit_defaults=True, tag="checkpoint_adopted"):
    """A driver that took over found a whole checkpoint of which the journal says nothing, and all of its results."""

    iteration: int
    score: float | None = None
    """Value of the score attribute at this iteration; None when it is missing or not a finite number."""
    time_total_s: float = 0.0
    """Seconds of training that led to it."""
    num_bytes: int = 0
    """Size of its files."""
    pinned: bool = False
    """Whether the user wants it kept for ever."""
    interim: bool = False
    """As of ``CheckpointStaged``."""


class CheckpointMissing(_CheckpointEvent, frozen=True, kw_only=True, omit_defaults=True, tag="checkpoint_missing"):
    """A driver that took over found a published checkpoint gone, or damaged and put it aside."""

    iteration: int


Event: TypeAlias = (
    DriverStarted
    | CapacityChanged
    | StopRequested
    | TimerFired
    | TrialsSuggested
    | SearcherFailed
    | StopCriterionFailed
    | TrialAssigned
    | TrialStarted
    | TrialStartedOver
    | LaunchFailed
    | RestoreFailed
    | ResultReported
    | TrialReturned
    | TrialRaised
    | TrialHalted
    | TrialPreempted
    | TrialSaving
    | WorkerLost
    | CheckpointStaged
    | SaveFailed
    | CheckpointPublished
    | PublishFailed
    | CheckpointDeleted
    | DeleteFailed
    | CheckpointAdopted
    | CheckpointMissing
)


def stamp(event: Event, at: float) -> None:
    """Set the moment of arrival. The one place where an event changes, and only before anybody else has seen it."""
    msgspec.structs.force_setattr(event, "at", at)


def judge(event: ResultReported, reason: str) -> None:
    """Note the verdict of the user's stop criterion on a row, before it is journalled."""
    msgspec.structs.force_setattr(event, "stop", reason)
