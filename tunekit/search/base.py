"""What a searcher is: it suggests configurations, and may be told how they turned out.

A searcher lives in the shell, not in the core: what it answers is journalled, so a resumed experiment never asks twice
for the same trial. One that learns is told the results that the journal holds before it is asked again.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from tunekit.core.events import Draw
from tunekit.space import Space
from tunekit.types import Json, Metrics, Mode, TrialId


class SearcherState(Protocol):
    """A searcher at work on one experiment."""

    def ask(self, first: TrialId, count: int) -> tuple[list[Draw], bool]:
        """Suggest configurations for the trials ``first``, ``first + 1`` and so on.

        Args:
            first: Index of the first of these trials.
            count: How many are wanted; fewer may be returned.

        Returns:
            The draws, and whether the space has no further configuration. No draws without exhaustion means: not
            before one of the running trials has ended.
        """
        ...

    def tell(self, trial: TrialId, draw: Draw, metrics: Metrics | None, failed: bool) -> None:  # noqa: FBT001 - a seam
        """Take note of how a trial ended. One that failed and was tried again ends again, and what is told last holds.

        Args:
            trial: Its index.
            draw: Its configuration.
            metrics: Its last row; None if it has none.
            failed: Whether it ended FAILED.
        """
        ...


@runtime_checkable
class Searcher(Protocol):
    """The user's choice of searcher: a description that can begin any number of times."""

    @property
    def learns(self) -> bool:
        """Whether it wants to be told results, and suggests according to them."""
        ...

    def num_trials(self, space: Space, num_samples: int) -> int | None:
        """Return how many trials ``num_samples`` makes of ``space``; None: until the searcher is exhausted.

        Args:
            space: The search space.
            num_samples: As in ``TuneConfig``; -1: as many as there are.
        """
        ...

    def begin(self, space: Space, *, metric: str | None, mode: Mode, seed: int) -> SearcherState:
        """Return fresh state for one experiment.

        Raises:
            ConfigError: If the searcher cannot search this space.
        """
        ...

    def identity(self) -> dict[str, Json]:
        """Return class name and arguments as JSON values: part of the experiment's identity."""
        ...
