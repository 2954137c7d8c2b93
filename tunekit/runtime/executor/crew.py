"""The actors of one executor: hired, let go, killed if need be, and none left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tunekit.runtime.executor.cluster import Cluster, node_of
from tunekit.runtime.executor.first_worker import FirstWorker, actors, options_of, relay_name
from tunekit.runtime.executor.losses import Departure
from tunekit.runtime.executor.obituary import Obituaries
from tunekit.runtime.executor.patience import say
from tunekit.runtime.executor.ray_errors import classify, explained, has_raised
from tunekit.runtime.executor.records import WorkerRecord
from tunekit.runtime.line.door import Door, Errand, door_name
from tunekit.runtime.line.hiring import Contract
from tunekit.runtime.line.mailbox import Mailbox
from tunekit.runtime.line.relay import SPARE_THREADS, Relay
from tunekit.runtime.line.spec import SweepSpec

_MIN_WAITING, _MAX_WAITING = 56, 248
"""Workers of other machines that may wait for an order at a time; others ask again and again. The cluster may be small
when the relay is started, and grow."""
_INLINE_BYTES = 64 * 1024
"""A larger trainable is put into Ray's object store once, instead of being sent along to each worker."""
_PATIENCE_S = 1.0
"""Seconds that a process gets to end in Ray's way before it is killed in ours."""
_CLOSE_S = 10.0
"""Seconds that processes which were killed get to be gone; one that waits for a disk cannot go."""
_POLL_S = 0.01

_remote: Any = ray.remote
"""Its stubs do not know all options."""


