"""The search space as a tree: containers, fixed values, and leaves that hold a domain.

Two walks make a configuration of it. ``draw`` visits the domains that take part (those of an option only if it is
chosen) and asks for the journalled value of each; ``build`` makes fresh containers around what was drawn, so that no
two trials ever share one.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tunekit.space.containers import UNMADE, covers, fresh, rebuild
from tunekit.space.describe import fingerprint, shown
from tunekit.space.domains import Choice, Drawn, GridSearch, Numeric, SampleFrom
from tunekit.types import Json

Pick: TypeAlias = Callable[["Leaf"], Json]
"""Says what is journalled for a leaf."""

Uniform: TypeAlias = Callable[[str], float]
"""Gives the number in [0, 1) for a path."""

Lend: TypeAlias = Callable[[float], AbstractContextManager[None]]
"""Lends chance, which a number in [0, 1) decides, to the function that is called inside."""


@dataclass
class Drawing:
    """What the walk over the leaves has found so far."""

    pick: Pick
    values: dict[str, Json] = field(default_factory=dict)
    """What is journalled, by path."""
    functions: list[Function] = field(default_factory=list)
    """The ``sample_from`` that take part, in order of definition."""


@dataclass
class Made:
    """What a configuration is built of."""

    values: Mapping[str, Json]
    results: dict[str, Any] = field(default_factory=dict)
    """What the ``sample_from`` made, by path; those of later ones are missing while an earlier one is called."""


class Node(ABC):
    """One place in the search space."""

    @abstractmethod
    def draw(self, drawing: Drawing) -> None:
        """Ask for the journalled value of each domain that takes part."""

    @abstractmethod
    def build(self, made: Made) -> Any:
        """Return a fresh value."""

    def leaves(self) -> Iterator[Leaf | Function]:
        """Yield every place that holds a domain, in order of definition."""
        return iter(())

    @abstractmethod
    def describe(self, path: str) -> Iterator[tuple[str, Json]]:
        """Yield path and signature of every place that is no container."""

    @abstractmethod
    def match(self, value: object, found: dict[str, Json]) -> str:
        """Note in ``found`` what would be journalled for the part of a configuration that ``value`` is.

        Returns:
            Why ``value`` cannot be part of a configuration, or an empty string if it can.
        """


@dataclass(frozen=True)
class Fixed(Node):
    """A value that is the same for every trial, such as a number, a class, or a dict without domains in it."""

    value: Any

    def draw(self, drawing: Drawing) -> None:
        """Ask for nothing."""

    def build(self, made: Made) -> Any:
        """Return the value, its containers made anew."""
        del made
        return fresh(self.value)

    def describe(self, path: str) -> Iterator[tuple[str, Json]]:
        """Yield the value as text."""
        yield path, {"kind": "fixed", "value": fingerprint(self.value)}

    def match(self, value: object, found: dict[str, Json]) -> str:
        """Accept an equal value, or a part of it."""
        del found
        return "" if covers(self.value, value) else f"is fixed to {shown(self.value)!r}"


@dataclass(frozen=True)
class Container(Node):
    """A dict, list or tuple with domains in it, or an instance of a class derived from one."""

    original: Any
    items: tuple[tuple[Any, str, Node], ...]
    """Key or index, path, and what stands there."""

    def draw(self, drawing: Drawing) -> None:
        """Walk the items in order."""
        for _, _, node in self.items:
            node.draw(drawing)

    def build(self, made: Made) -> Any:
        """Return a new container of the same type."""
        return rebuild(self.original, [(key, node.build(made)) for key, _, node in self.items])

    def leaves(self) -> Iterator[Leaf | Function]:
        """Yield the leaves of every item."""
        for _, _, node in self.items:
            yield from node.leaves()

    def describe(self, path: str) -> Iterator[tuple[str, Json]]:
        """Yield the items."""
        del path  # each item knows its own
        for _, item_path, node in self.items:
            yield from node.describe(item_path)

    def match(self, value: object, found: dict[str, Json]) -> str:
        """Accept a part of a dict, or a sequence of the same length."""
        if isinstance(self.original, dict):
            if not isinstance(value, Mapping):
                return "must be a dict"
            nodes = {key: node for key, _, node in self.items}
            unknown = [key for key in value if key not in nodes]
            if unknown:
                return f"has no key {unknown[0]!r}"
            pairs = [(key, nodes[key], item) for key, item in value.items()]
        else:
            if not isinstance(value, list | tuple) or len(value) != len(self.items):
                return f"must be a sequence of {len(self.items)}"
            pairs = [(key, node, item) for (key, _, node), item in zip(self.items, value, strict=True)]
        reasons = ((key, node.match(item, found)) for key, node, item in pairs)
        return next((f"{key!r} {reason}" for key, reason in reasons if reason), "")


@dataclass(frozen=True)
class Leaf(Node):
    """A place that holds a domain of numbers or options."""

    path: str
    domain: Drawn
    options: tuple[Node, ...] = ()
    """The options of a choice or a grid, which may hold domains themselves."""
    axis: int = 0
    """Of a grid: its position among the grids. The last one varies fastest."""
    needs: tuple[tuple[str, int], ...] = ()
    """The choices, by path and index, that must be made for this leaf to take part."""

    def draw(self, drawing: Drawing) -> None:
        """Ask for the journalled value; then walk the chosen option."""
        drawn = drawing.values[self.path] = drawing.pick(self)
        if self.options:
            self.options[drawn].draw(drawing)

    def build(self, made: Made) -> Any:
        """Return the number, or a fresh copy of the chosen option."""
        drawn = made.values[self.path]
        return self.options[drawn].build(made) if self.options else self.domain.value(drawn)

    def leaves(self) -> Iterator[Leaf | Function]:
        """Yield this leaf and those of its options."""
        yield self
        for option in self.options:
            yield from option.leaves()

    def describe(self, path: str) -> Iterator[tuple[str, Json]]:
        """Yield the domain, and the domains within its options."""
        signature = self.domain.signature()
        if isinstance(self.domain, Choice):
            signature["options"] = [_describe_option(option) for option in self.options]
        if isinstance(self.domain, GridSearch):
            signature["axis"] = self.axis
        yield path, signature

    def show(self, drawn: Json) -> Json:
        """Return the number or the chosen option as a JSON scalar."""
        return shown(self.domain.value(drawn))

    def match(self, value: object, found: dict[str, Json]) -> str:
        """Accept a number inside the domain, or a value that fits one of the options."""
        if isinstance(self.domain, GridSearch):
            return "is a grid, every value of which is tried anyway"
        if not isinstance(self.domain, Numeric):
            return self._match_option(value, found)
        reason = self.domain.why_not(value) or self.domain.excludes(value)  # type: ignore[arg-type]  # a number now
        if not reason:
            found[self.path] = value
        return reason if not reason or reason.startswith("got") else f"got {shown(value)!r}, but {reason}"

    def _match_option(self, value: object, found: dict[str, Json]) -> str:
        reason = ""
        for index, option in enumerate(self.options):
            inner: dict[str, Json] = {}
            reason = option.match(value, inner)
            if not reason:
                found[self.path] = index
                found.update(inner)
                return ""
        if len(self.options) == 1:
            return reason
        return (
            f"got {shown(value)!r}, but must be one of {', '.join(map(str, map(self.show, range(len(self.options)))))}"
        )


@dataclass(frozen=True)
class Function(Node):
    """A place that a function fills."""

    path: str
    domain: SampleFrom
    needs: tuple[tuple[str, int], ...] = ()

    def draw(self, drawing: Drawing) -> None:
        """Note that the function takes part; it is called when everything else is drawn."""
        drawing.functions.append(self)

    def build(self, made: Made) -> Any:
        """Return what the function made, copied if it is JSON, or a mark if it was not called yet."""
        result = made.results.get(self.path, UNMADE)
        return copy.deepcopy(result) if self.path in made.values else result

    def leaves(self) -> Iterator[Leaf | Function]:
        """Yield this one."""
        yield self

    def describe(self, path: str) -> Iterator[tuple[str, Json]]:
        """Yield the function's name."""
        yield path, self.domain.signature()

    def match(self, value: object, found: dict[str, Json]) -> str:
        """Accept any JSON instead of what the function would make."""
        found[self.path] = value
        return ""


def _describe_option(option: Node) -> Json:
    holds_domains = any(True for _ in option.leaves())
    return dict(option.describe("")) if holds_domains else fingerprint(option.build(Made({})))
