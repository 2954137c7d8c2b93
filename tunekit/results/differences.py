"""Rows that were computed again with another outcome: what shows that a trainable is not deterministic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tunekit.config.problems import shorten
from tunekit.core.metrics import MISSING, lookup
from tunekit.core.rows import Rewritten
from tunekit.types import TrialId

_MAX_ROWS = 5
_MAX_METRICS = 3


class RewrittenRow(NamedTuple):
    """A row that a later attempt computed again, and otherwise. The table shows the later one."""

    trial_id: str
    iteration: int
    attempts: tuple[int, int]
    """Which attempt reported the first row, and which the other one."""
    metrics: dict[str, tuple[Any, Any]]
    """The metrics that differ: what was reported first, and what later; ``MISSING`` where there was none."""


def as_shown(row: Rewritten, trial_name: Callable[[TrialId], str]) -> RewrittenRow:
    """Return what users see of a row that was computed again."""
    before, after = row.before, row.after
    values = {key: (lookup(before.metrics, key), lookup(after.metrics, key)) for key in row.keys}
    return RewrittenRow(trial_name(after.trial), after.iteration, (before.attempt, after.attempt), values)


def summary(rows: Iterable[RewrittenRow], *, deterministic: bool) -> str:
    """Return in one line what differs, and what that means; empty if nothing does.

    Args:
        rows: The rows that were computed again with another outcome.
        deterministic: Whether the sweep was promised to be the same whatever dies.
    """
    found = list(rows)
    if not found:
        return ""
    num_trials = len({row.trial_id for row in found})
    more = f"; and {len(found) - _MAX_ROWS} more" if len(found) > _MAX_ROWS else ""
    listed = "; ".join(map(_line, found[:_MAX_ROWS]))
    promise = (
        " The promise of deterministic=True, the same sweep whatever dies, is broken here: decisions rest on the "
        "values that were reported first."
        if deterministic
        else " Decisions rest on the values that were reported first; the results show the later ones."
    )
    return (
        f"{_count(len(found), 'row')} of {_count(num_trials, 'trial')} came out otherwise when computed again after a "
        f"failure, so the trainable is not deterministic: {listed}{more}.{promise} ResultGrid.rewritten lists them "
        "all; save the states of random generators, or see validate_save_restore"
    )


def _line(row: RewrittenRow) -> str:
    shown = [
        f"{key} {_value(before)} → {_value(after)}" for key, (before, after) in list(row.metrics.items())[:_MAX_METRICS]
    ]
    more = [f"{len(row.metrics) - _MAX_METRICS} more metrics"] if len(row.metrics) > _MAX_METRICS else []
    return f"{row.trial_id} at iteration {row.iteration}: {', '.join(shown + more)}"


def _value(value: Any) -> str:
    return "nothing" if value is MISSING else shorten(value)


def _count(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
