"""What becomes of the attempts of a worker that is gone: who is charged, and for what.

**Notices.** A process that was told to end is ended in the end, so its crash is a preemption. Of a machine that is to
go, that holds for whatever becomes of its workers. It may be gone without a word, and all that is seen of that is a
trial that says nothing any more and is given up for its silence. And when it is announced, all that runs there is saved
at once, which takes memory. A trial that does hang, or does need too much, will do so on the next machine, too, and is
charged there. Only what was told to stop and did not is ended for that, notice or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tunekit.core.events import WorkerLost
from tunekit.runtime.executor.heads import Held
from tunekit.runtime.executor.ray_errors import Loss
from tunekit.runtime.executor.unfit import MAX_FALSE_STARTS
from tunekit.runtime.line.wire import AttemptKey
from tunekit.types import LossCause, TrialId

_MAX_TURNED_AWAY = 3
"""Processes in a row that may be told to end, each on a machine that stays, while they prepare one trial."""
_TAKEN_AWAY = frozenset({LossCause.CRASHED, LossCause.START_FAILED, LossCause.NODE_LOST})
"""How the end of a process looks that was told to end: whoever told it ends it in the end."""
_GONE_WITH_MACHINE = _TAKEN_AWAY | {LossCause.KILLED, LossCause.OUT_OF_MEMORY}
"""How it may look where all of the machine is to go."""
_SUSPICIOUS = frozenset({LossCause.CRASHED, LossCause.OUT_OF_MEMORY})
"""What the trial may have brought about that the worker was about to run."""
_OWN_FAULTS = frozenset({LossCause.CRASHED, LossCause.START_FAILED})
"""A machine that was taken away, or that was never there, says nothing about the next worker."""


@dataclass(frozen=True, slots=True)
class Departure:
    """A worker that is gone, and how."""

    worker: int
    loss: Loss | None
    """None: it left in peace."""
    first: int = 0
    last_words: Sequence[bytes] = ()
    """Messages from number ``first`` on that may not have come through the mailbox."""
    node: str = ""
    """Where it was, if it is known and the worker could not say so itself."""
    killed: AttemptKey | None = None
    """The attempt for whose sake we ended it; it may have run another one by then."""


class Losses:
    """Turns the loss of a worker into the losses of its attempts.

    The attempt that ran is lost for the cause; those that waited behind it, for none of their own. A worker that dies
    between two trials dies for an unknown reason, and the trial at its door is spared. If that happens to the same
    trial again, it is the reason: preparing it kills the process. A process that is told to end, while its machine
    stays, is suspicious only if that goes on and on: then the core hears of it, which counts those.
    """

    def __init__(self) -> None:
        """Begin without suspicions."""
        self._strikes: Counter[TrialId] = Counter()
        self._turned_away: Counter[TrialId] = Counter()

    def note_start(self, trial: TrialId) -> None:
        """A trial could be prepared."""
        self._strikes.pop(trial, None)
        self._turned_away.pop(trial, None)

    def of_farewell(self, held: Sequence[Held], notice: str, node: str) -> list[WorkerLost]:
        """Return the loss of the first attempt of a process that was told to end and left in peace, if it is one.

        None of one that has started, which says its own last word, nor the first few times: it just waits again.

        Args:
            held: The attempts.
            notice: Who had told that process to end.
            node: Where it was.
        """
        if not (held and notice and self._is_turned_away_again(held[0])):
            return []
        return [lost(held[0].key, Loss(LossCause.PREEMPTED, notice), node, held[0].head_s)]

    def of(
        self,
        held: Sequence[Held],
        loss: Loss,
        killed: AttemptKey | None = None,
        *,
        node: str = "",
        notice: str = "",
        is_machine: bool = False,
    ) -> list[WorkerLost]:
        """Return the losses of all attempts that a worker had, in the order in which it would have run them.

        Args:
            held: The attempts.
            loss: Why the worker is gone.
            killed: The attempt for whose sake we ended it, if we did: no other one pays for that.
            node: Where the worker was.
            notice: Who had told its process to end, if anybody had: however it came to its end, it was taken away.
            is_machine: Whether all of its machine was to go.
        """
        is_stopped = any(one.is_told_to_stop for one in held if one.key == killed)
        if notice and not is_stopped and loss.cause in (_GONE_WITH_MACHINE if is_machine else _TAKEN_AWAY):
            loss = Loss(LossCause.PREEMPTED, f"{notice}; {loss.detail}", loss.exit)
        if killed is not None:
            spared = Loss(LossCause.NOT_STARTED, "its worker was ended for the sake of another trial")
            return [lost(one.key, loss if one.key == killed else spared, node, one.head_s) for one in held]
        losses = [self._judge(position, one, loss) for position, one in enumerate(held)]
        if held and notice and not is_machine and self._is_turned_away_again(held[0]):
            losses[0] = loss
        return [lost(one.key, each, node, one.head_s) for one, each in zip(held, losses, strict=True)]

    def _is_turned_away_again(self, one: Held) -> bool:
        """Count that an attempt could not begin as its process was told to end; return whether that is strange."""
        if one.is_started:
            return False
        self._turned_away[one.assign.trial] += 1
        return self._turned_away[one.assign.trial] > _MAX_TURNED_AWAY

    def _judge(self, position: int, one: Held, loss: Loss) -> Loss:
        if position > 0:
            return Loss(LossCause.NOT_STARTED, loss.detail, loss.exit)
        if one.is_started or loss.cause is LossCause.KILLED:
            return loss
        if loss.cause in _SUSPICIOUS:
            self._strikes[one.assign.trial] += 1
        is_suspect = loss.cause in _SUSPICIOUS and self._strikes[one.assign.trial] > 1
        return Loss(LossCause.START_FAILED if is_suspect else LossCause.NOT_STARTED, loss.detail, loss.exit)


class FalseStarts:
    """Counts workers in a row that died of themselves before their first word: so will the next one."""

    def __init__(self) -> None:
        """Begin with none."""
        self._count = 0

    def note_hello(self) -> None:
        """A worker came up: the way is clear."""
        self._count = 0

    def note(self) -> bool:
        """Note one that cannot be the fault of one machine. Return whether there is no use in another one."""
        self._count += 1
        return self._count >= MAX_FALSE_STARTS


def is_own_fault(loss: Loss) -> bool:
    """Return whether a worker that is gone may have died of itself, so that it says something about the next one."""
    return loss.cause in _OWN_FAULTS


def left_open(held: Sequence[Held]) -> list[WorkerLost]:
    """Return the losses of attempts that a worker which left in peace had begun and said no last word of."""
    loss = Loss(LossCause.CRASHED, "its worker left without a last word")
    return [lost(one.key, loss) for one in held if one.is_started]


def lost(key: AttemptKey, loss: Loss, node: str = "", took_s: float = 0.0) -> WorkerLost:
    """Return the loss of one attempt.

    Args:
        key: Which one.
        loss: Why.
        node: Where its worker was.
        took_s: Seconds that the worker had been at work on it, if it had not started.
    """
    return WorkerLost(
        trial=key[0],
        attempt=key[1],
        cause=loss.cause,
        detail=loss.detail,
        exit=loss.exit,
        node=node,
        took_s=round(took_s, 4),
    )
