"""What the judge of a simulated sweep knows of attempts that began anew although they were given a checkpoint.

A worker says so itself, or it shows in the rows: the first three after the checkpoint are the first three of the trial.
In a simulated sweep no value of the metric comes twice by chance, so that the judge has it easier than the core: three
rows alike, of three different values, are a beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tunekit.core.events import ResultReported, TrialStartedOver
from tunekit.testing.sim_options import METRIC
from tunekit.types import StartOver

_NUM_ROWS = 3


@dataclass(slots=True)
class Restarts:
    """Those of one trial."""

    told: list[tuple[int, int, StartOver]] = field(default_factory=list)
    """Attempt, checkpoint and sign of each attempt that is known to have begun anew."""
    _first: list[float] = field(default_factory=list)
    """The values of the first rows that the trial has ever reported, or of the newest row 1 and what followed it."""
    _first_attempt: int = 0
    _alike: list[float] = field(default_factory=list)
    """The values of the rows of its attempt that were those of the beginning."""

    def begin(self) -> None:
        """An attempt was launched."""
        self._alike = []

    def hear(self, event: TrialStartedOver) -> None:
        """The worker of an attempt has said that it began anew."""
        self._note((event.attempt, event.iteration, event.sign))

    def see(self, row: ResultReported, resumed_from: int | None) -> bool:
        """Take in a row, and return whether it shows now that its attempt began anew."""
        value = row.metrics[METRIC]
        if row.iteration == 1:
            self._first, self._first_attempt = [value], row.attempt
        elif len(self._first) < _NUM_ROWS:
            if row.iteration == len(self._first) + 1:
                self._first.append(value)
        elif row.attempt != self._first_attempt and row.iteration == (resumed_from or 0) + len(self._alike) + 1:
            return self._compare(row, value, resumed_from or 0)
        return False

    def _compare(self, row: ResultReported, value: float, resumed_from: int) -> bool:
        if len(set(self._first)) < _NUM_ROWS or len(self._alike) == _NUM_ROWS:
            return False
        if value != self._first[len(self._alike)]:
            self._alike = [0.0] * _NUM_ROWS  # It is not compared any more.
            return False
        self._alike.append(value)
        if len(self._alike) < _NUM_ROWS:
            return False
        self._note((row.attempt, resumed_from, StartOver.SAME_ROWS))
        return True

    def _note(self, restart: tuple[int, int, StartOver]) -> None:
        """Note an attempt, by its first sign."""
        if all(attempt != restart[0] for attempt, _, _ in self.told):
            self.told.append(restart)
