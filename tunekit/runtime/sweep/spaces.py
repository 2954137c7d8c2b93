"""The search spaces that an experiment has had, and the configurations of its trials.

A trial is recorded as its draw: numbers and indexes that mean something in one space only. With
``on_change="extend"`` a later driver may draw from another space, so each driver records the space that it drew from,
and a trial belongs to the driver that asked for it. Trials never change their configuration: those of an earlier space
are resolved in that one, which is made again of what was recorded and of the objects that the script still has.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunekit.core import rng
from tunekit.core.events import Draw, DriverStarted
from tunekit.errors import ConfigError
from tunekit.journal.header import differences
from tunekit.runtime.attempt.generators import seeded
from tunekit.runtime.sweep.plan import Plan
from tunekit.search.base import SearcherState
from tunekit.space import Space
from tunekit.space.nodes import Lend
from tunekit.space.portable import find_lost, from_outline
from tunekit.types import Json, Metrics, TrialId


@dataclass
class _Era:
    """A stretch of trials that were drawn from the same space."""

    first: TrialId
    signature: Mapping[str, Json]
    outline: Json | None = None
    """What it was, as far as that is recorded."""


class Spaces:
    """The spaces of one experiment.

    Args:
        plan: The script as it is now.
        signature: Of the space with which the experiment began.
        seed: The one that is in force.
    """

    def __init__(self, plan: Plan, signature: Mapping[str, Json], seed: int) -> None:
        """Begin with the first space."""
        self._plan = plan
        self._seed = seed
        self._eras = [_Era(0, signature)]
        self._made: dict[int, Space] = {}
        self.code = ""
        """Digest of the trainable's code as of the newest driver; empty if that is not known."""

    def note(self, driver: DriverStarted, num_trials: int) -> None:
        """Take note of a driver that began when there were so many trials."""
        run = driver.run
        self.code = run.get("code", "")
        newest, outline = self._eras[-1], run.get("space") or run.get("outline")
        signature = run.get("space_signature", newest.signature)
        if not any(differences("", newest.signature, signature)):
            newest.outline = newest.outline or outline
        elif newest.first == num_trials:
            self._eras[-1] = _Era(num_trials, signature, outline)
        else:
            self._eras.append(_Era(num_trials, signature, outline))

    @cached_property
    def changes(self) -> list[str]:
        """In what the script's space differs from the one that was drawn from last. Asked for when all is noted."""
        return list(differences("param_space", self._eras[-1].signature, self._plan.space.signature()))

    @cached_property
    def changed_grid(self) -> bool:
        """Whether the grid is another one, whose cells are numbered in another way."""
        return _grid(self._eras[-1].signature) != _grid(self._plan.space.signature())

    def is_current(self, trial: TrialId) -> bool:
        """Whether a trial was drawn from the script's own space."""
        return self._space(self._number(trial)) is self._plan.space

    def resolve(
        self, trial: TrialId, values: Mapping[str, Json], *, is_shown: bool = False, lend: Lend | None = None
    ) -> dict[str, Any]:
        """Return the configuration of a trial, made afresh.

        Args:
            trial: The trial.
            values: Its draw.
            is_shown: Whether it is for tables, where an object that the script no longer has is there by name.
            lend: As for ``Space.resolve``.

        Raises:
            ConfigError: It holds an object that the script no longer has, or its space is not known.
        """
        space = self._space(self._number(trial))
        sample = trial // space.grid_size  # As when it was drawn: the cells of one sample share their chance.
        config = space.resolve(values, lambda path: rng.uniform(self._seed, "draw", sample, path), lend=lend)
        lost = None if space is self._plan.space or is_shown else find_lost(config)
        if lost is not None:
            name = self._plan.trial_name(trial)
            raise ConfigError(
                f"{name} was drawn from an earlier search space and holds {lost!r}, which the script no longer has",
                hint="leave what trials hold in the search space, or start under a new name: on_change='fork'",
            )
        return config

    def _number(self, trial: TrialId) -> int:
        return bisect_right(self._eras, trial, key=lambda era: era.first) - 1

    def _space(self, number: int) -> Space:
        if number not in self._made:
            self._made[number] = self._make(self._eras[number])
        return self._made[number]

    def _make(self, era: _Era) -> Space:
        plan = self._plan
        if not any(differences("", era.signature, plan.space.signature())):
            return plan.space
        if era.outline is None:
            raise ConfigError(
                f"the search space was changed, and the one of the trials from {era.first} on is not recorded",
                hint="take the change back, or start under a new name: on_change='fork'",
            )
        return Space(from_outline(era.outline, dict(plan.param_space)), lend=seeded)


class ToldOfItsOwn:
    """A searcher at work that hears only of trials of the space that it searches.

    Args:
        searcher: The searcher.
        spaces: Which trial is of which space.
    """

    def __init__(self, searcher: SearcherState, spaces: Spaces) -> None:
        """Keep both."""
        self._searcher = searcher
        self._spaces = spaces

    def ask(self, first: TrialId, count: int) -> tuple[list[Draw], bool]:
        """Pass the question on."""
        return self._searcher.ask(first, count)

    def tell(self, trial: TrialId, draw: Draw, metrics: Metrics | None, failed: bool) -> None:  # noqa: FBT001 - a seam
        """Pass on what can be understood."""
        if self._spaces.is_current(trial):
            self._searcher.tell(trial, draw, metrics, failed)


def _grid(signature: Mapping[str, Json]) -> dict[str, Json]:
    return {path: part for path, part in signature.items() if isinstance(part, dict) and "axis" in part}
