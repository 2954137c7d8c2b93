"""The search space of a sweep: which configurations there are, and how each is recorded and made again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from tunekit.config.problems import Problems, did_you_mean, shorten
from tunekit.space.describe import is_json, plain, shown
from tunekit.space.domains import Domain, Drawn, GridSearch
from tunekit.space.functions import apply
from tunekit.space.nodes import Drawing, Function, Leaf, Lend, Made, Uniform
from tunekit.space.parse import parse
from tunekit.types import Json

_MAX_LISTED = 6


class Space:
    """A nested dict of fixed values and domains.

    A configuration is recorded as its *draw*: the number or the index at the path of each domain that took part. The
    draw is JSON, and the configuration is made again of it and of the space, so that the space may hold values of any
    type, such as classes. A path is the keys and indexes that lead to a value, as in ``layers/0/width``; ``/`` and
    ``~`` in a key are written ``~1`` and ``~0``. What is below option 2 of a choice at ``model`` is below ``model/2``.

    Args:
        param_space: Names of parameters, and what each can be; dicts, lists and tuples may be nested.
        lend: What a ``sample_from`` is called in, so that one that draws by chance draws what its path says.

    Raises:
        ConfigError: Listing every place at which the space cannot be understood.
    """

    def __init__(self, param_space: Mapping[str, Any] | None = None, *, lend: Lend | None = None) -> None:
        """Understand the space."""
        self._lend = lend
        self._root = parse({} if param_space is None else param_space)
        self._leaves = {leaf.path: leaf for leaf in self._root.leaves()}
        self._grids = [
            leaf for leaf in self._leaves.values() if isinstance(leaf, Leaf) and isinstance(leaf.domain, GridSearch)
        ]
        self._strides = _strides(self._grids)
        self.grid_size = math.prod(len(grid.options) for grid in self._grids)
        """How many cells the grid has; 1 without a grid."""

    @property
    def domains(self) -> dict[str, Domain]:
        """Every domain by path, those inside the options of a choice included."""
        return {path: leaf.domain for path, leaf in self._leaves.items()}

    @property
    def has_random(self) -> bool:
        """Whether two trials of the same cell can differ. What a ``sample_from`` makes counts as random."""
        return len(self._leaves) > len(self._grids)

    @property
    def num_configurations(self) -> int | None:
        """How many different configurations there are; None: any number."""
        return None if self.has_random else self.grid_size

    def signature(self) -> dict[str, Json]:
        """Return JSON by path that is equal for equal spaces, in every process.

        Values that are not JSON count by their name or text; the code of functions is not looked at.
        """
        return dict(self._root.describe(""))

    # -- drawing ----------------------------------------------------------------------------------------------------

    def draw(
        self, cell: int, uniform: Uniform, *, fixed: Mapping[str, Json] | None = None
    ) -> tuple[dict[str, Json], dict[str, Json]]:
        """Draw a configuration.

        Args:
            cell: Which combination of the grids' values, in row-major order: the last grid varies fastest.
            uniform: Gives the number in [0, 1) for a path.
            fixed: Journalled values by path that are taken as they are, as ``encode`` returns them.

        Returns:
            The draw, and the same paths with printable values.

        Raises:
            ConfigError: If a ``sample_from`` raises.
        """
        known = fixed or {}

        def pick(path: str, domain: Drawn) -> Json:
            if isinstance(domain, GridSearch):
                return cell // self._strides[path] % len(domain.options)
            return known[path] if path in known else domain.draw(uniform(path))

        return self.fill(pick, fixed=known, uniform=uniform)

    def fill(
        self,
        pick: Callable[[str, Drawn], Json],
        *,
        fixed: Mapping[str, Json] | None = None,
        uniform: Uniform | None = None,
    ) -> tuple[dict[str, Json], dict[str, Json]]:
        """Draw a configuration, asking ``pick`` for the journalled value of each domain that takes part.

        Domains are asked for in order of definition, those inside an option only once it is chosen. ``uniform``
        decides what a ``sample_from`` draws by chance; without it, one has whatever the process has.
        """
        printable: dict[str, Json] = {}

        def ask(leaf: Leaf) -> Json:
            drawn = pick(leaf.path, leaf.domain)
            printable[leaf.path] = leaf.show(drawn)
            return drawn

        drawing = Drawing(ask)
        self._root.draw(drawing)
        made = self._call(drawing, fixed or {}, uniform, self._lend)
        printable.update((path, shown(result)) for path, result in made.results.items())
        return drawing.values, printable

    def _call(self, drawing: Drawing, known: Mapping[str, Json], uniform: Uniform | None, lend: Lend | None) -> Made:
        """Call the ``sample_from`` whose value is not known, and note in the draw what is JSON."""
        made = Made(drawing.values)
        for function in drawing.functions:
            path = function.path
            if path in known:
                result = known[path]
            else:
                with lend(uniform(path)) if lend and uniform else nullcontext():
                    result = apply(function, self._root.build(made))
            made.results[path] = result
            if is_json(result):
                drawing.values[path] = result
        return made

    # -- making -----------------------------------------------------------------------------------------------------

    def resolve(
        self, values: Mapping[str, Json], uniform: Uniform | None = None, *, lend: Lend | None = None
    ) -> dict[str, Any]:
        """Return the configuration that a draw stands for, made afresh.

        Dicts, lists, tuples and sets are new each time; other objects are those of the space itself.

        Args:
            values: The draw.
            uniform: As for ``draw``; needed for a ``sample_from`` whose value is not recorded.
            lend: In place of the one that the space was given.

        Raises:
            ConfigError: If the draw does not fit the space, or a ``sample_from`` raises.
        """
        drawing = Drawing(lambda leaf: _look_up(leaf, values))
        self._root.draw(drawing)
        used = {*drawing.values, *(function.path for function in drawing.functions)}
        problems = Problems("the recorded configuration")
        for path in values:
            if path not in used:
                text = f"is recorded as {shorten(values[path])}, but is no parameter of this configuration"
                problems.add(path, text, hint=_CHANGED)
        problems.raise_if_any()
        config: dict[str, Any] = self._root.build(self._call(drawing, values, uniform, lend or self._lend))
        return config

    # -- points of the user -----------------------------------------------------------------------------------------

    def encode(self, point: Mapping[str, Any]) -> dict[str, Json]:
        """Return what is journalled for a part of a configuration, such as a point that is known to be good.

        Args:
            point: Nested as the configuration is, or keyed by paths; parameters may be missing.

        Raises:
            ConfigError: Listing every value that lies outside the space.
        """
        problems = Problems("a point of the search space")
        found: dict[str, Json] = {}
        if not isinstance(point, Mapping):
            problems.bad_type("point", point, "a dict of parameters", hint="such as {'lr': 0.1}")
            problems.raise_if_any()
        names = {key: node for key, _, node in self._root.items}
        for key, value in point.items():
            node = names.get(key) or self._leaves.get(key)
            if node is None:
                meant = did_you_mean(key, [*names, *self._leaves])
                hint = f"did you mean {meant!r}?" if meant else f"there are {', '.join([*names][:_MAX_LISTED])}"
                problems.add(str(key), "is no parameter of the space", hint=hint)
                continue
            part: dict[str, Json] = {}
            reason = node.match(plain(value), part)
            if reason:
                problems.add(str(key), reason, hint="give a value that the space can draw")
            for path, drawn in _with_needs(self._leaves, part).items():
                if found.setdefault(path, drawn) != drawn:
                    problems.add(str(key), f"contradicts what the point says of {path}", hint=f"give {path} once")
        problems.raise_if_any()
        return found


_CHANGED = "the search space was changed since; start under a new name, or take the change back"


def _look_up(leaf: Leaf, values: Mapping[str, Json]) -> Json:
    problems = Problems("the recorded configuration")
    if leaf.path not in values:
        problems.add(leaf.path, f"is not recorded, but the space has {leaf.domain!r} there", hint=_CHANGED)
    elif reason := leaf.domain.why_not(values[leaf.path]):
        problems.add(leaf.path, f"{reason} ({leaf.domain!r})", hint=_CHANGED)
    problems.raise_if_any()
    return values[leaf.path]


def _strides(grids: list[Leaf]) -> dict[str, int]:
    """Return by path after how many cells each grid takes its next value."""
    sizes = [len(grid.options) for grid in grids]
    return {grid.path: math.prod(sizes[place + 1 :]) for place, grid in enumerate(grids)}


def _with_needs(leaves: Mapping[str, Leaf | Function], part: Mapping[str, Json]) -> dict[str, Json]:
    """Return ``part`` with the choices that must be made for its paths to take part."""
    needed = {
        path: index
        for name in part
        for path, index in leaves[name].needs
        if not isinstance(leaves[path].domain, GridSearch)  # every option of a grid is tried anyway
    }
    return {**needed, **part}
