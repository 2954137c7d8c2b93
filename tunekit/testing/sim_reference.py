"""What a simulated sweep in deterministic mode must come to: what it comes to if nothing happens to it.

Whether the promise holds to the end, the core says itself. It is taken at its word when it says nothing, and asked for
a good reason when it says that the promise is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tunekit.core.codec import Record
from tunekit.core.events import TrialsSuggested
from tunekit.core.rows import RowTable
from tunekit.core.state import State
from tunekit.testing.sim_options import Faults, SimOptions
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.types import TrialStatus


def undisturbed(options: SimOptions) -> SimOptions:
    """Return the same sweep without misfortunes, and without limits that a clock decides about, nor hangs."""
    return replace(
        options,
        faults=Faults(),
        hang_timeout_s=None,
        time_budget_s=None,
        deadline_s=None,
        max_cost=None,
        time_limit_s=None,
        second_chance=False,
        crash_at=(),
        crash_before=None,
    )


def outcome_of(state: State, records: Sequence[Record], heard: Sequence[str]) -> dict[str, Any]:
    """Return everything that no misfortune may change.

    Args:
        state: At the end.
        records: The journal.
        heard: What the searcher was told, in order.
    """
    table = RowTable(records)
    return {
        "rows": {t.trial: [(row.iteration, row.metrics) for row in table.rows(t)] for t in state.trials},
        "trials": [
            (t.trial, t.draw, t.status, t.reason if t.status is TrialStatus.STOPPED else "") for t in state.trials
        ],
        "told": list(heard),
        # Each suggestion shows what the searcher had been told by then.
        "suggested": [record.draws for record in records if isinstance(record, TrialsSuggested) and record.draws],
    }


def is_promised(around: Surroundings, state: State) -> bool:
    """Return whether a sweep must come to the outcome of an undisturbed one."""
    is_in_order = state.order is not None and not state.order.depends_on
    # Exceptions come by chance here. Trials that made nothing of their checkpoint, and count on all the same, compute
    # something else.
    has_failed = any(trial.status is TrialStatus.FAILED for trial in state.trials)
    return is_in_order and not has_failed and not any(around.lags.values())


def check_dependence(options: SimOptions, state: State) -> Iterator[str]:
    """Yield it if a sweep is said to owe its outcome to chance or to the clock, and nothing of that kind was there."""
    why = state.order.depends_on if state.order is not None else ""
    has_failed = any(trial.status is TrialStatus.FAILED for trial in state.trials)
    is_right = has_failed or options.second_chance or options.time_limit_s
    if why and not is_right:
        yield f"deterministic mode is said to have ended, since {why}, but nothing has ended it"


def differences(undisturbed: dict[str, Any], disturbed: dict[str, Any]) -> Iterator[str]:
    """Yield in what two outcomes differ."""
    for name, expected in undisturbed.items():
        if disturbed[name] != expected:
            yield f"{name}: {disturbed[name]!r}, but undisturbed {expected!r}"
