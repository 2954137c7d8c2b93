"""What the executor knows of the cluster's machines: what they offer, which of them are to go, which are no good.

When notice is given of a machine, its workers are told: each comes to its next row, saves it if there is time for that,
and leaves. No new trial goes there, and whatever becomes of its workers counts as a preemption. Trials for which there
is no other place train on while it is safe (``tunekit.runtime.preemption.stays``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from tunekit.core.events import (
    CheckpointStaged,
    Event,
    ResultReported,
    TrialHalted,
    TrialRaised,
    TrialReturned,
    TrialStarted,
)
from tunekit.runtime.executor.cluster import Cluster
from tunekit.runtime.executor.pool import Pool
from tunekit.runtime.executor.records import WorkerRecord
from tunekit.runtime.executor.unfit import Unfit
from tunekit.runtime.line.mailbox import Mailbox
from tunekit.runtime.line.shapes import Offers
from tunekit.runtime.line.wire import Leave, MachineNotice, Warn
from tunekit.runtime.preemption.drain import SOURCE, DrainWatch
from tunekit.runtime.preemption.plan import AtRisk, NodeNotice, Notices, plan_saves
from tunekit.runtime.preemption.stays import Stay, must_leave, pays
from tunekit.types import TrialId

_NODES_S: Final = 10.0
_SOON_S: Final = 30.0
"""The shortest notice that clouds give; assumed where they do not say when, as Google never does."""


class Machines:
    """The cluster's machines. Not safe for threads: the executor holds a lock.

    Args:
        cluster: Where they are asked for.
        offers: Told what they offer.
        pool: Told which of them trials may be placed on; knows the workers.
        mailbox: Takes what workers are told.
        drains: Knows which of them Ray is draining; None: one that asks Ray.
        is_rerun: Whether trials have run before this driver.
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
        is_rerun: bool = False,
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
        self._unfit = Unfit(is_rerun=is_rerun)
        self._saved: dict[TrialId, tuple[float, float]] = {}
        """When the newest save of each trial was told of, or its attempt began, and how long that save took."""
        self._stays: dict[int, Stay] = {}
        """Trials that train on, on machines that are to go, by worker."""
        self._going: set[int] = set()
        """Workers that were told to leave. Nothing takes that back: their trials are on their way."""
        self._refresh()

    def look(self) -> None:
        """Take note of machines that come and go; called now and then."""
        for node, notice in self._drains.latest.items():
            self.hear(node, notice)
        self._going &= self._pool.workers.keys()
        if self._stays:
            self._look_after_stays()
        if time.monotonic() - self._seen_at >= _NODES_S:
            self._refresh()

    def close(self) -> None:
        """Ask no more."""
        self._drains.close()

    def follow(self, event: Event) -> None:
        """Take note of how much work each trial has at risk."""
        if isinstance(event, TrialStarted):
            record = self._pool.holder((event.trial, event.attempt))
            self._unfit.note_start(event.place.node, proves=record is None or not record.has_run)
            self._saved[event.trial] = self._clock(), self._saved.get(event.trial, (0.0, 0.0))[1]
        elif isinstance(event, CheckpointStaged):
            self._saved[event.trial] = self._clock(), event.took_s
        elif isinstance(event, TrialReturned | TrialRaised | TrialHalted):
            self._saved.pop(event.trial, None)
        elif self._stays and isinstance(event, ResultReported):
            for stay in self._stays.values():
                if stay.trial == event.trial:
                    stay.note_row(event.time_this_iter_s, self._clock())

    def hear(self, node: str, notice: NodeNotice) -> None:
        """Take in that a machine is to go, or may be, and tell its workers."""
        if self._notices.hear(node, notice, self._clock()):
            self._tell([record for record in self._pool.workers.values() if record.is_up and record.node == node], node)

    def told(self, record: WorkerRecord | None, said: MachineNotice) -> None:
        """Take in what a worker has heard from the cloud about its machine."""
        if record is None:
            return
        if said.is_withdrawn:
            self.withdraw(record.node, said.source)
        else:
            is_over = said.deadline is None or said.deadline <= self._clock()  # By our clock, and yet it speaks.
            is_guess = is_over and said.ends
            deadline = self._guess(record.node, said.source) if is_guess else said.deadline
            self.hear(record.node, NodeNotice(said.source, deadline, ends=said.ends))

    def _guess(self, node: str, source: str) -> float:
        """Return when a machine is gone whose cloud does not say; never later than what it has said before."""
        known, soon = self._notices.known(node, source), self._clock() + _SOON_S
        return soon if known is None or known.deadline is None else min(known.deadline, soon)

    def withdraw(self, node: str, source: str) -> None:
        """Take in that a machine stays after all, as far as this source knows."""
        if not self._notices.withdraw(node, source):
            return
        if not self._notices.reason(node):
            for record in self._staying(node):
                del self._stays[record.id]
                self._pool.give_machine_notice(record.id, "")
            self._take_back(source, node)
        self._refresh()

    def _take_back(self, source: str, node: str) -> None:
        """Tell those that have not left what holds now: nothing, or that the machine may go."""
        records = [record for record in self._pool.workers.values() if record.is_up and record.node == node]
        if self._notices.of(node) is not None:
            self._tell(records, node)
            return
        for record in records:
            if not self._is_going(record):
                self._mailbox.order(record.id, Warn(source=source, is_withdrawn=True))

    def came_up(self, record: WorkerRecord) -> None:
        """Tell a worker if its machine is to go, or is no good."""
        self._tell([record], record.node)
        if record.node in self.passed_over:
            self.send_off(record)

    has_others: bool
    """Whether there are machines besides the driver's."""

    @property
    def passed_over(self) -> Mapping[str, str]:
        """The machines that cannot run a trial for now, and why."""
        return self._unfit.passed_over

    @property
    def shunned(self) -> list[str]:
        """The machines on which no worker is to be started."""
        return [*self._notices.leaving, *self.passed_over]

    def blame(self, node: str, why: str, *, is_sure: bool) -> bool:
        """Take in that no trial could run on a machine. Return whether that is its fault, and others go on.

        Args:
            node: Its id.
            why: What went wrong there.
            is_sure: Whether it would go wrong again at once.
        """
        known = self.passed_over
        is_to_blame = self._unfit.blame(node, why, is_sure=is_sure)
        if node in self.passed_over and node not in known:
            self._refresh()
            for record in self._pool.workers.values():
                if record.is_up and record.node == node:
                    self.send_off(record)
        return is_to_blame

    def send_off(self, record: WorkerRecord) -> None:
        """End a worker that would do no better than the one before it; one that runs trials has all that it needs."""
        if not record.has_run and not record.is_dismissed:
            self._pool.leave(record)
            self._mailbox.order(record.id, Leave())

    def _tell(self, records: list[WorkerRecord], node: str) -> None:
        notice = self._notices.of(node)
        if notice is None:
            return
        if notice.ends:
            for record in records:
                self._pool.give_machine_notice(record.id, self._notices.reason(node))
            self._refresh()
        num_places = self._pool.num_places() - self._num_going()
        for worker, saves in self._planned(records, notice):
            record = self._pool.workers[worker]
            if self._is_going(record):  # It hears of a nearer deadline, and of nothing that is less than it knows.
                if notice.ends and not record.process_notice:
                    self._warn(worker, notice, ends=True, saves=saves)
                continue
            is_busy = bool(record.held)
            stays = notice.ends and saves and is_busy and num_places <= 0 and pays(self._window_s(notice))
            num_places -= is_busy
            if stays:
                self._stays.setdefault(worker, Stay(_trial(self._pool.workers[worker]), self._clock()))
                self._warn(worker, notice, ends=False)
            else:
                self._warn(worker, notice, ends=notice.ends, saves=saves)

    def _look_after_stays(self) -> None:
        """Have trials leave that have a place elsewhere now, or have to; and workers whose trial is done."""
        num_places = self._pool.num_places() - self._num_going()
        for node in self._notices.leaving:
            notice, records = self._notices.of(node), self._staying(node)
            if notice is None or not records:
                continue
            planned = self._planned(records, notice)
            is_late = self._is_late(notice, [record for record in records if record.held])
            for worker, saves in planned:
                is_done = not self._is_at_work(worker)
                if is_done or is_late or num_places > 0:
                    num_places -= not is_done
                    self._warn(worker, notice, ends=True, saves=saves)

    def _is_late(self, notice: NodeNotice, records: list[WorkerRecord]) -> bool:
        """Return whether the trials of a machine must come to their last rows now."""
        if notice.deadline is None:
            return True
        now = self._clock()
        saves_s = sum(self._at_risk(record, now).save_s for record in records)
        return must_leave([self._stays[record.id] for record in records], saves_s, notice.deadline, now)

    def _staying(self, node: str) -> list[WorkerRecord]:
        """Return the workers of a machine whose trials train on."""
        gone = self._stays.keys() - self._pool.workers.keys()
        for worker in gone:
            del self._stays[worker]
        records = [self._pool.workers[worker] for worker in self._stays]
        return [record for record in records if record.node == node]

    def _is_at_work(self, worker: int) -> bool:
        """Return whether a worker is still at the trial with which it stayed."""
        record = self._pool.workers[worker]
        return bool(record.held) and _trial(record) == self._stays[worker].trial

    def _num_going(self) -> int:
        """Return how many trials were told to leave, and have not left."""
        return sum(bool(record.held) and self._is_going(record) for record in self._pool.workers.values())

    def _is_going(self, record: WorkerRecord) -> bool:
        """Return whether a worker was told to leave, or its process to end."""
        return bool(record.process_notice) or record.id in self._going

    def _planned(self, records: list[WorkerRecord], notice: NodeNotice) -> list[tuple[int, bool]]:
        now = self._clock()
        return list(plan_saves([self._at_risk(record, now) for record in records], self._window_s(notice)))

    def _window_s(self, notice: NodeNotice) -> float | None:
        return None if notice.deadline is None else notice.deadline - self._clock()

    def _warn(self, worker: int, notice: NodeNotice, *, ends: bool, saves: bool = True) -> None:
        if ends:
            self._stays.pop(worker, None)
            self._going.add(worker)
        self._mailbox.order(worker, Warn(source=notice.source, deadline=notice.deadline, ends=ends, saves=saves))

    def _at_risk(self, record: WorkerRecord, now: float) -> AtRisk:
        saved_at, save_s = self._saved.get(_trial(record), (now, 0.0)) if record.held else (now, 0.0)
        return AtRisk(record.id, now - saved_at, save_s)

    def _refresh(self) -> None:
        nodes = self._cluster.nodes()
        self._seen_at = time.monotonic()
        self.has_others = any(node.id != self._cluster.here for node in nodes)
        self._offers.see(nodes)
        self._notices.expire([node.id for node in nodes], self._clock(), but=SOURCE)
        leaving = set(self._notices.leaving)
        proven = Counter(record.node for record in self._pool.workers.values() if record.has_run)
        fit = self._unfit.see(nodes, self._pool.usual, proven)
        self._pool.see_nodes([node for node in fit if node.id not in leaving])


def _trial(record: WorkerRecord) -> TrialId:
    """Return the trial that a worker which has one is at."""
    return next(iter(record.held))[0]
