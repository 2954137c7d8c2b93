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


class Beginning(msgspec.Struct):
    """The first rows of a trial. They are taken apart when there is something to compare them with, and not before."""

    attempt: int
    """The attempt that reported the first of them."""
    rows: list[ResultReported]
    key: str = ""
    """The metric that tells rows apart."""
    first: float | None = None
    """Its value in the first row."""
    flat_key: str | None = None
    """The same key, unless it leads into a dict; None: not known yet."""
    is_telling: bool = True
    """Whether it would be strange if these rows came again."""
    num_alike: int | None = None
    """How many rows of the current attempt were those of the beginning; None: it is not compared any more."""


def begins_anew(seen: Beginning, row: ResultReported, resume_from: int | None, metric: str | None) -> bool:
    """Take in a row that may say something, and return whether its attempt is now seen to have begun anew.

    Args:
        seen: The beginning of the trial; it is brought up to date.
        row: The row.
        resume_from: Iteration of the checkpoint that its attempt started from.
        metric: That of the sweep, if it has one.
    """
    if seen.first is None and not _take_apart(seen, metric):
        return False
    place = row.iteration - (resume_from or 0) - 1
    if place == 0 and row.attempt != seen.attempt:
        seen.num_alike = 0
    value = score(row.metrics, seen.key)
    if seen.num_alike is None or seen.num_alike != place:
        seen.is_telling = value != seen.first
        return False
    if not _is_alike(seen, row, place, metric):
        seen.num_alike = None
        seen.is_telling = place == 0 and value != seen.first
        return False
    seen.num_alike += 1
    if seen.num_alike < NUM_ROWS:
        return False
    seen.num_alike = None
    return True


def _take_apart(seen: Beginning, metric: str | None) -> bool:
    """Find out what tells the first rows apart, and return whether anything does."""
    key = metric if metric is not None else _first_fraction(seen.rows[0].metrics)
    values = [score(row.metrics, key) for row in seen.rows] if key is not None else []
    seen.is_telling = None not in values and len(set(values)) == NUM_ROWS
    if key is not None and seen.is_telling:
        seen.key, seen.first = key, values[0]
        seen.flat_key = key if key in seen.rows[0].metrics else None
    return seen.is_telling


def _is_alike(seen: Beginning, row: ResultReported, place: int, metric: str | None) -> bool:
    """Return whether a row is the one that the trial reported at this place of its beginning."""
    model = seen.rows[place].metrics
    is_same = score(row.metrics, seen.key) == score(model, seen.key)
    return is_same and _others(row.metrics, metric) == _others(model, metric)


def _others(metrics: dict[str, Any], metric: str | None) -> dict[str, str]:
    """Return what must be the same beside the value: all but clock and place; with a metric, also but fractions."""
    return {
        name: repr(leaf)  # as text, because NaN differs from itself
        for name, leaf in flatten(metrics).items()
        if not is_of_clock_or_place(name) and (metric is None or not isinstance(leaf, float))
    }


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
