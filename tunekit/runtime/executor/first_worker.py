"""The actors of workers, as Ray is asked for them, and the first one, which may be asked for early.

A process of Ray takes most of a second until it can do anything. On a cluster that is there already, it is asked for
before this process has loaded what a driver is made of and read the journal, so that the two happen at the same time.
What it is hired for, a worker asks at the driver's door once its one call is made, so nothing needs to be known before
but what it occupies. If nobody hires it so, it is ended, and nothing was lost by it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import ray
from ray.exceptions import RayError

from tunekit.errors import ExperimentError
from tunekit.runtime.executor.actor import Worker
from tunekit.runtime.executor.cluster import Cluster, is_there
from tunekit.runtime.line.door import door_name
from tunekit.runtime.line.shapes import Shape

PATIENCE_S = 5.0
"""Seconds for which a place is kept for a worker that nobody has hired."""
_remote: Any = ray.remote
"""Its stubs do not know all options."""


class FirstWorker:
    """A worker's actor without a worker's task.

    Args:
        cluster: Where it is; left when the worker is dismissed, unless somebody else has taken it on.
        shape: What it occupies.
    """

    def __init__(self, cluster: Cluster, shape: Shape) -> None:
        """Ask Ray for it."""
        self.cluster = cluster
        self.door = door_name()
        """Where it will ask what it is hired for."""
        self.actors = actors(self.door, relay_name(self.door))
        """Makes more of its kind."""
        self._options = options_of(shape)
        self._actor: Any = self.actors.options(**self._options).remote()
        self._end_at = math.inf

    def take(self, options: dict[str, Any]) -> Any:
        """Return the actor to the first who asks, if it is as wanted; None if it is not, or is gone."""
        if options != self._options:
            self.end()
        actor, self._actor = self._actor, None
        return actor

    def tire(self) -> None:
        """End it if it could have been taken for long, and was not: others may need what it occupies."""
        now = time.monotonic()
        self._end_at = min(self._end_at, now + PATIENCE_S)
        if now >= self._end_at:
            self.end()

    def end(self) -> None:
        """End it if nobody has taken it, so that what it occupies is free."""
        actor, self._actor = self._actor, None
        if actor is not None and ray.is_initialized():  # Otherwise it is gone, and Ray would start to look for it.
            with contextlib.suppress(Exception):
                ray.kill(actor, no_restart=True)

    def dismiss(self) -> None:
        """End it if nobody has taken it, and leave the cluster."""
        self.end()
        self.cluster.leave()


HeadStart: TypeAlias = FirstWorker | ExperimentError | None
"""The first worker, why a cluster cannot be joined, or neither."""


def first_worker(shape: Shape) -> FirstWorker | None:
    """Join a cluster and ask for the first worker; None if no cluster answers, or nobody can have such a worker.

    Args:
        shape: What it occupies.

    Raises:
        ExperimentError: The cluster cannot be joined.
    """
    if not is_there():
        return None
    cluster = Cluster()
    try:
        return FirstWorker(cluster, shape)
    except (RayError, ValueError, TypeError):  # A shape that Ray refuses, which is said of the trial.
        cluster.leave()
        return None
    except BaseException:
        cluster.leave()
        raise


def actors(door: str, relay: str) -> Any:
    """Return what makes actors that know where to ask: their class carries the names of door and relay."""
    return _remote(type("Worker", (Worker,), {"door": door, "relay": relay, "__module__": Worker.__module__}))


def relay_name(door: str) -> str:
    """Return what the relay is called that leads to a door."""
    return f"{door}-relay"


def options_of(shape: Shape, avoid: Sequence[str] = ()) -> dict[str, Any]:
    """Return what Ray is told about a worker.

    Args:
        shape: What it occupies.
        avoid: Nodes where it must not be.
    """
    amounts = dict(shape)
    options: dict[str, Any] = {"num_cpus": amounts.pop("CPU", 0), "max_restarts": 0, "max_task_retries": 0}
    if avoid:
        options["label_selector"] = {"ray.io/node-id": f"!in({','.join(avoid)})"}
    if gpus := amounts.pop("GPU", 0):
        options["num_gpus"] = gpus
    if memory := amounts.pop("memory", 0):
        options["memory"] = int(memory)
    return options | ({"resources": amounts} if amounts else {})
