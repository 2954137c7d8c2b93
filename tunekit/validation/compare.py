"""Two runs side by side: where they first differ, in what was reported and in what was saved."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunekit.core.metrics import flatten, is_of_clock_or_place
from tunekit.validation.jobs import Leaf, Outcome, Row, State
from tunekit.validation.laboratory import Kept, Laboratory

_NOTHING = "nothing"


class Difference(NamedTuple):
    """The first difference of two runs."""

    step: int
    key: str
    """Of the metric or of the state; empty if one of the two has no such row."""
    expected: str
    found: str
    is_state: bool = False

    def __str__(self) -> str:
        """Say what was found, and what was expected."""
        if not self.key:
            return f"at iteration {self.step} there is {self.found}, expected {self.expected}"
        what = f"{self.key!r} in the saved state" if self.is_state else f"the metric {self.key!r}"
        return f"at iteration {self.step} {what} is {self.found}, expected {self.expected}"


class Record(NamedTuple):
    """A run that is over, with its checkpoints by iteration."""

    outcome: Outcome
    kept: Mapping[int, Kept]

    @property
    def rows(self) -> list[Row]:
        """What it reported."""
        return self.outcome.rows


def plain_metrics(row: Row) -> dict[str, str]:
    """Return the metrics of a row as exact texts, without those that tell when and where it was made."""
    counted = {key: value for key, value in row.metrics.items() if not is_of_clock_or_place(key)}
    return {key: _exact(value) for key, value in flatten(counted).items()}


def of_rows(expected: Sequence[Row], found: Sequence[Row], *, after: int = 0) -> Difference | None:
    """Return the first difference of the results beyond iteration ``after``."""
    left = {row.iteration: plain_metrics(row) for row in expected if row.iteration > after}
    right = {row.iteration: plain_metrics(row) for row in found if row.iteration > after}
    for step in sorted(left.keys() | right.keys()):
        if step not in left or step not in right:
            has = "a result"
            return Difference(step, "", has if step in left else "none", has if step in right else "none")
        for key in {**left[step], **right[step]}:
            one, other = left[step].get(key, _NOTHING), right[step].get(key, _NOTHING)
            if one != other:
                return Difference(step, key, one, other)
    return None


def of_states(expected: State, found: State, step: int, *, unlike: set[str]) -> Difference | None:
    """Return the first difference of two states.

    Args:
        expected: One state.
        found: The other.
        step: Of both.
        unlike: Parts of which nothing is known but that their bytes differ from run to run anyway.
    """
    for key in {**expected, **found}:
        one, other = expected.get(key), found.get(key)
        if (one and one.digest) != (other and other.digest) and not (key in unlike and _is_opaque(one, other)):
            return Difference(step, key, shown(one, other), shown(other, one), is_state=True)
    return None


class Comparison:
    """Compares the checkpoints of runs; those with equal bytes without looking into them.

    Args:
        laboratory: Where the others are read.
    """

    def __init__(self, laboratory: Laboratory) -> None:
        """Know nothing of formats yet."""
        self._laboratory = laboratory
        self.unlike: set[str] = set()
        """Files of an unknown format whose bytes differed between two runs that should be the same."""

    def of_records(self, expected: Record, found: Record, *, after: int = 0, learns: bool = False) -> Difference | None:
        """Return the first difference beyond iteration ``after``: of the results, else of the checkpoints.

        Args:
            expected: One run.
            found: The other.
            after: The iteration at which to begin.
            learns: Whether files of unknown formats that differ are to be left out from now on.
        """
        if difference := of_rows(expected.rows, found.rows, after=after):
            return difference
        steps = sorted(step for step in expected.kept.keys() & found.kept.keys() if step > after)
        return self.of_steps(expected, found, [(step, step) for step in steps], learns=learns)

    def of_steps(
        self, expected: Record, found: Record, steps: Sequence[tuple[int, int]], *, learns: bool = False
    ) -> Difference | None:
        """Return the first difference of checkpoints, each pair of steps at its own."""
        pairs = [
            (other, expected.kept[one], found.kept[other])
            for one, other in steps
            if _files(expected, one) != _files(found, other)
        ]
        states = self._laboratory.states([kept for _, *both in pairs for kept in both]) if pairs else []
        for number, (step, *_) in enumerate(pairs):
            one, other = states[2 * number], states[2 * number + 1]
            if learns:
                opaque = {key for key in one.keys() & other.keys() if _is_opaque(one[key], other[key])}
                self.unlike |= {key for key in opaque if one[key].digest != other[key].digest}
            if difference := of_states(one, other, step, unlike=self.unlike):
                return difference
        return None


def _files(record: Record, step: int) -> dict[str, str]:
    return next(saved.files for saved in record.outcome.saves if saved.iteration == step)


def _is_opaque(one: Leaf | None, other: Leaf | None) -> bool:
    return bool(one and other and one.is_opaque and other.is_opaque)


def first_part(path: str) -> str:
    """Return the attribute, or the key, that the way to a value begins with."""
    return re.split(r"[.\[(]", path)[0]


def shown(leaf: Leaf | None, other: Leaf | None) -> str:
    """Return a value as a text that tells it from the other one, which it differs from."""
    if leaf is None:
        return _NOTHING
    # Long values may differ where they are not shown.
    return leaf.shown if other is None or other.shown != leaf.shown else f"{leaf.shown} #{leaf.digest[:8]}"


def _exact(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str | list | dict) else repr(value)
