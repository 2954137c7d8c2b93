"""One trial as results see it: its state in memory, its configuration and its rows when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunekit.core.events import Place, ResultReported
from tunekit.core.rows import RowTable, knows_last
from tunekit.core.trial import TrialState
from tunekit.results.columns import filled
from tunekit.results.differences import RewrittenRow, as_shown
from tunekit.store import layout
from tunekit.store.joining import joined
from tunekit.types import TrialId


@dataclass(frozen=True)
class Source:
    """Where results come from."""

    path: str
    """The experiment's folder."""
    trainable_name: str
    """What trials are named after."""
    configs: Callable[[TrialId], dict[str, Any]]
    """Makes the configuration of a trial."""
    shown_configs: Callable[[TrialId], dict[str, Any]]
    """Makes it for tables, as far as that can be done: what the script no longer has is there by name."""
    read_rows: Callable[[], RowTable]
    """Reads the journal. Called once at most, and only when a question needs more than each trial's last row."""

    def trial_name(self, trial: TrialId) -> str:
        """Return the name of a trial."""
        return layout.trial_name(self.trainable_name, trial)

    @cached_property
    def table(self) -> RowTable:
        """All rows of all trials."""
        return self.read_rows()


class History:
    """One trial.

    Args:
        state: The trial's state.
        source: Where everything else is.
    """

    def __init__(self, state: TrialState, source: Source) -> None:
        """Keep the parts; nothing is read yet."""
        self.state = state
        self._source = source

    @property
    def name(self) -> str:
        """The trial's name, such as ``train_00003``."""
        return self._source.trial_name(self.state.trial)

    @property
    def path(self) -> str:
        """The trial's folder."""
        return joined(self._source.path, self.name)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The trial's configuration."""
        return self._source.configs(self.state.trial)

    @cached_property
    def shown_config(self) -> dict[str, Any]:
        """The same for tables: what the script no longer has is there by name."""
        return self._source.shown_configs(self.state.trial)

    @property
    def rows(self) -> list[ResultReported]:
        """Every row that counts, by iteration. Reads the journal."""
        return self._source.table.rows(self.state)

    @property
    def rewritten(self) -> list[RewrittenRow]:
        """Its rows that were computed again with another outcome, in the order of the journal. Reads that."""
        rows = self._source.table.rewritten
        return [as_shown(row, self._source.trial_name) for row in rows if row.after.trial == self.state.trial]

    @cached_property
    def last(self) -> ResultReported | None:
        """The last of ``rows``. Where the trial fell back, only the journal may know it."""
        return self.state.last if knows_last(self.state) else next(reversed(self.rows), None)

    def shown(self, row: ResultReported) -> dict[str, Any]:
        """Return a row with the columns that every row has."""
        return filled(row, trial_name=self.name, place=self._source.table.place(row))

    def shown_last(self) -> dict[str, Any]:
        """Return the last row with the columns that every row has, or {}. Reads nothing for the place."""
        if self.last is None:
            return {}
        if not knows_last(self.state):
            return self.shown(self.last)
        place = self.state.place if self.last.attempt == self.state.attempt else Place()
        return filled(self.last, trial_name=self.name, place=place)
