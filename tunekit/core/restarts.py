"""Finds attempts that were given a checkpoint and began anew all the same.

Nothing fails when that happens: the training starts from nothing, its rows are numbered as if it went on, and the time
that led to the checkpoint is lost with every loss of a worker. Two of three signs are seen by the worker, which says so
with ``TrialStartedOver``: the checkpoint was not asked for, or nothing of it was read. The third is in the rows.

*The rows of the beginning come again.* Let a₁ a₂ a₃ be the first rows of a trial, and b₁ b₂ b₃ those that a later
attempt reports after its checkpoint. The attempt is taken to have begun anew if b₁ = a₁, b₂ = a₂ and b₃ = a₃, bit for
bit. That says something only if an attempt that did go on would have reported something else, so these rows are not
looked at unless

- the sweep's metric (without one: the first metric that is not an integer) has three different finite values in them;
- its first value never came again before, or a metric that repeats itself would be taken for a beginning;
- every metric that is not a fraction (counters, texts) is the same, too, so that a second round of cross-validation
  which counts its rounds is none. Without a metric of the sweep the fractions must be the same, too. What clock and
  place decide is left out.

A constant metric has no three values; one that has the period of its first checkpoint looks like a beginning. Trials
that were lost before their third row are not judged.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Final, NamedTuple

import msgspec

from tunekit.core.events import ErrorInfo, ResultReported
from tunekit.core.metrics import flatten, is_of_clock_or_place, score
from tunekit.types import StartOver

NUM_ROWS: Final = 3
"""So many rows of the beginning must come again."""


class SilentRestart(NamedTuple):
    """An attempt that began anew although it was given a checkpoint."""

    attempt: int
    iteration: int
    """Of the checkpoint: what was learned up to it is thrown away."""
    sign: StartOver
    """How it shows."""


class Opening(NamedTuple):
    """What is compared of one row."""

    value: float
    others: dict[str, Any]


class Beginning(msgspec.Struct):
    """The first rows of a trial."""

    attempt: int
    """The attempt that reported them."""
    key: str
    """The metric that tells rows apart."""
    rows: list[Opening]
    is_telling: bool = True
    """Whether it would be strange if these rows came again."""
    num_alike: int | None = None
    """How many rows of the current attempt were those of the beginning; None: it is not compared any more."""


def begin(row: ResultReported, metric: str | None) -> Beginning | None:
    """Return what there is to remember of a first row; None if it tells nothing.

    Args:
        row: The row of iteration 1.
        metric: That of the sweep, if it has one.
    """
    key = metric if metric is not None else _first_fraction(row.metrics)
    opening = _opening(row, key, has_metric=metric is not None) if key is not None else None
    return Beginning(row.attempt, key, [opening]) if key is not None and opening is not None else None


def begins_anew(seen: Beginning, row: ResultReported, resume_from: int | None, metric: str | None) -> bool:
    """Take in a row that is not the first one, and return whether its attempt is now seen to have begun anew."""
    rows = seen.rows
    if len(rows) < NUM_ROWS:
        if row.iteration == len(rows) + 1:
            _extend(seen, row, metric)
        return False
    place = row.iteration - (resume_from or 0) - 1
    if place == 0 and row.attempt != seen.attempt:
        seen.num_alike = 0
    if seen.num_alike is None or seen.num_alike != place:
        seen.is_telling = score(row.metrics, seen.key) != rows[0].value
        return False
    if _opening(row, seen.key, has_metric=metric is not None) != rows[place]:
        seen.num_alike = None
        seen.is_telling = place == 0 and score(row.metrics, seen.key) != rows[0].value
        return False
    seen.num_alike += 1
    if seen.num_alike < NUM_ROWS:
        return False
    seen.num_alike = None
    return True


def _extend(seen: Beginning, row: ResultReported, metric: str | None) -> None:
    """Remember the second and the third row."""
    opening = _opening(row, seen.key, has_metric=metric is not None)
    if opening is None or any(opening.value == earlier.value for earlier in seen.rows):
        seen.is_telling = False
    else:
        seen.rows.append(opening)


def _opening(row: ResultReported, key: str, *, has_metric: bool) -> Opening | None:
    value = score(row.metrics, key)
    if value is None:
        return None
    counted = {name: leaf for name, leaf in flatten(row.metrics).items() if not is_of_clock_or_place(name)}
    others = {name: leaf for name, leaf in counted.items() if not has_metric or not isinstance(leaf, float)}
    # As text, because NaN differs from itself.
    return Opening(value, {name: repr(leaf) for name, leaf in others.items()})


def _first_fraction(metrics: dict[str, Any]) -> str | None:
    for name, leaf in flatten(metrics).items():
        if isinstance(leaf, float) and isfinite(leaf) and not is_of_clock_or_place(name):
            return name
    return None


def what_happened(restart: SilentRestart) -> str:
    """Return in words how an attempt began anew, and what is thrown away."""
    start = f"attempt {restart.attempt} was to go on from iteration {restart.iteration} but"
    lost = f"what was learned up to iteration {restart.iteration} is thrown away"
    if restart.sign is StartOver.UNOPENED:
        return f"{start} did not open its checkpoint, so it starts again at iteration 1: {lost}"
    if restart.sign is StartOver.UNREAD:
        return f"{start} read nothing of its checkpoint before its first report: {lost}"
    return (
        f"{start} its rows are those of iterations 1 to {NUM_ROWS} again, bit for bit, so its state seems to have "
        f"started over: {lost}"
    )


def what_to_do(sign: StartOver) -> str:
    """Return how to mend it."""
    if sign is StartOver.UNOPENED:
        return "call get_checkpoint() or restore(saver) before the first report"
    if sign is StartOver.UNREAD:
        return "load the files: with checkpoint.as_directory() as folder, or checkpoint.to_dict()"
    return "have all of the state saved and loaded; tunekit.validate_save_restore(trainable) finds what is missing"


def as_error(restart: SilentRestart) -> ErrorInfo:
    """Return what a trial dies of that may not begin anew."""
    return ErrorInfo(
        type="tunekit.errors.SilentRestartError", message=what_happened(restart), hint=what_to_do(restart.sign)
    )
