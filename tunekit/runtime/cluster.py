"""Ray itself: started quietly when it is not running, joined when it is, left as it was found."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from tunekit.errors import ExperimentError, ResourcesError

Shape = tuple[tuple[str, float], ...]
"""Resources of one trial, sorted by name, so that equal ones are equal."""

_nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
_EPSILON = 1e-6
"""Ray counts resources in ten-thousandths."""


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the cluster."""

    id: str
    resources: Mapping[str, float]
    """All that it offers, in use or not."""


def shape_of(resources: Mapping[str, float]) -> Shape:
    """Return resources in their comparable form; amounts of zero are left out."""
    return tuple(sorted((name, float(amount)) for name, amount in resources.items() if amount))


def is_held(shape: Shape, free: Mapping[str, float]) -> bool:
    """Return whether a machine with these free resources can hold one trial more."""
    return all(free.get(name, 0.0) + _EPSILON >= amount for name, amount in shape)


def check_shape(shape: Shape, nodes: Sequence[Node]) -> None:
    """Make sure that some node could hold one trial, if it were empty.

    Raises:
        ResourcesError: None could.
    """
    if not any(is_held(shape, node.resources) for node in nodes):
        raise ResourcesError(
            f"one trial needs {_describe(dict(shape))}, but no node of the cluster offers that; {_biggest(nodes)}",
            hint="ask for less with tunekit.with_resources, or add a node that is large enough",
            needed=dict(shape),
        )


class Cluster:
    """The Ray cluster that this process is connected to, and whether it is ours to end.

    Args:
        address: Where Ray runs; None: what ``RAY_ADDRESS`` says, else a new local one. Without meaning when this
            process is connected already.

    Raises:
        ExperimentError: Ray could not be started or joined.
    """

    def __init__(self, address: str | None = None) -> None:
        """Connect, unless the user has done so."""
        self.is_joined = ray.is_initialized()
        """Whether the connection was there before us."""
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        self.is_local = not self.is_joined and address == "local"
        """Whether the cluster consists of processes that we started."""
        if not self.is_joined:
            _connect(address)
        self.here: str = ray.get_runtime_context().get_node_id()
        """Id of the driver's node."""

    def nodes(self) -> list[Node]:
        """Return the machines that are alive."""
        return [Node(node["NodeID"], node["Resources"]) for node in _nodes() if node["Alive"]]

    def leave(self) -> None:
        """Disconnect if we connected; a local cluster of ours ends with that."""
        if not self.is_joined and ray.is_initialized():
            ray.shutdown()


def _connect(address: str) -> None:
    # Ray would report usage statistics to its makers; a cluster that we start does not.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **local)
    except Exception as error:
        raise ExperimentError(
            f"Ray could not be {'started' if address == 'local' else f'joined at {address}'}: {error}",
            hint="start it yourself with ray.init(…) before fit(), or use tunekit.inline, which needs no Ray",
        ) from error


def _describe(resources: Mapping[str, float]) -> str:
    return " ".join(f"{name}={amount:g}" for name, amount in sorted(resources.items())) or "nothing"


def _biggest(nodes: Sequence[Node]) -> str:
    if not nodes:
        return "no node is alive"
    biggest = max(nodes, key=lambda node: (node.resources.get("CPU", 0.0), node.resources.get("GPU", 0.0)))
    offered = {name: amount for name, amount in biggest.resources.items() if "node:" not in name}
    for name in ("memory", "object_store_memory"):
        offered.pop(name, None)
    return f"the biggest offers {_describe(offered)}"
