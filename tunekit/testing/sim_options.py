"""What a simulated sweep is like, and which misfortunes it meets. ``tunekit.testing.sim_drawing`` draws them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from tunekit.core.events import Rule, Settings
from tunekit.core.policies import Scheduler
from tunekit.schedulers import FIFO
from tunekit.types import StartOver, TrialId

METRIC = "loss"
MESSAGES = ("as drawn", "no free license", "does not fit")
"""What user code says when it raises."""
HARDWARE = "CUDA error"
"""What it says on a bad machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probabilities of misfortune. Zero: never."""

    delay: float = 0.0
    """Mean of the additional seconds that a batch of messages takes."""
    split: float = 0.0
    """Of a batch to be sent in two, so that something can happen between a row and its checkpoint."""
    duplicate: float = 0.0
    """Of a batch to arrive once more, later."""
    crash: float = 0.0
    """Of a worker to die, per iteration."""
    zombie: float = 0.0
    """Of a worker to be declared lost although it lives and speaks on, per iteration."""
    raises: float = 0.0
    """Of user code to raise, per iteration."""
    lease: float = 0.0
    """Of a worker to stop by itself because it cannot renew its lease, per iteration."""
    launch: float = 0.0
    """Of an attempt that cannot be prepared, or whose worker dies before it."""
    deaf: float = 0.0
    """Of an attempt that does not report once it is told to stop; half of these ignore the interruption, too."""
    hang: float = 0.0
    """Of user code to say nothing more and to hear nothing, per iteration and while it is loaded; only where hangs are
    found out."""
    save: float = 0.0
    """Of the storage to fail while a checkpoint is staged."""
    store: float = 0.0
    """Of the storage to fail while a checkpoint is published or deleted."""
    damage: float = 0.0
    """Of a checkpoint to be damaged some time after it was published."""
    driver: float = 0.0
    """Of the driver to die at a commit of the journal or between two commands."""
    interrupt: float = 0.0
    """Of the user to press Ctrl-C, per turn of the driver."""
    capacity: float = 0.0
    """Of the cluster to change its size, per turn of the driver."""
    searcher: float = 0.0
    """Of the searcher to raise when it is asked."""

    notice: float = 0.0
    """Of a worker to be told that its machine is taken away, per iteration; a trial that does not report dies then."""
    machine: float = 0.0
    """Of a machine to go with all that is on it, with notice or without, or to be said to, per turn of the driver."""

    bad_machine: float = 0.0
    """Of user code to raise, per iteration, on each second machine."""
    unreadable: float = 0.0
    """Of the storage to fail while a checkpoint is read that is whole."""

    anew: float = 0.0
    """Of an attempt to make nothing of the checkpoint that it is given."""
    start_overs: tuple[StartOver, ...] = tuple(StartOver)
    """In which ways. One that did not open it counts from 1 again, and reports what it would have undisturbed."""


RATES = tuple(item.name for item in fields(Faults) if item.name != "start_overs")
"""The names of all classes of misfortune."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimOptions:
    """One simulated sweep."""

    num_trials: int = 5
    iterations: int = 6
    """A trial ends by itself there."""
    scheduler: Scheduler = field(default_factory=FIFO)
    max_live: int = 3
    num_nodes: int = 2
    """How many machines there are, while none is gone."""
    save_every: int = 2
    """Iterations between checkpoints; 0: none but those at the end."""
    saves_at_end: bool = True
    num_to_keep: int | None = None
    by_score: bool = False
    max_bytes: int | None = None
    """What all checkpoints may take together; each takes 1 to 9 bytes."""
    pin_every: int = 0
    """Iterations between checkpoints that the user pins; 0: none."""
    saves_failures: bool = False
    """Whether a failure checkpoint is saved when user code raises."""
    persist_s: float = 0.0
    """How long a save takes at most, while the trial goes on; 0: it is finished at once."""
    max_failures: int = -1
    max_preemption_failures: int = -1
    max_futile_preemptions: int | None = None
    backoff_s: float = 0.0
    max_identical_failures: int | None = None
    ask_batch: int = 4
    learns: bool = False
    """Whether the searcher learns, and now and then wants to hear of an end before it suggests more."""
    counts: bool = True
    """Whether the number of trials is known beforehand; else the searcher exhausts itself."""
    logical_slots: int | None = None
    """Deterministic mode, with so many trials under way at a time."""
    judged: bool = False
    """Whether the driver judges each row, and ends a trial at its last but one iteration."""
    time_budget_s: float | None = None
    """Of the first run; each further one has twice as much."""
    deadline_s: float | None = None
    """Of the first run, in experiment seconds; that of each further one is twice as far."""
    max_cost: float | None = None
    """Of the first run; each further one may cost twice as much. A second of a trial costs 1."""
    auto: bool = False
    """Whether trials choose how often they save."""
    rules: tuple[Rule, ...] = ()
    """What the user knows of failures."""
    fail_fast: bool = False
    silent_restart: str = "warn"
    fails_without_checkpoint: bool = True
    """Whether a trial whose only checkpoint is damaged fails, as in a sweep that began today; else it starts over."""
    hang_timeout_s: float | None = None
    """How long an attempt may say nothing before it is killed."""
    time_limit_s: float | None = None
    """How long each trial may run in all of its attempts."""
    grows: bool = False
    """Whether the first run asks for one trial only, and the others for all."""
    second_chance: bool = False
    """Whether trials that failed are taken up again, once, when the sweep has finished."""
    stop_grace_s: float = 5.0
    stragglers: float = 0.2
    """Share of the attempts that take ten times as long."""
    faults: Faults = field(default_factory=Faults)
    calm_after: int = 400
    """Number of turns of the driver after which nothing goes wrong any more, so that the sweep must end."""
    crash_at: tuple[tuple[int, str], ...] = ()
    """Let drivers die at just these commits, counted from 0: ``before``, in the middle (``torn``), or ``after``."""
    crash_before: int | None = None
    """Let the driver die before it hands over just this command, counted from 0."""

    @property
    def last_iteration(self) -> int:
        """Where an undisturbed trial ends."""
        return self.iterations - 1 if self.judged else self.iterations


