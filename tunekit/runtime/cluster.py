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


def check_shape(shape: Shape, offers: Sequence[Mapping[str, float]]) -> None:
    """Make sure that some node could hold one trial, if it were empty.

    Args:
        shape: What one trial needs.
        offers: What each node has, those included that an autoscaler could add.

    Raises:
        ResourcesError: None could.
    """
    if not any(is_held(shape, offer) for offer in offers):
        raise ResourcesError(
            f"one trial needs {_describe(dict(shape))}, but no node of the cluster offers that; {_biggest(offers)}",
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

    def growth(self) -> list[Mapping[str, float]]:
        """Return what the nodes have that an autoscaler may add; nothing if it is not known to be there."""
        if self.is_local:
            return []
        try:
            config = ray._private.state.state.get_cluster_config()  # noqa: SLF001 - Ray has no public question for it
        except Exception:  # noqa: BLE001 - nor a promise that this one stays
            return []
        groups = config.node_group_configs if config is not None else ()
        return [dict(group.resources) for group in groups if group.max_count]

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


def _biggest(offers: Sequence[Mapping[str, float]]) -> str:
    if not offers:
        return "no node is alive"
    biggest = max(offers, key=lambda offer: (offer.get("CPU", 0.0), offer.get("GPU", 0.0)))
    hidden = ("memory", "object_store_memory")
    return "the biggest offers " + _describe(
        {name: amount for name, amount in biggest.items() if name not in hidden and not name.startswith("node:")}
    )
