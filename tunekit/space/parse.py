"""From what the user wrote to the tree of nodes, with every problem of it at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from tunekit.config.problems import Problems, shorten
from tunekit.space import constructors
from tunekit.space.containers import can_rebuild
from tunekit.space.domains import Choice, Domain, Drawn, GridSearch, SampleFrom
from tunekit.space.nodes import Container, Fixed, Function, Leaf, Node
from tunekit.space.paths import join

Needs: TypeAlias = tuple[tuple[str, int], ...]

_MAX_DEPTH = 100
_WORDS = [
    value
    for name, value in vars(constructors).items()
    if getattr(value, "__module__", "") == constructors.__name__ and not name.startswith("_")
]
"""``uniform`` and the like themselves, which somebody may have forgotten to call."""

_CONTAINERS = "put domains into dicts, lists and tuples; of anything else, give whole values: tunekit.choice([...])"


def parse(param_space: object) -> Container:
    """Return the tree of a search space.

    Raises:
        ConfigError: Listing every place at which the space cannot be understood.
    """
    if not isinstance(param_space, Mapping):
        problems = Problems("Tuner")
        hint = "name the parameter, as in {'lr': tunekit.loguniform(1e-4, 1e-1)}"
        problems.bad_type("param_space", param_space, "a dict with a name for each parameter", hint=hint)
        raise problems.error()
    parser = _Parser()
    root = parser.container(param_space if isinstance(param_space, dict) else dict(param_space), "", ())
    for key in param_space:
        if not isinstance(key, str) or not key:
            parser.bad_key("param_space", key, "a non-empty string, the name of a parameter")
    parser.problems.raise_if_any()
    return root


class _Parser:
    """One walk over what the user wrote."""

    def __init__(self) -> None:
        self.problems = Problems("param_space")
        self.num_grids = 0
        self.above: list[int] = []
        """Ids of the objects that the walk is inside of."""

    def node(self, value: Any, path: str, needs: Needs) -> Node:
        if isinstance(value, dict) and list(value) == ["grid_search"] and isinstance(value["grid_search"], list):
            return self.node(constructors.grid_search(value["grid_search"]), path, needs)  # as Ray Tune writes it
        if isinstance(value, dict | list | tuple):
            container = self.container(value, path, needs)
            return container if any(True for _ in container.leaves()) else Fixed(value)
        if isinstance(value, SampleFrom):
            return Function(path, value, needs)
        if isinstance(value, Drawn):
            return self.leaf(value, path, needs)
        self.check_fixed(value, path)
        return Fixed(value)

    def leaf(self, domain: Drawn, path: str, needs: Needs) -> Leaf:
        if not isinstance(domain, Choice):
            return Leaf(path, domain, needs=needs)
        leaf = Leaf(path, domain, needs=needs)
        if isinstance(domain, GridSearch):
            if needs:
                hint = "move the grid out of the options, or make it a choice"
                self.problems.add(
                    path, "is a grid inside an option, which would change the number of trials", hint=hint
                )
            leaf = replace(leaf, axis=self.num_grids)
            self.num_grids += 1
        self.above.append(id(domain))
        options = tuple(
            self.node(option, join(path, index), (*needs, (path, index))) if self.enter(option, path) else Fixed(None)
            for index, option in enumerate(domain.options)
        )
        self.above.pop()
        return replace(leaf, options=options)

    def container(self, value: Any, path: str, needs: Needs) -> Container:
        self.above.append(id(value))
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        items = tuple(
            (key, join(path, key), self.node(item, join(path, key), needs))
            for key, item in pairs
            if self.enter(item, join(path, key))
        )
        self.above.pop()
        container = Container(value, items)
        if any(True for _ in container.leaves()):
            self.check_container(value, path)
        return container

    def enter(self, value: object, path: str) -> bool:
        """Return whether the walk may go on into ``value``."""
        if not isinstance(value, dict | list | tuple | Choice):
            return True
        if id(value) in self.above:
            self.problems.add(path, "contains itself", hint="take it out of itself")
            return False
        if len(self.above) >= _MAX_DEPTH:
            self.problems.add(path, f"is nested deeper than {_MAX_DEPTH} levels", hint="make the space flatter")
            return False
        return True

    def check_container(self, value: object, path: str) -> None:
        """Refuse what is fine around fixed values but gives domains no name or no place."""
        place = path or "param_space"
        if isinstance(value, dict):
            for key in value:
                if path and (not isinstance(key, str) or not key):
                    self.bad_key(place, key, "a non-empty string, since there are domains in it")
        elif isinstance(value, list | tuple) and not can_rebuild(value):
            self.problems.bad_type(
                place, value, "a dict, list or tuple, since there are domains in it", hint=_CONTAINERS
            )

    def bad_key(self, place: str, key: object, allowed: str) -> None:
        kind = type(key).__qualname__
        text = f"got the key {shorten(key)} ({kind}), but each key must be {allowed}"
        self.problems.add(place, text, hint="name each parameter, such as {'lr': tunekit.uniform(0, 1)}", is_type=True)

    def check_fixed(self, value: object, path: str) -> None:
        """Refuse fixed values that were certainly meant to be domains."""
        kind = type(value)
        if kind.__module__.startswith("ray.tune.search"):
            hint = "import uniform, choice and the like from tunekit; their names and arguments are the same"
            self.problems.bad_type(path, value, "a domain of tunekit", hint=hint)
        elif kind.__module__.startswith("optuna.distributions"):
            self.problems.bad_type(path, value, "a domain of tunekit", hint="use tunekit.uniform, choice and the like")
        elif isinstance(value, set | frozenset | Mapping) and any(isinstance(item, Domain) for item in _items(value)):
            self.problems.bad_type(
                path, value, "a dict, list or tuple, since there are domains in it", hint=_CONTAINERS
            )
        elif any(value is word for word in _WORDS):
            name = getattr(value, "__name__", shorten(value))
            self.problems.add(
                path, f"got the function {name} itself, not what it returns", hint=f"call it: {name}(...)"
            )


def _items(value: set[object] | frozenset[object] | Mapping[object, object]) -> list[object]:
    return [*value.values()] if isinstance(value, Mapping) else [*value]