def settings_of(options: SimOptions, seed: int, num_trials: int, *, run: int, resume_errored: bool) -> Settings:
    """Return the settings of a driver.

    Args:
        options: What the sweep is like.
        seed: Of the sweep.
        num_trials: How many trials the script asks for now.
        run: How many runs have come to their end before.
        resume_errored: Whether trials that failed are taken up again.
    """

    def more(limit: float | None) -> float | None:
        return None if limit is None else limit * 2**run

    return Settings(
        metric=METRIC,
        seed=seed,
        num_trials=num_trials if options.counts else None,
        ask_batch=options.ask_batch,
        searcher_learns=options.learns,
        time_budget_s=more(options.time_budget_s),
        deadline_s=more(options.deadline_s),
        max_cost=more(options.max_cost),
        prices={"CPU": 3600.0} if options.max_cost is not None else {},
        tells_outlook=options.auto,
        max_failures=options.max_failures,
        rules=list(options.rules),
        fail_fast=options.fail_fast,
        silent_restart=options.silent_restart,
        max_preemption_failures=options.max_preemption_failures,
        max_futile_preemptions=None if options.second_chance else options.max_futile_preemptions,
        backoff_s=options.backoff_s,
        max_identical_failures=options.max_identical_failures,
        hang_timeout_s=options.hang_timeout_s,
        time_limit_s=options.time_limit_s,
        resume_errored=resume_errored,
        fails_without_checkpoint=options.fails_without_checkpoint,
        num_to_keep=options.num_to_keep,
        score_attribute=METRIC if options.by_score else None,
        max_experiment_bytes=options.max_bytes,
        saves_at_end=options.saves_at_end,
        logical_slots=options.logical_slots,
        asks_every_result=options.judged,
        stop_grace_s=options.stop_grace_s,
    )


def is_divisible(iteration: int, every: int) -> bool:
    """Return whether something that happens every so many iterations happens now; 0: never."""
    return every > 0 and iteration % every == 0


def resources_of(trial: TrialId) -> dict[str, float] | None:
    """Return what a trial occupies; None: one CPU. Each second one has a GPU as well, which costs nothing."""
    return {"CPU": 1.0, "GPU": 0.5} if trial % 2 else None
