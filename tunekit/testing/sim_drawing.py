"""Draws a simulated sweep and its misfortunes from one seed.

*Swarm*: each seed switches whole classes of faults on or off and draws their rates. A run with all classes at once
rarely gets deep into any of them; a run with two gets into their interplay. One seed in ten knows no misfortune.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from tunekit.core.events import Rule
from tunekit.schedulers import ASHA, FIFO
from tunekit.testing.sim_options import HARDWARE, Faults, SimOptions
from tunekit.testing.sim_pauser import Pauser

_PATTERNS = ("license", "does not fit", HARDWARE, "^Simulated", "^crashed: .*SIGSEGV", "^out of memory", "^hung")
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
    rates: dict[str, Any] = {name: rng.random() * rate for name, rate in _RATES.items() if rng.random() < share}
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
    # Who stops at any failure, and tries again, would find the same damage for ever.
    options = replace(options, fails_without_checkpoint=not (options.fail_fast and options.second_chance))
    return _draw_mender(rng, _draw_pauser(rng, _draw_limits(rng, _draw_order(rng, options))))


def _draw_mender(rng: random.Random, options: SimOptions) -> SimOptions:
    """Have one sweep in twenty fail where its trials begin anew, so that what they were given is all there is.

    Its user mends the code and tries again, though other mishaps may follow, and there is room for few checkpoints.
    """
    if rng.random() >= 0.05 or options.fail_fast:  # noqa: PLR2004
        return options
    faults = replace(options.faults, anew=rng.uniform(0.1, 0.5), crash=rng.uniform(0.0, 0.2), raises=0.1)
    return replace(
        options,
        silent_restart="fail",
        second_chance=True,
        grows=False,
        num_to_keep=rng.choice((1, 1, 2)),
        max_failures=rng.choice((0, 1)),
        faults=faults,
    )


def _draw_pauser(rng: random.Random, options: SimOptions) -> SimOptions:
    """Have some of the trials paused, in one of five sweeps that have no other scheduler."""
    if not isinstance(options.scheduler, FIFO) or rng.random() >= 0.2:  # noqa: PLR2004
        return options
    return replace(options, scheduler=Pauser(every=rng.randint(1, 3), share=rng.choice((0.2, 0.4, 0.6))))


def _draw_order(rng: random.Random, options: SimOptions) -> SimOptions:
    """Put one sweep in six in deterministic mode, which needs a time after which trials are hung."""
    if rng.random() >= 1 / 6:
        return options
    # An outcome can be compared only if nobody fails for good, and if nobody asks for fewer trials in the meantime.
    keeps = rng.random() < 0.7  # noqa: PLR2004
    budgets: dict[str, Any] = {"max_failures": -1, "max_preemption_failures": -1, "rules": (), "fail_fast": False}
    slots, timeout = rng.randint(1, 4), options.hang_timeout_s or 25.0
    return replace(options, logical_slots=slots, hang_timeout_s=timeout, grows=False, **(budgets if keeps else {}))


def _draw_limits(rng: random.Random, options: SimOptions) -> SimOptions:
    """Draw when a run has to end, whatever it has come to, and whether trials choose how often they save."""
    if rng.random() < 0.1:  # noqa: PLR2004
        options = replace(options, deadline_s=rng.uniform(5.0, 30.0))
    if rng.random() < 0.15:  # noqa: PLR2004
        options = replace(options, max_cost=rng.uniform(3.0, 40.0))
    if rng.random() < 0.15:  # noqa: PLR2004
        options = replace(options, auto=True, save_every=0)
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
