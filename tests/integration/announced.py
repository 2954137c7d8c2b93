"""Machines that are to go, and those who work there: what tests of notices share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tunekit.core.events import CheckpointStaged, TrialStarted
from tunekit.runtime.executor.machines import Machines
from tunekit.runtime.executor.pool import Pool
from tunekit.runtime.executor.records import WorkerRecord
from tunekit.runtime.line.shapes import Node, Offers, shape_of
from tunekit.runtime.line.wire import Assign, Leave, Warn
from tunekit.runtime.preemption.plan import NodeNotice
from tunekit.testing.events import row

SHAPE = shape_of({"CPU": 1.0})
HERE, THERE = Node("here", {"CPU": 1.0}), Node("there", {"CPU": 3.0})


class FakeCluster:
    """Two machines to begin with."""

    here = "here"

    def __init__(self) -> None:
        self.machines = [HERE, THERE]

    def nodes(self) -> list[Node]:
        return self.machines


class FakeMailbox:
    """Keeps what workers are told."""

    def __init__(self) -> None:
        self.orders: list[tuple[int, Any]] = []

    def order(self, worker: int, order: Warn | Leave) -> None:
        self.orders.append((worker, order))


class FakeDrains:
    """What Ray says."""

    def __init__(self) -> None:
        self.latest: Mapping[str, NodeNotice] = {}
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class World:
    """Machines, and one worker here and three there, each with a trial of its own number."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pool = Pool()
        self.mailbox, self.drains = FakeMailbox(), FakeDrains()
        self.cluster = FakeCluster()
        cluster: Any = cast("Any", self.cluster)
        mailbox, drains = cast("Any", self.mailbox), cast("Any", self.drains)
        self.machines = Machines(cluster, Offers([]), self.pool, mailbox, drains=drains, clock=lambda: self.now)
        for trial in range(4):
            self.pool.submit(Assign(trial=trial, attempt=1, spec=b""), SHAPE)
        started = self.pool.plan().start
        for record in started:
            self.pool.came_up(record.id, pid=record.id, node="here" if record.id == 1 else "there")
        for worker, assign in self.pool.plan().assign:
            self.workers[worker].held[assign.trial, 1].is_started = True

    @property
    def workers(self) -> dict[int, WorkerRecord]:
        return self.pool.workers

    def trial(self, worker: int) -> int:
        return next(iter(self.workers[worker].held))[0]

    def start(self, worker: int) -> None:
        self.machines.follow(TrialStarted(trial=self.trial(worker), attempt=1))

    def save(self, worker: int, took_s: float) -> None:
        self.machines.follow(
            CheckpointStaged(trial=self.trial(worker), attempt=1, iteration=1, manifest={}, took_s=took_s)
        )


def told(world: World) -> list[tuple[int, bool]]:
    """Return who was warned since the last time, and whether to leave."""
    orders = [(worker, order.ends) for worker, order in world.mailbox.orders if not order.is_withdrawn]
    world.mailbox.orders.clear()
    return orders


def report(world: World, worker: int, took_s: float) -> None:
    world.machines.follow(row(world.trial(worker), 1, time_this_iter_s=took_s))
