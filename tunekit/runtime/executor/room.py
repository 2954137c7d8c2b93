"""How many workers a cluster has room for, counting only what is ours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import inf
from typing import Protocol

from tunekit.runtime.line.shapes import Node, Shape, is_held, num_held


class Placed(Protocol):
    """A worker that has a place, or wants one."""

    id: int
    shape: Shape
    node: str
    avoid: Sequence[str]
    shuns: Sequence[str]

    @property
    def is_up(self) -> bool:
        """Whether it has come up."""
        ...


def count_room(
    nodes: Sequence[Node], workers: Iterable[Placed], shape: Shape, avoid: Collection[str] = ()
) -> tuple[frozenset[int], int]:
    """Return which workers have a place, and how many more of a shape would.

    Args:
        nodes: The machines.
        workers: Those that are there or on their way.
        shape: What each of the others needs.
        avoid: Nodes on which they may not be.
    """
    free = {node.id: _Free(node) for node in nodes}
    placed = set()
    for worker in sorted(workers, key=lambda worker: not worker.is_up):
        if worker.node in free:
            free[worker.node].take(worker.shape)
            placed.add(worker.id)
        elif not worker.is_up and _place(free, worker):
            placed.add(worker.id)
    allowed = [node for node in nodes if node.id not in avoid]
    if not shape:  # Trials that ask for nothing: as many as there are CPUs.
        cpus = int(sum(node.resources.get("CPU", 1.0) for node in allowed))
        return frozenset(placed), max(0, cpus - len(placed))
    return frozenset(placed), sum(free[node.id].num_held(shape) for node in allowed)


class _Free:
    """What a machine has left."""

    def __init__(self, node: Node) -> None:
        self._amounts = dict(node.resources)
        self._num_workers = inf if node.max_workers is None else node.max_workers

    def take(self, shape: Shape) -> None:
        self._num_workers -= 1
        for name, amount in shape:
            self._amounts[name] = self._amounts.get(name, 0.0) - amount

    def holds(self, shape: Shape) -> bool:
        return self._num_workers > 0 and is_held(shape, self._amounts)

    def num_held(self, shape: Shape) -> int:
        return int(max(0, min(num_held(shape, self._amounts), self._num_workers)))


def _place(free: dict[str, _Free], worker: Placed) -> bool:
    for node, left in free.items():
        if node not in worker.avoid and node not in worker.shuns and left.holds(worker.shape):
            left.take(worker.shape)
            return True
    return False
