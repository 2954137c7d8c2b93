"""What Ray raises when a worker is gone, and what that means for the trial: one table.

Ray's classes do not form the tree that one would draw: ``OutOfMemoryError`` is no ``RayActorError``, a lost node comes
as an ``ActorDiedError`` with other words, and the flag ``preempted`` is set only if the node dies after its drain
deadline. So the rules are tried in order, the exact ones first.

How a process ended Ray says only after ``sys.exit``; for the rest there is ``tunekit.runtime.executor.obituary``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ray import exceptions

from tunekit.runtime.line.failure import error_info
from tunekit.types import LossCause

_MAX_DETAIL = 500
"""Characters of Ray's explanation that are kept."""
_NODE_DIED = re.compile(r"node (?:has )?died|its node|node was terminated|unexpectedly terminated.*node", re.IGNORECASE)
_USEFUL = re.compile(r"(?:Worker exit (?:type|detail)|exit code|The actor|pid):?[^\n]*", re.IGNORECASE)
_ADVICE = re.compile(r"Some common causes include.*", re.DOTALL)
_EXIT_CODE = re.compile(r"Worker exits with an exit code (\d+)")
"""Said after ``sys.exit``, when Ray ends the process in its own way, and so with a code of its own."""
_MEMORY = re.compile(r"Memory on the node.*?limit", re.DOTALL)


class Loss(NamedTuple):
    """Why a worker is gone."""

    cause: LossCause
    detail: str
    exit: str = ""
    """How its process ended, as far as that is known: ``SIGSEGV`` or ``exit code 3``."""


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
    if isinstance(error, exceptions.OutOfMemoryError):
        found = _MEMORY.search(str(error))
        return Loss(LossCause.OUT_OF_MEMORY, _on_one_line(f"Ray ended it. {found.group()}") if found else detail)
    if isinstance(error, exceptions.RayActorError):
        if error.preempted:
            return Loss(LossCause.PREEMPTED, detail)
        if error.actor_init_failed:  # With the tracebacks of two processes, of which the last line says it.
            return Loss(LossCause.START_FAILED, _on_one_line(str(error).rstrip().rpartition("\n")[2]) or detail)
        if isinstance(error, exceptions.ActorDiedError) and _NODE_DIED.search(str(error)):
            return Loss(LossCause.NODE_LOST, detail)
    for cls, cause in TABLE:
        if isinstance(error, cls):
            return Loss(cause, detail)
    if isinstance(error, exceptions.RayTaskError):
        info = error_info(error.cause)
        detail = _on_one_line(f"{info.type}: {info.message}" + (f" hint: {info.hint}" if info.hint else ""))
    return Loss(LossCause.CRASHED, detail)


def has_raised(error: BaseException) -> bool:
    """Return whether the long call was ended by an error and not by the end of its process."""
    return isinstance(error, exceptions.RayTaskError)


def explained(loss: Loss, witness: str, *, has_starved: bool) -> Loss:
    """Return the loss of a process that died by itself, with the way in which it ended.

    Args:
        loss: What Ray made of it.
        witness: How the process ended, if somebody has seen it.
        has_starved: Whether the kernel has ended it for want of memory.
    """
    if loss.cause is not LossCause.CRASHED:
        return loss
    if has_starved:
        return Loss(LossCause.OUT_OF_MEMORY, f"the kernel ended it for want of memory ({witness})", witness)
    told = _EXIT_CODE.search(loss.detail)
    how = f"exit code {told.group(1)}" if told else witness
    if how.startswith("exit code"):
        return Loss(loss.cause, f"its process ended with {how}", how)
    if how:
        return Loss(loss.cause, f"its process was killed by {how}", how)
    return Loss(loss.cause, f"its process ended without a word; {loss.detail}"[:_MAX_DETAIL])


def explain(error: BaseException) -> str:
    """Return what Ray says about an error, without its advice, on one line."""
    text = _ADVICE.sub("", str(error))
    useful = " ".join(match.group().strip() for match in _USEFUL.finditer(text)) or text
    return _on_one_line(f"{type(error).__name__}: {useful}")


def _on_one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_DETAIL]
