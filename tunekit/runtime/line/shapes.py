"""What trials need and machines offer: amounts of resources by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunekit.errors import ResourcesError

Shape = tuple[tuple[str, float], ...]
"""Resources of one trial, sorted by name, so that equal ones are equal."""

_EPSILON = 1e-6
"""Ray counts resources in ten-thousandths."""


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the cluster."""

    id: str
    resources: Mapping[str, float]
    """All that it offers, in use or not."""
    max_workers: int | None = None
    """Most workers that may be there, those that are there already included; None: as many as it holds."""


def shape_of(resources: Mapping[str, float]) -> Shape:
    """Return resources in their comparable form; amounts of zero are left out."""
    return tuple(sorted((name, float(amount)) for name, amount in resources.items() if amount))


def is_held(shape: Shape, free: Mapping[str, float]) -> bool:
    """Return whether a machine with these free resources can hold one trial more."""
    return all(free.get(name, 0.0) + _EPSILON >= amount for name, amount in shape)


def num_held(shape: Shape, free: Mapping[str, float]) -> int:
    """Return how many trials that ask for something a machine with these free resources can hold."""
    return max(0, int(min((free.get(name, 0.0) + _EPSILON) / amount for name, amount in shape)))


def check_shape(shape: Shape, offers: Sequence[Mapping[str, float]]) -> None:
    """Make sure that some node could hold one trial, if it were empty.

    Args:
        shape: What one trial needs.
        offers: What each node has, those included that an autoscaler could add.

    Raises:
        ResourcesError: None could.
    """
    if not any(is_held(shape, offer) for offer in offers):
        needed = describe_amounts(dict(shape))
        raise ResourcesError(
            f"one trial needs {needed}, but no node of the cluster offers that; {_biggest(offers)}",
            hint="ask for less with tunekit.with_resources, or add a node that is large enough",
            needed=dict(shape),
        )


class Offers:
    """What the machines of a cluster have offered so far, and those that an autoscaler could add.

    What was there once may come back: a trial that needs a machine which was taken away waits for it.
    """

    def __init__(self, growth: Sequence[Mapping[str, float]]) -> None:
        """Begin with what could be added."""
        self._offers = {_offer(resources): resources for resources in growth}

    def see(self, nodes: Sequence[Node]) -> None:
        """Take note of the machines that are there now."""
        self._offers.update((_offer(node.resources), node.resources) for node in nodes)

    def check(self, shape: Shape) -> None:
        """Make sure that one trial could be held by a machine that is or was there; see ``check_shape``."""
        check_shape(shape, list(self._offers.values()))


def _offer(resources: Mapping[str, float]) -> Shape:
    """Return what tells kinds of machines apart: addresses and the last bytes of memory do not."""
    known = {name: amount for name, amount in resources.items() if not name.startswith("node:")}
    return shape_of(known)


def describe_amounts(resources: Mapping[str, float]) -> str:
    """Return resources as words."""
    return " ".join(f"{name}={amount:g}" for name, amount in sorted(resources.items())) or "nothing"


def _biggest(offers: Sequence[Mapping[str, float]]) -> str:
    if not offers:
        return "no node is alive"
    biggest = max(offers, key=lambda offer: (offer.get("CPU", 0.0), offer.get("GPU", 0.0)))
    hidden = ("memory", "object_store_memory")
    return "the biggest offers " + describe_amounts(
        {name: amount for name, amount in biggest.items() if name not in hidden and not name.startswith("node:")}
    )
