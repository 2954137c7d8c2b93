"""What Ray raises when a worker is gone, and what that means for the trial: one table.

Ray's classes do not form the tree that one would draw: ``OutOfMemoryError`` is no ``RayActorError``, a lost node comes
as an ``ActorDiedError`` with other words, and the flag ``preempted`` is set only if the node dies after its drain
deadline. So the rules are tried in order, the exact ones first.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ray import exceptions

from tunekit.types import LossCause

_MAX_DETAIL = 500
"""Characters of Ray's explanation that are kept."""
_NODE_DIED = re.compile(r"node (?:has )?died|its node|node was terminated|unexpectedly terminated.*node", re.IGNORECASE)
_USEFUL = re.compile(r"(?:Worker exit (?:type|detail)|exit code|The actor|pid):?[^\n]*", re.IGNORECASE)
_ADVICE = re.compile(r"Some common causes include.*", re.DOTALL)


class Loss(NamedTuple):
    """Why a worker is gone."""

    cause: LossCause
    detail: str


TABLE: tuple[tuple[type[BaseException], LossCause], ...] = (
    (exceptions.OutOfMemoryError, LossCause.OUT_OF_MEMORY),
    (exceptions.NodeDiedError, LossCause.NODE_LOST),
    (exceptions.LocalRayletDiedError, LossCause.NODE_LOST),
    (exceptions.ActorUnavailableError, LossCause.NODE_LOST),
    (exceptions.ObjectLostError, LossCause.NODE_LOST),
    (exceptions.ActorUnschedulableError, LossCause.START_FAILED),
    (exceptions.TaskUnschedulableError, LossCause.START_FAILED),
    (exceptions.RuntimeEnvSetupError, LossCause.START_FAILED),
    (exceptions.TaskCancelledError, LossCause.KILLED),
    (exceptions.WorkerCrashedError, LossCause.CRASHED),
    (exceptions.ActorDiedError, LossCause.CRASHED),
)
"""The first row that fits holds. ``ActorUnavailableError``: the connection is lost; nothing is known of the worker."""


def classify(error: BaseException) -> Loss:
    """Return why a worker's long call failed with ``error``."""
    detail = explain(error)
    if isinstance(error, exceptions.RayActorError):
        if error.preempted:
            return Loss(LossCause.PREEMPTED, detail)
        if error.actor_init_failed:
            return Loss(LossCause.START_FAILED, detail)
        if isinstance(error, exceptions.ActorDiedError) and _NODE_DIED.search(str(error)):
            return Loss(LossCause.NODE_LOST, detail)
    for cls, cause in TABLE:
        if isinstance(error, cls):
            return Loss(cause, detail)
    return Loss(LossCause.CRASHED, detail)


def explain(error: BaseException) -> str:
    """Return what Ray says about an error, without its advice, on one line."""
    text = _ADVICE.sub("", str(error))
    useful = " ".join(match.group().strip() for match in _USEFUL.finditer(text)) or text
    return f"{type(error).__name__}: {' '.join(useful.split())}"[:_MAX_DETAIL]
