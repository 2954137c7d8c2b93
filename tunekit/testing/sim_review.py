"""Looks at what a simulated driver has left, at each boot and when the sweep has finished, and finds fault with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunekit.core import invariants
from tunekit.core.codec import Record
from tunekit.core.commands import Command, TellSearcher
from tunekit.core.events import Event, ResultReported
from tunekit.core.experiment import Experiment
from tunekit.core.state import State
from tunekit.journal.replay import replay
from tunekit.testing.sim_accounts import check_accounts
from tunekit.testing.sim_checks import check_boot, check_end, compare, require
from tunekit.testing.sim_judge import Judge
from tunekit.testing.sim_reference import check_dependence, outcome_of
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.testing.sim_truth import check_truth
from tunekit.testing.sim_world import Oracle
from tunekit.types import Mode, TrialId


class Review:
    """Follows one sweep from driver to driver.

    Args:
        around: The world as it is.
    """

    def __init__(self, around: Surroundings) -> None:
        """Begin with an empty journal."""
        self.judge = Judge(around.options)
        self.last: State | None = None
        """Of the driver before."""
        self.heard: list[str] = []
        """What the searcher was told, as the journal says."""
        self._around = around
        self.oracle = Oracle(around.seed)
        self._acknowledged: set[tuple[TrialId, int, int]] = set()
        self._judged = 0
        """How many events the judge has seen."""
        self._handled = self._handled_before = 0
        """How many events the core of this driver was told, and that of the one before."""

    def take_over(self, records: Sequence[Record]) -> Experiment:
        """Fold the journal as the next driver does, and return its core.

        Raises:
            InvariantViolationError: A promise is broken.
        """
        experiment = self._replayed(records)
        require(check_boot(self._around, self.judge, self.oracle, acknowledged=self._acknowledged))
        if self.last is not None and self._handled_before == self._handled:
            require(compare(self.last, experiment.state))
        return experiment

    def check_end(self, state: State, records: Sequence[Record]) -> None:
        """Check the results of a sweep that has finished.

        Raises:
            InvariantViolationError: A promise is broken.
        """
        options = self._around.options
        require(check_end(self._around, state, records, self.judge, self.oracle))
        require(check_dependence(options, state))

    def check_accounts(self, state: State, records: Sequence[Record]) -> None:
        """Check the accounts of a sweep of which nothing is to come any more.

        Raises:
            InvariantViolationError: They do not add up, or say something else than what was done.
        """
        require(check_accounts(records, Experiment(self._around.options.scheduler, Mode.MIN)))
        require(check_truth(self._around, records, state))

    def observe(self, events: Sequence[Event], state: State) -> None:
        """Count what the core was told. Nothing is checked here, since a driver forgives its observers everything."""
        del state
        self._handled += len(events)

    def acknowledge(self, batch: Sequence[Event]) -> None:
        """Note which rows workers are told to forget."""
        for event in batch:
            if isinstance(event, ResultReported):
                self._acknowledged.add((event.trial, event.attempt, event.iteration))

    def leave(self, state: State) -> None:
        """Remember what a driver had come to."""
        self.last, self._handled_before = state, self._handled

    def outcome(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return what the sweep, which is over, has come to."""
        assert self.last is not None  # noqa: S101 - for the type checker
        return outcome_of(self.last, records, self.heard)

    def _replayed(self, records: Sequence[Record]) -> Experiment:
        """Fold the journal through a fresh core, and show the judge what is new in it."""
        experiment = Experiment(self._around.options.scheduler, Mode.MIN)
        self._handled = 0
        self.heard = []

        def handle(event: Event) -> list[Command]:
            commands = experiment.handle(event)
            self.heard += [f"{c.trial} {c.metrics} {c.failed}" for c in commands if isinstance(c, TellSearcher)]
            self._handled += 1
            if self._handled > self._judged:
                self._judged = self._handled
                self.judge.see(event, commands)
            return commands

        replay(records, handle)
        invariants.check(experiment)
        return experiment
