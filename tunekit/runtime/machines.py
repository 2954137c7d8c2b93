"""What the executor knows of the cluster's machines: what they offer, and which of them are to go.

When notice is given of a machine, its workers are told: each comes to its next row, saves it if there is time for that,
and leaves. No new trial goes there, and whatever becomes of its workers counts as a preemption.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tunekit.core.events import CheckpointStaged, Event, TrialStarted
from tunekit.runtime.cluster import Cluster
from tunekit.runtime.mailbox import Mailbox
from tunekit.runtime.pool import Pool, WorkerRecord
from tunekit.runtime.preemption_drain import SOURCE, DrainWatch
from tunekit.runtime.preemption_plan import AtRisk, NodeNotice, Notices, plan_saves
from tunekit.runtime.shapes import Offers
from tunekit.runtime.wire import MachineNotice, Warn
from tunekit.types import TrialId

_NODES_S: Final = 10.0
_SOON_S: Final = 30.0
"""The shortest notice that clouds give; assumed where they do not say when."""


class Machines:
    """The cluster's machines. Not safe for threads: the executor holds a lock.

    Args:
        cluster: Where they are asked for.
        offers: Told what they offer.
        pool: Told which of them trials may be placed on; knows the workers.
        mailbox: Takes what workers are told.
        drains: Knows which of them Ray is draining; None: one that asks Ray.
        clock: Unix seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        offers: Offers,
        pool: Pool,
        mailbox: Mailbox,
        *,
        drains: DrainWatch | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Look at them for the first time."""
        self._cluster = cluster
        self._offers = offers
        self._pool = pool
        self._mailbox = mailbox
        self._drains = drains if drains is not None else DrainWatch()
        self._clock = clock
        self._notices = Notices()
        self._saved: dict[TrialId, tuple[float, float]] = {}
        """When the newest save of each trial was told of, or its attempt began, and how long that save took."""
        self._see()

    def look(self) -> None:
        """Take note of machines that come and go; called now and then."""
        for node, notice in self._drains.latest.items():
            self.hear(node, notice)
        if time.monotonic() - self._seen_at >= _NODES_S:
            self._see()

    def close(self) -> None:
        """Ask no more."""
        self._drains.close()

    def follow(self, event: Event) -> None:
        """Take note of how much work each trial has at risk."""
        if isinstance(event, TrialStarted):
            self._saved[event.trial] = self._clock(), self._saved.get(event.trial, (0.0, 0.0))[1]
        elif isinstance(event, CheckpointStaged):
            self._saved[event.trial] = self._clock(), event.took_s

    def hear(self, node: str, notice: NodeNotice) -> None:
        """Take in that a machine is to go, or may be, and tell its workers."""
        if self._notices.hear(node, notice):
            self._tell([record for record in self._pool.workers.values() if record.is_up and record.node == node], node)

    def told(self, record: WorkerRecord | None, said: MachineNotice) -> None:
        """Take in what a worker has heard from the cloud about its machine."""
        if record is None:
            return
        if said.is_withdrawn:
            self.withdraw(record.node, said.source)
        else:
            has_no_deadline = said.deadline is None and said.ends
            deadline = self._clock() + _SOON_S if has_no_deadline else said.deadline
            self.hear(record.node, NodeNotice(said.source, deadline, ends=said.ends))

    def withdraw(self, node: str, source: str) -> None:
        """Take in that a machine stays after all, as far as this source knows."""
        if self._notices.withdraw(node, source):
            self._see()

    def came_up(self, record: WorkerRecord) -> None:
        """Tell a worker of which a machine it is on, if that is to go."""
        self._tell([record], record.node)

    has_others: bool
    """Whether there are machines besides the driver's."""

    @property
    def leaving(self) -> list[str]:
        """The machines on which no worker is to be started."""
        return self._notices.leaving

    def _tell(self, records: list[WorkerRecord], node: str) -> None:
        notice = self._notices.of(node)
        if notice is None:
            return
        now = self._clock()
        trials = [self._at_risk(record, now) for record in records]
        window_s = None if notice.deadline is None else notice.deadline - now
        for worker, saves in plan_saves(trials, window_s):
            if notice.ends:
                self._pool.give_notice(worker, self._notices.reason(node))
            self._mailbox.order(
                worker, Warn(source=notice.source, deadline=notice.deadline, ends=notice.ends, saves=saves)
            )
        if notice.ends:
            self._see()

    def _at_risk(self, record: WorkerRecord, now: float) -> AtRisk:
        trial = next((key[0] for key in record.held), None)
        saved_at, save_s = (now, 0.0) if trial is None else self._saved.get(trial, (now, 0.0))
        return AtRisk(record.id, now - saved_at, save_s)

    def _see(self) -> None:
        nodes = self._cluster.nodes()
        self._seen_at = time.monotonic()
        self.has_others = any(node.id != self._cluster.here for node in nodes)
        self._offers.see(nodes)
        self._notices.expire([node.id for node in nodes], self._clock(), but=SOURCE)
        leaving = set(self.leaving)
        self._pool.see_nodes([node for node in nodes if node.id not in leaving])
