"""What a simulated sweep is like, and which misfortunes it meets: all drawn from one seed.

*Swarm*: each seed switches whole classes of faults on or off and draws their rates. A run with all classes at once
rarely gets deep into any of them; a run with two gets into their interplay. One seed in ten knows no misfortune.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tunekit.core.events import Rule, Settings
from tunekit.core.policies import Scheduler
from tunekit.schedulers import ASHA, FIFO

METRIC = "loss"
MESSAGES = ("as drawn", "no free license", "does not fit")
"""What user code says when it raises."""
HARDWARE = "CUDA error"
"""What it says on a bad machine."""
_PATTERNS = ("license", "does not fit", HARDWARE, "^Simulated", "^crashed: .*SIGSEGV", "^out of memory", "^hung")


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

    @property
    def is_none(self) -> bool:
        """Whether nothing can go wrong."""
        return not any(getattr(self, item.name) for item in fields(self))


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
    """Of the first run; each further one has as much again."""
    rules: tuple[Rule, ...] = ()
    """What the user knows of failures."""
    fail_fast: bool = False
    silent_restart: str = "warn"
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
    budget = options.time_budget_s
    return Settings(
        metric=METRIC,
        seed=seed,
        num_trials=num_trials if options.counts else None,
        ask_batch=options.ask_batch,
        searcher_learns=options.learns,
        time_budget_s=None if budget is None else budget * 2**run,
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
        num_to_keep=options.num_to_keep,
        score_attribute=METRIC if options.by_score else None,
        max_experiment_bytes=options.max_bytes,
        saves_at_end=options.saves_at_end,
        logical_slots=options.logical_slots,
        asks_every_result=options.judged,
        stop_grace_s=options.stop_grace_s,
    )


_RATES: dict[str, float] = {
    "delay": 3.0,
    "split": 0.5,
    "duplicate": 0.5,
    "crash": 0.15,
    "zombie": 0.15,
    "raises": 0.1,
    "lease": 0.1,
    "launch": 0.2,
    "deaf": 0.5,
    "hang": 0.15,
    "save": 0.2,
    "store": 0.2,
    "damage": 0.3,
    "driver": 0.06,
    "interrupt": 0.03,
    "capacity": 0.1,
    "searcher": 0.2,
    "notice": 0.1,
    "machine": 0.05,
    "bad_machine": 0.3,
    "unreadable": 0.3,
    "anew": 0.4,
}
"""The highest rate of each class."""
_STORMS: dict[str, float] = {"crash": 0.5, "unreadable": 0.95}
"""What happens all the time in some seeds: half of all iterations are lost, or the storage is gone for minutes."""
_CALM = ("",) * 10


def draw_faults(rng: random.Random) -> Faults:
    """Draw which classes of faults there are, and how frequent they are."""
    if rng.random() < 0.1:  # noqa: PLR2004 - one in ten
        return Faults()
    share = rng.choice((0.2, 0.4, 0.7))
    rates = {name: rng.random() * rate for name, rate in _RATES.items() if rng.random() < share}
    storm = rng.choice((*_STORMS, *_CALM))
    return Faults(**{**rates, **({storm: _STORMS[storm] * rng.uniform(0.5, 1.0)} if storm else {})})


def draw_options(rng: random.Random) -> SimOptions:
    """Draw a small sweep and its misfortunes."""
    iterations = rng.randint(3, 8)
    options = SimOptions(
        num_trials=rng.randint(1, 6),
        iterations=iterations,
        max_live=rng.randint(1, 4),
        save_every=rng.choice((0, 1, 2, 3)),
        saves_at_end=rng.random() < 0.6,  # noqa: PLR2004 - the more interesting half
        num_to_keep=rng.choice((None, 1, 1, 2)),
        by_score=rng.random() < 0.4,  # noqa: PLR2004
        max_failures=rng.choice((-1, -1, 0, 1, 3)),
        ask_batch=rng.randint(1, 6),
        stop_grace_s=rng.choice((0.5, 5.0)),
        faults=draw_faults(rng),
    )
    options = replace(options, **_draw_saving(rng))
    kind = rng.random()
    if kind < 0.35:  # noqa: PLR2004
        options = replace(options, scheduler=_draw_asha(rng, iterations))
    elif kind < 0.5:  # noqa: PLR2004
        options = replace(options, judged=True)
    if rng.random() < 0.2:  # noqa: PLR2004
        options = replace(options, learns=True, counts=rng.random() < 0.5)  # noqa: PLR2004
    if rng.random() < 0.2:  # noqa: PLR2004
        options = replace(options, grows=rng.random() < 0.5, second_chance=rng.random() < 0.7)  # noqa: PLR2004
    if rng.random() < 0.1:  # noqa: PLR2004
        options = replace(options, fail_fast=True)
    if rng.random() < 0.1:  # noqa: PLR2004
        options = replace(options, time_budget_s=rng.uniform(5.0, 30.0))
    if rng.random() < 0.5:  # noqa: PLR2004
        options = replace(options, hang_timeout_s=rng.choice((8.0, 25.0)))  # the one hits stragglers, too
    options = replace(
        options,
        max_preemption_failures=rng.choice((-1, -1, -1, 0, 2)),
        max_futile_preemptions=rng.choice((None, 1, 3)),
        backoff_s=rng.choice((0.0, 0.0, 2.0)),
        max_identical_failures=rng.choice((None, None, 2)),
        num_nodes=rng.randint(1, 3),
        silent_restart=rng.choice(("warn", "fail")),
    )
    if rng.random() < 0.4:  # noqa: PLR2004
        options = replace(options, rules=_draw_rules(rng))
    if rng.random() < 0.1:  # noqa: PLR2004
        options = replace(options, time_limit_s=rng.uniform(3.0, 20.0))
    return options


def _draw_rules(rng: random.Random) -> tuple[Rule, ...]:
    """Draw what the user knows of failures; each seldom a reason to give up."""
    actions = ("retry", "retry", "avoid_node", "avoid_node", "give_up")
    patterns = rng.sample(_PATTERNS, rng.randint(1, 3))
    return tuple(Rule(pattern, rng.choice(actions), rng.choice((-1, 1, 3))) for pattern in patterns)


def _draw_saving(rng: random.Random) -> dict[str, Any]:
    """Draw how checkpoints come to be, and how many there may be."""
    return {
        "max_bytes": rng.choice((None, None, rng.randint(5, 60))),
        "pin_every": rng.choice((0, 0, 2, 3)),
        "saves_failures": rng.random() < 0.5,  # noqa: PLR2004 - the more interesting half
        "persist_s": rng.choice((0.0, 0.5, 2.0, 8.0)),
    }


def _draw_asha(rng: random.Random, iterations: int) -> ASHA:
    grace = rng.randint(1, 2)
    longest = rng.choice((iterations, iterations - 1)) if iterations - 1 > grace else iterations
    return ASHA(max_t=max(longest, grace), grace_period=grace, reduction_factor=rng.randint(2, 3))
