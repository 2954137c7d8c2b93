"""Random and grid search: every trial's configuration is a function of the seed and of the trial's index alone.

Trial i is sample i // G in cell i % G, where G is the number of cells of the grid. Each number that is drawn is keyed
by (seed, sample, path), so the cells of one sample share their random values, and a trial's configuration depends
neither on how many are asked for at once nor on the order of asking. A longer sweep begins with the shorter one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunekit.config.problems import Problems
from tunekit.core import rng
from tunekit.core.events import Draw
from tunekit.errors import ConfigError
from tunekit.space import Space
from tunekit.space.describe import fingerprint
from tunekit.types import Json, Metrics, Mode, TrialId

_POINTS_HINT = "give the configurations to begin with, as in points_to_evaluate=[{'lr': 0.1}]"


class RandomSearch:
    """Draws each configuration independently, and every combination of the grids' values for each sample.

    Args:
        points_to_evaluate: Configurations, or parts of them, that are tried first: point k fixes these parameters in
            sample k, in all its grid cells, and chance draws the others. They count as samples. Nested as the
            configuration is, or keyed by paths such as ``layers/0/width``.

    Differs: in Ray Tune each cell of the grid draws its own random values unless ``constant_grid_search=True``; here
    the cells of one sample always share them, so that they can be compared.

    Raises:
        ConfigError: If ``points_to_evaluate`` is no sequence of dicts.
    """

    learns: ClassVar[bool] = False

    def __init__(self, points_to_evaluate: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Check the kind of the points; their values are checked once the space is known."""
        points: Any = () if points_to_evaluate is None else points_to_evaluate
        _check_points(points)
        self.points_to_evaluate: tuple[Mapping[str, Any], ...] = tuple(dict(point) for point in points)

    def __repr__(self) -> str:
        """Return the call that makes it."""
        points = [*self.points_to_evaluate]
        return f"RandomSearch(points_to_evaluate={points!r})" if points else "RandomSearch()"

    def num_trials(self, space: Space, num_samples: int) -> int | None:
        """Return samples times cells; for -1, one pass of the grid, or None if the space is random."""
        return space.num_configurations if num_samples == -1 else num_samples * space.grid_size

    def begin(self, space: Space, *, metric: str | None, mode: Mode, seed: int) -> RandomSearchState:
        """Return fresh state for one experiment.

        Raises:
            ConfigError: If a point lies outside the space.
        """
        del metric, mode  # nothing is learnt
        return RandomSearchState(space, seed, _encode(space, self.points_to_evaluate))

    def identity(self) -> dict[str, Json]:
        """Return class name and arguments as JSON values."""
        points = [fingerprint(point) for point in self.points_to_evaluate]
        return {"class": type(self).__name__, "points_to_evaluate": points}


class RandomSearchState:
    """Random search at work; it has no state but what it was given.

    Args:
        space: The search space.
        seed: Seed of the experiment.
        points: What is fixed in the first samples, as journalled values by path.
    """

    def __init__(self, space: Space, seed: int, points: Sequence[Mapping[str, Json]]) -> None:
        """Keep the arguments."""
        self._space = space
        self._seed = seed
        self._points = points

    def ask(self, first: TrialId, count: int) -> tuple[list[Draw], bool]:
        """Return the draws of these trials. Never exhausted: how many there are is said by ``num_trials``."""
        return [self._draw(trial) for trial in range(first, first + count)], False

    def _draw(self, trial: TrialId) -> Draw:
        sample, cell = divmod(trial, self._space.grid_size)
        point = self._points[sample] if sample < len(self._points) else None
        values, shown = self._space.draw(cell, lambda path: rng.uniform(self._seed, "draw", sample, path), fixed=point)
        return Draw(values=values, shown=shown)

    def tell(self, trial: TrialId, draw: Draw, metrics: Metrics | None, failed: bool) -> None:  # noqa: FBT001 - a seam
        """Learn nothing."""


def _encode(space: Space, points: Sequence[Mapping[str, Any]]) -> list[dict[str, Json]]:
    problems = Problems("RandomSearch")
    encoded = []
    for place, point in enumerate(points):
        try:
            encoded.append(space.encode(point))
        except ConfigError as error:
            problems.adopt(f"points_to_evaluate[{place}]", error)
    problems.raise_if_any()
    return encoded


def _check_points(points: object) -> None:
    problems = Problems("RandomSearch")
    if isinstance(points, str | Mapping) or not isinstance(points, Sequence):
        hint = "did you mean points_to_evaluate=[{...}]?" if isinstance(points, Mapping) else _POINTS_HINT
        problems.bad_type("points_to_evaluate", points, "a list of dicts", hint=hint)
    else:
        for place, point in enumerate(points):
            if not isinstance(point, Mapping):
                problems.bad_type(f"points_to_evaluate[{place}]", point, "a dict of parameters", hint=_POINTS_HINT)
    problems.raise_if_any()
