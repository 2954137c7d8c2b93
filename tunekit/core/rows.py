"""The table of results: each (trial, iteration) once, however often a trial was rewound.

The journal keeps every row that a driver was ever told. Which of them count follows from two rules.

1. Only what the experiment took in counts: a row of the attempt that is under way. An attempt begins with its
   ``LaunchTrial``, and ends with the event that closes it or with the next driver. What a lost worker says afterwards
   is as void here as it is in ``core.experiment``.
2. A row is replaced only by a row of a later attempt. So when a trial falls back from iteration 8 to its checkpoint at
   5, rows 6 to 8 stay until they are computed again; should the later attempt come to its end at 7, row 8 never
   happened. A trial that failed keeps what it had.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from tunekit.core.commands import Command, LaunchTrial
from tunekit.core.events import (
    DriverStarted,
    Event,
    LaunchFailed,
    Place,
    RestoreFailed,
    ResultReported,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialStarted,
    WorkerLost,
)
from tunekit.core.metrics import differing
from tunekit.core.trial import TrialState
from tunekit.types import TrialId, TrialStatus

ENDINGS = (TrialReturned, TrialRaised, TrialHalted, TrialPreempted, WorkerLost, LaunchFailed, RestoreFailed)
"""What an attempt ends with."""
_REACHED_ITS_END = frozenset({TrialStatus.COMPLETED, TrialStatus.STOPPED})


class Rewritten(NamedTuple):
    """A row that a later attempt computed again, with another outcome: the trainable is not deterministic."""

    before: ResultReported
    after: ResultReported
    keys: list[str]
    """The metrics that differ, sorted; clock and place do not count."""


class _Story(msgspec.Struct):
    """What the journal says of one trial."""

    attempt: int = 0
    """The newest attempt."""
    is_live: bool = False
    """Whether it has begun and not ended."""
    newest: int = 0
    """Iteration of its newest row; 0 if it has none."""
    rows: dict[int, ResultReported] = msgspec.field(default_factory=dict)
    """By iteration."""
    places: dict[int, Place] = msgspec.field(default_factory=dict)
    """By attempt."""


class RowTable:
    """The rows of trials, built from the journal's records in their order.

    Args:
        records: The journal; more can be added later.
        only: The trials that are wanted; None: all.
    """

    def __init__(self, records: Iterable[Event | Command] = (), *, only: Collection[TrialId] | None = None) -> None:
        """Take in records."""
        self._stories: dict[TrialId, _Story] = {}
        self._only = only
        self.rewritten: list[Rewritten] = []
        """Rows whose metrics differ from those of an earlier attempt, which decisions may have been based on."""
        for record in records:
            self.apply(record)

    def apply(self, record: Event | Command) -> None:
        """Take in the next record of the journal. Most kinds say nothing about rows."""
        if isinstance(record, ResultReported):
            self._add_row(record)
        elif isinstance(record, LaunchTrial):
            if self._only is not None and record.trial not in self._only:
                return  # Without a story, none of its rows counts.
            launched = self._stories.setdefault(record.trial, _Story())
            launched.attempt, launched.is_live, launched.newest = record.attempt, True, 0
        elif isinstance(record, DriverStarted):
            for story in self._stories.values():
                story.is_live = False
        elif isinstance(record, TrialStarted):
            if (live := self._live(record.trial, record.attempt)) is not None:
                live.places[record.attempt] = record.place
        elif isinstance(record, ENDINGS) and (live := self._live(record.trial, record.attempt)) is not None:
            live.is_live = False

    def rows(self, trial: TrialState) -> list[ResultReported]:
        """Return the rows of a trial that count, by iteration."""
        story = self._stories.get(trial.trial)
        if story is None:
            return []
        end = end_of(trial)
        return [story.rows[at] for at in sorted(story.rows) if end is None or at <= end]

    def place(self, row: ResultReported) -> Place:
        """Return where the attempt that reported the row ran."""
        story = self._stories.get(row.trial)
        return story.places.get(row.attempt, Place()) if story else Place()

    def _live(self, trial: TrialId, attempt: int) -> _Story | None:
        story = self._stories.get(trial)
        return story if story is not None and story.is_live and story.attempt == attempt else None

    def _add_row(self, row: ResultReported) -> None:
        story = self._live(row.trial, row.attempt)
        if story is None or row.iteration <= story.newest:
            return
        story.newest = row.iteration
        before = story.rows.get(row.iteration)
        story.rows[row.iteration] = row
        if before is not None and (keys := differing(before.metrics, row.metrics)):
            self.rewritten.append(Rewritten(before, row, keys))


def end_of(trial: TrialState) -> int | None:
    """Return the iteration after which no row of the trial counts; None: all count.

    A trial that came to its end ends with its last attempt: at that attempt's last row or, if it had nothing to add,
    at the checkpoint that it started from.
    """
    if trial.status not in _REACHED_ITS_END:
        return None
    last = trial.last
    return last.iteration if last is not None and last.attempt == trial.attempt else trial.resume_from or 0


def knows_last(trial: TrialState) -> bool:
    """Return whether the newest row that was written, ``trial.last``, is sure to be the last one of the table.

    It need not be: a trial that fell back has rows that an earlier attempt came to, or has ended before that row.
    """
    last, end = trial.last, end_of(trial)
    if last is None or last.iteration == end:
        return True
    return last.attempt == 1 and (end is None or last.iteration < end)
