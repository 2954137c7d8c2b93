"""How many workers a cluster has room for, counting only what is ours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from tunekit.runtime.line.shapes import Node, Shape, is_held, num_held


class Placed(Protocol):
    """A worker that has a place, or wants one."""

    id: int
    shape: Shape
    node: str
    avoid: Sequence[str]

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
    free = {node.id: dict(node.resources) for node in nodes}
    placed = set()
    for worker in sorted(workers, key=lambda worker: not worker.is_up):
        if worker.node in free:
            _take(free[worker.node], worker.shape)
            placed.add(worker.id)
        elif not worker.is_up and _place(free, worker):
            placed.add(worker.id)
    allowed = [node for node in nodes if node.id not in avoid]
    if not shape:  # Trials that ask for nothing: as many as there are CPUs.
        cpus = int(sum(node.resources.get("CPU", 1.0) for node in allowed))
        return frozenset(placed), max(0, cpus - len(placed))
    return frozenset(placed), sum(num_held(shape, free[node.id]) for node in allowed)


def _place(free: dict[str, dict[str, float]], worker: Placed) -> bool:
    for node, left in free.items():
        if node not in worker.avoid and is_held(worker.shape, left):
            _take(left, worker.shape)
            return True
    return False


def _take(free: dict[str, float], shape: Shape) -> None:
    for name, amount in shape:
        free[name] = free.get(name, 0.0) - amount