class Crew:
    """The workers' actors, the door that they come in through, and the relay for those that cannot.

    Args:
        cluster: The cluster.
        on_end: Called with a worker's id and what its long call came to; on a thread of Ray, so it must not wait.
        trainable: The trainable, pickled.
        parameters: Its large objects.
        mailbox: Where the door leads to.
        first: A worker that has been asked for.

    Raises:
        OSError: The door cannot be opened.
    """

    def __init__(
        self,
        cluster: Cluster,
        on_end: Callable[[int, Future[Any]], None],
        trainable: bytes,
        parameters: Mapping[str, Any],
        mailbox: Mailbox,
        first: FirstWorker | None = None,
    ) -> None:
        """Open the door; nothing of Ray is started before the first worker."""
        self._here = cluster.here
        self._obituaries = Obituaries(cluster.logs())
        self._on_end = on_end
        self._trainable = trainable
        self._parameters = parameters
        self._is_large = len(trainable) > _INLINE_BYTES
        self._contracts: dict[int, tuple[bytes, bytes]] = {}
        """By worker: the id of its actor, and what it is told."""
        self._first = first
        self._door_name = first.door if first else door_name()
        answers = {
            Errand.EXCHANGE: mailbox.exchange,
            Errand.EXCHANGE_AT_ONCE: mailbox.exchange_at_once,
            Errand.CONTRACT: lambda actor: dict([*self._contracts.values()]).get(actor, b""),
        }
        self._door = Door(self._door_name, answers)
        self._relay: Any = None
        self._hands: dict[int, tuple[Any, Any]] = {}
        self._doomed: dict[int, float] = {}
        """Processes on this node that were told to end, and until when they may take."""

    def hire(self, record: WorkerRecord, sweep: SweepSpec) -> None:
        """Start a worker; Ray places it when there is room, and not on the nodes that it avoids or shuns."""
        options = options_of(record.shape, [*record.avoid, *record.shuns])
        actor = self._first.take(options) if self._first is not None else None
        if actor is None:
            actor = self._actors.options(**options).remote()
        trainable = b"" if self._is_large else self._trainable
        contract = Contract(worker=record.id, sweep=sweep, trainable=trainable)
        self._contracts[record.id] = (actor._actor_id.hex().encode(), contract.to_bytes())  # noqa: SLF001 - no other way
        call = actor.run.remote(*self._large)
        self._hands[record.id] = (actor, call)
        call.future().add_done_callback(partial(self._on_end, record.id))

    def watch(self, worker: int, *, pid: int, node: str) -> None:
        """Watch the process of a worker that came up, if it is on this machine."""
        if node == self._here:
            self._obituaries.watch(worker, pid)

    def diagnose(self, worker: int, error: BaseException, *, is_new: bool = False) -> Departure:
        """Return why the long call of a worker has failed. Asked once, and waits for a moment if it must.

        Args:
            worker: Its id.
            error: What Ray raised.
            is_new: Whether it has not said a word, and so not where it is.
        """
        actor, _ = self._hands.get(worker, (None, None))
        if actor is None:  # We have ended it ourselves.
            self._obituaries.forget(worker)
            return Departure(worker, classify(error))
        node = node_of(actor._actor_id.hex(), error) if is_new else ""  # noqa: SLF001 - no other way
        if has_raised(error):
            return Departure(worker, classify(error), node=node)
        how = self._obituaries.read(worker)
        loss = explained(classify(error), how, has_starved=self._obituaries.has_starved(how))
        return Departure(worker, loss, node=node)

    def open_relay(self, num_workers: int) -> None:
        """Let in who cannot come through the door.

        Args:
            num_workers: How many workers there will be, as far as is known.
        """
        if self._relay is not None:
            return
        max_waiting = min(_MAX_WAITING, max(_MIN_WAITING, 2 * num_workers))
        self._relay = (
            _remote(Relay)
            .options(
                name=relay_name(self._door_name),
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=max_waiting + SPARE_THREADS,
                enable_task_events=False,
                scheduling_strategy=NodeAffinitySchedulingStrategy(self._here, soft=False),
            )
            .remote(self._door_name, max_waiting)
        )

    @cached_property
    def _actors(self) -> Any:
        """Makes actors that know where to ask."""
        return self._first.actors if self._first else actors(self._door_name, relay_name(self._door_name))

    @cached_property
    def _large(self) -> list[Any]:
        """What every worker finds in Ray's object store: the trainable if it is large, and its large objects."""
        if not self._is_large and not self._parameters:
            return []
        trainable = ray.put(self._trainable) if self._is_large else b""
        return [trainable, {name: ray.put(value) for name, value in self._parameters.items()}]

    def forget(self, worker: int) -> bool:
        """Drop a worker that has ended, and with the last reference its process. Return whether it was there."""
        self._obituaries.forget(worker)
        self._contracts.pop(worker, None)
        return self._hands.pop(worker, None) is not None

    def end(self, record: WorkerRecord) -> None:
        """End a worker's process whatever it is doing."""
        self._contracts.pop(record.id, None)
        actor, _ = self._hands.pop(record.id, (None, None))
        if actor is not None:
            with contextlib.suppress(Exception):
                ray.kill(actor, no_restart=True)
        self._doom(record)

    def reap(self) -> None:
        """Kill what should have ended by now: Ray's own kill waits five seconds for a process that is stopped."""
        now = time.monotonic()
        if self._first is not None:
            self._first.tire()
        self._obituaries.tick(now)
        for pid, deadline in list(self._doomed.items()):
            if not _is_worker(pid):
                del self._doomed[pid]
            elif now >= deadline:
                _kill(pid)

    def await_leave(self, workers: Iterable[int], timeout_s: float) -> None:
        """Wait until the calls of these workers have returned."""
        calls = [self._hands[worker][1] for worker in workers if worker in self._hands]
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=timeout_s, fetch_local=False)

    def close(self, records: Iterable[WorkerRecord]) -> None:
        """End everything that is left, and return when none of it runs on this node, or says what does.

        A worker that nobody has hired ends by itself: it runs nothing.
        """
        if self._first is not None:
            self._first.end()
        for record in records:
            self._doom(record)
        for actor, call in self._hands.values():
            is_done = bool(ray.wait([call], timeout=0)[0])
            with contextlib.suppress(Exception):
                if is_done:
                    actor.__ray_terminate__.remote()
                else:
                    ray.kill(actor, no_restart=True)
        self._door.close()
        if self._relay is not None:
            with contextlib.suppress(Exception):
                ray.kill(self._relay, no_restart=True)
        self._hands.clear()
        self._obituaries.close()
        deadline = time.monotonic() + _CLOSE_S
        self.reap()
        while self._doomed and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            self.reap()
        if self._doomed:
            pids = ", ".join(map(str, sorted(self._doomed)))
            say(f"tunekit: worker processes {pids} were killed and are still there\n")

    def _doom(self, record: WorkerRecord) -> None:
        if record.pid and record.node == self._here:
            self._doomed.setdefault(record.pid, time.monotonic() + _PATIENCE_S)


def _is_worker(pid: int) -> bool:
    """Return whether a process of Ray has this number, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
