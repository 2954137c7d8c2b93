"""Which worker runs which attempt: the plan, without the acting.

Workers come in *shapes*, the resources of the trials that they run. An attempt goes to an idle worker of its shape;
when there is none, a worker is started if the cluster has room; when there is no room and idle workers of another
shape take it, they are retired. Where an autoscaler may add machines, one worker more than there is room for is started
while attempts wait: an actor that waits takes nothing, and shows the demand.

**Prefetch.** An attempt may wait *at* a busy worker, which then starts it in microseconds instead of a round trip to
the driver. That pays only where trials are brief, and would hurt elsewhere (an idle worker next to a queue), so it
begins when trials have been seen to last less than a tenth of a second, never goes to a worker whose trial lasts
longer, and what waits too long next to an idle worker is recalled.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tunekit.core.events import TrialAssigned
from tunekit.runtime.executor.avoiding import Avoidance
from tunekit.runtime.executor.durations import Durations
from tunekit.runtime.executor.heads import Heads, Held, aged
from tunekit.runtime.executor.records import WorkerRecord
from tunekit.runtime.executor.room import count_room
from tunekit.runtime.line.shapes import Node, Shape, is_held
from tunekit.runtime.line.wire import Assign, AttemptKey

BRIEF_S = 0.1
"""Trials that last less on average are prefetched …"""
LONG_S = 0.3
"""… until they last more than this."""


@dataclass(slots=True)
class Plan:
    """What is to be done now."""

    assign: list[tuple[int, Assign]] = field(default_factory=list)
    recall: list[tuple[int, AttemptKey]] = field(default_factory=list)
    start: list[WorkerRecord] = field(default_factory=list)
    retire: list[int] = field(default_factory=list)


class Pool:
    """Workers and waiting attempts. Not safe for threads: the executor holds a lock.

    Args:
        max_workers: Most workers at a time; None: as many as the cluster holds.
        prefetch: Most attempts that wait at a busy worker.
        shows_demand: Whether one worker more than there is room for is asked of the cluster.
        usual: What a trial most likely asks for.
        announces: Whether it is to be told which attempts have come to the head of their worker's queue.
        clock: Seconds, monotone.
    """

    def __init__(
        self,
        *,
        max_workers: int | None = None,
        prefetch: int = 0,
        shows_demand: bool = False,
        usual: Shape = (("CPU", 1.0),),
        announces: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without workers and nodes."""
        self._heads = Heads(announces=announces)
        self._max_workers = max_workers
        self._prefetch = prefetch
        self._shows_demand = shows_demand
        self._clock = clock
        self._nodes: Sequence[Node] = ()
        self._waiting: dict[Shape, deque[Assign]] = {}
        self._idle: dict[Shape, list[int]] = {}
        self._room: dict[Shape, tuple[frozenset[int], int]] = {}
        self._holders: dict[AttemptKey, int] = {}
        self.usual = usual
        """What the newest attempt asks for."""
        self._next_id = 1
        self._durations = Durations(BRIEF_S, LONG_S)
        self.workers: dict[int, WorkerRecord] = {}
        self.avoidance = Avoidance(clock)

    # -- what happened -------------------------------------------------------------------------------------------------

    def see_nodes(self, nodes: Sequence[Node]) -> None:
        """Take note of the cluster's machines."""
        self._nodes = nodes
        self._room.clear()
        for shape, waiting in self._waiting.items():
            self._waiting[shape] = deque(self.avoidance.heeded(assign, shape, nodes) for assign in waiting)

    def submit(self, assign: Assign, shape: Shape) -> None:
        """Add an attempt that waits for a worker."""
        self.usual = shape
        self._waiting.setdefault(shape, deque()).append(self.avoidance.heeded(assign, shape, self._nodes))

    def withdraw(self, key: AttemptKey) -> bool:
        """Take back an attempt that waits for a worker. Return whether it was there."""
        for waiting in self._waiting.values():
            for assign in waiting:
                if (assign.trial, assign.attempt) == key:
                    waiting.remove(assign)
                    return True
        return False

    def take_waiting(self, shape: Shape | None = None) -> list[Assign]:
        """Take back all attempts that wait for a worker, of this shape if one is given."""
        shapes = list(self._waiting) if shape is None else [shape]
        return [assign for each in shapes for assign in self._waiting.pop(each, ())]

    def holder(self, key: AttemptKey) -> WorkerRecord | None:
        """Return the worker that an attempt was given to."""
        worker = self._holders.get(key)
        return None if worker is None else self.workers[worker]

    def came_up(self, worker: int, *, pid: int, node: str) -> None:
        """A worker said hello."""
        record = self.workers[worker]
        record.pid, record.node = pid, node
        self._room.clear()
        self._note_idle(record)

    def started(self, key: AttemptKey) -> None:
        """An attempt's worker came to it."""
        record = self.holder(key)
        if record is not None:
            record.held[key].is_started = record.has_run = True
            record.busy_since = self._clock()

    def ended(self, key: AttemptKey) -> None:
        """An attempt ended at its worker."""
        record = self.holder(key)
        if record is None:
            return
        if record.held[key].is_started:
            self._durations.note(self._clock() - record.busy_since)
        self._drop(record, key)

    def returned(self, key: AttemptKey) -> bool:
        """A worker gave an attempt back that had not started: it waits again, before all others.

        Returns:
            Whether it does not, since it was told to stop meanwhile, of which the next worker would not know.
        """
        record = self.holder(key)
        if record is None:
            return False
        held = record.held[key]
        self._drop(record, key)
        if not held.is_told_to_stop:
            self._waiting.setdefault(record.shape, deque()).appendleft(held.assign)
        return held.is_told_to_stop

    def lost(self, worker: int) -> list[Held]:
        """A worker is gone. Return what it had, in the order in which it would have run."""
        record = self.workers.pop(worker, None)
        if record is None:
            return []
        record.is_dismissed = True
        self._room.clear()
        for key in record.held:
            self._holders.pop(key, None)
        return aged(record.held.values(), self._clock() - record.busy_since)

    def put_back(self, shape: Shape, held: Iterable[Held]) -> list[AttemptKey]:
        """Have attempts that were not begun wait again, before all others.

        Returns:
            Those that cannot: whoever was told that a worker is at work on them would take the wait for a hang; and the
            next worker would not know of an order to stop.
        """
        open_ones = [one for one in held if not one.is_started]
        again = [one.assign for one in open_ones if not (one.is_announced or one.is_told_to_stop)]
        self._waiting.setdefault(shape, deque()).extendleft(reversed(again))
        return [one.key for one in open_ones if one.is_announced or one.is_told_to_stop]

    def take_assigned(self) -> list[TrialAssigned]:
        """Return what is new of attempts before which nothing else is to be done by their worker."""
        return self._heads.take(self.holder)

    # -- what to do ----------------------------------------------------------------------------------------------------

    def capacity(self) -> int:
        """Return how many attempts can be held at a time, those that wait at a busy worker included."""
        placed, free = self._room_for(self.usual)
        places = max(1, len(placed) + free) + self._shows_demand
        if self._max_workers is not None:
            places = min(places, self._max_workers)
        return places * (1 + self._prefetch) if self._durations.are_brief else places

    def num_places(self) -> int:
        """Return how many attempts more would find a place at once; below 0: so many wait."""
        free = self._room_for(self.usual)[1]
        free = free if self._max_workers is None else min(free, self._max_workers - len(self._staying()))
        num_idle = sum(record.is_idle for record in self.workers.values())
        return num_idle + free - sum(len(waiting) for waiting in self._waiting.values())

    def starving(self) -> dict[Shape, int]:
        """Return how many attempts wait of each shape that nothing runs of, though not for want of room beside ours."""
        served = {record.shape for record in self._staying() if record.is_up}
        return {
            shape: len(waiting)
            for shape, waiting in self._waiting.items()
            if waiting and shape not in served and (self._num_coming(shape) or not self._fits(shape))
        }

    def longest_coming_s(self) -> float:
        """Return for how long a worker has been on its way that has not said hello."""
        coming = [record.hired_at for record in self._staying() if not record.is_up]
        return self._clock() - min(coming) if coming else 0.0

    def outdated(self, shunned: Sequence[str]) -> list[WorkerRecord]:
        """Return the workers that Ray has not started, and is not to start on a node that could be taken by now."""
        return [
            record
            for record in self.workers.values()
            if not record.is_up and not {*record.shuns}.issubset(shunned) and not record.held
        ]

    def replace(self, shape: Shape) -> WorkerRecord | None:
        """Start a worker although nothing waits for it yet, if there is room."""
        return self._start(shape) if self._may_start(shape) else None

    def plan(self) -> Plan:
        """Return what is to be done now, as if it were done."""
        plan = Plan()
        for shape in list(self._waiting):
            self._plan_shape(shape, plan)
            if not self._waiting[shape]:
                del self._waiting[shape]
        if self._prefetch and not self._waiting:
            plan.recall += self._recalls()
        return plan

    def _plan_shape(self, shape: Shape, plan: Plan) -> None:
        waiting = self._waiting[shape]
        unfit = []
        while waiting and (idle := self._take_idle(shape)):
            if assign := self.avoidance.take_for(idle.node, waiting):
                plan.assign.append((idle.id, self._give(idle, assign)))
            else:
                unfit.append(idle.id)
        self._idle.setdefault(shape, []).extend(unfit)
        if not waiting:
            return
        for assign in list(waiting)[self._num_coming(shape) :]:
            if self._may_start(shape, assign.avoid):
                plan.start.append(self._start(shape, assign.avoid))
        while not self._num_coming(shape) and (retired := self._retire_another(shape)):
            plan.retire.append(retired)
            if self._may_start(shape, waiting[0].avoid):
                plan.start.append(self._start(shape, waiting[0].avoid))
        if self._num_coming(shape) < len(waiting) and self._may_show_demand(shape):
            plan.start.append(self._start(shape, waiting[0].avoid))
        while (busy := self._least_busy(shape)) and (assign := self.avoidance.take_for(busy.node, waiting)):
            plan.assign.append((busy.id, self._give(busy, assign)))

    def _give(self, record: WorkerRecord, assign: Assign) -> Assign:
        key = (assign.trial, assign.attempt)
        if not record.held:
            record.busy_since = self._clock()
        record.held[key] = Held(assign)
        self._holders[key] = record.id
        if len(record.held) == 1:
            self._heads.note(record)
        return assign

    def _drop(self, record: WorkerRecord, key: AttemptKey) -> None:
        del record.held[key]
        del self._holders[key]
        record.busy_since = self._clock()
        self._heads.note(record)
        self._note_idle(record)

    def _note_idle(self, record: WorkerRecord) -> None:
        if record.is_idle:
            self._idle.setdefault(record.shape, []).append(record.id)

    def _take_idle(self, shape: Shape) -> WorkerRecord | None:
        idle = self._idle.get(shape, [])
        while idle:
            record = self.workers.get(idle.pop())
            if record is not None and record.is_idle:
                return record
        return None

    def _least_busy(self, shape: Shape) -> WorkerRecord | None:
        """Return the worker at which an attempt may wait, if it may anywhere."""
        if not self._prefetch or not self._durations.are_brief:
            return None
        now = self._clock()
        fit = [
            record
            for record in self.workers.values()
            if record.shape == shape
            and record.is_up
            and not record.is_leaving
            and len(record.held) <= self._prefetch
            and now - record.busy_since < BRIEF_S
        ]
        return min(fit, key=lambda record: len(record.held), default=None)

    def _recalls(self) -> Iterator[tuple[int, AttemptKey]]:
        """Take one attempt for each idle worker from those who hold some behind a long one."""
        num_idle = sum(record.is_idle for record in self.workers.values())
        now = self._clock()
        for record in self.workers.values():
            if not num_idle:
                return
            if len(record.held) > 1 and now - record.busy_since > BRIEF_S:
                key, held = next(reversed(record.held.items()))
                if not held.is_recalled and not held.is_started:
                    held.is_recalled = True
                    num_idle -= 1
                    yield record.id, key

    # -- room ----------------------------------------------------------------------------------------------------------

    def _num_coming(self, shape: Shape) -> int:
        """Return how many workers of this shape have a place and are on their way."""
        placed = self._room_for(shape)[0]
        return sum(record.shape == shape and not record.is_up and record.id in placed for record in self._staying())

    def _staying(self) -> list[WorkerRecord]:
        return [record for record in self.workers.values() if not record.is_leaving]

    def _start(self, shape: Shape, avoid: Sequence[str] = ()) -> WorkerRecord:
        record = WorkerRecord(self._next_id, shape, avoid=avoid, hired_at=self._clock())
        self._next_id += 1
        self.workers[record.id] = record
        self._room.clear()
        return record

    def _may_start(self, shape: Shape, avoid: Sequence[str] = ()) -> bool:
        return not self._is_full() and self._room_for(shape, avoid)[1] > 0

    def _may_show_demand(self, shape: Shape) -> bool:
        """Return whether one worker may be started that has no place, for the autoscaler to see."""
        return self._shows_demand and not self._is_full() and len(self._room_for(shape)[0]) == len(self._staying())

    def _is_full(self) -> bool:
        return self._max_workers is not None and len(self._staying()) >= self._max_workers

    def _fits(self, shape: Shape) -> bool:
        """Return whether a machine that is there now could hold this shape, if it were empty."""
        return any(is_held(shape, node.resources) for node in self._nodes)

    def _retire_another(self, shape: Shape) -> int | None:
        """Mark one idle worker as leaving that is in the way: of another shape, or on a node that all avoid."""
        if not self._fits(shape):
            return None
        for record in self.workers.values():
            is_idle = not record.held and not record.is_leaving
            is_idle = is_idle and (record.shape == shape or not self._waiting.get(record.shape))
            if is_idle and (record.shape != shape or (self._is_full() and record.is_up)):
                self.leave(record)
                return record.id
        return None

    def leave(self, record: WorkerRecord) -> None:
        """Give a worker nothing more: its process ends."""
        record.is_dismissed = True
        self._room.clear()

    def give_notice(self, worker: int, reason: str) -> None:
        """Give a worker nothing more whose process is to end."""
        if (record := self.workers.get(worker)) is not None:
            record.process_notice = reason
            self._room.clear()

    def give_machine_notice(self, worker: int, reason: str) -> None:
        """Give a worker nothing more whose machine is to go; without a reason, take that back."""
        if (record := self.workers.get(worker)) is not None:
            record.machine_notice = reason
            self._room.clear()
            self._note_idle(record)

    def _room_for(self, shape: Shape, avoid: Sequence[str] = ()) -> tuple[frozenset[int], int]:
        """Return which workers have a place, and how many more of this shape would; counting only what is ours."""
        if avoid:
            return count_room(self._nodes, self._staying(), shape, avoid)
        if shape not in self._room:
            self._room[shape] = count_room(self._nodes, self._staying(), shape)
        return self._room[shape]
