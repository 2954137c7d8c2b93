"""The process of a simulated attempt: it speaks, has saves under way, and ends, or dies of something."""

from __future__ import annotations

from msgspec import structs

from tunekit.core.commands import LaunchTrial
from tunekit.core.events import (
    Event,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialSaving,
    WorkerLost,
)
from tunekit.runtime.line.spec import Delivery
from tunekit.testing.sim_channel import SimChannel
from tunekit.testing.sim_diary import Diary, Doing
from tunekit.testing.sim_saves import SimSaves
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.testing.sim_training import SimTraining
from tunekit.types import LossCause

CRASHES = (LossCause.CRASHED, LossCause.OUT_OF_MEMORY, LossCause.NODE_LOST, LossCause.PREEMPTED)
_TELL_SAVES = (TrialReturned, TrialRaised, TrialHalted, TrialPreempted)


class SimProcess:
    """What one attempt runs in.

    Args:
        around: The world.
        launch: Of the attempt.
        work: What it computes.
    """

    def __init__(self, around: Surroundings, launch: LaunchTrial, work: SimTraining) -> None:
        """Begin to wait for a machine."""
        self.is_over = False
        """Whether it will do nothing more."""
        self.is_started = False
        """Whether user code runs in it, or has run."""
        self.node = ""
        """The machine that it is on; empty while it waits for one."""
        self.diary = around.diaries[launch.trial, launch.attempt] = Diary(around.timeline.now)
        self._around = around
        self._trial, self._attempt = launch.trial, launch.attempt
        self._channel = SimChannel(around, self._lose_in_the_middle)
        self.send = self._channel.send
        self.saves = SimSaves(around, launch, work, self.send, self._finish)
        self._last_words: Event | None = None
        """What is said when all saves are finished."""

    @property
    def is_ending(self) -> bool:
        """Whether user code has come to its end."""
        return self._last_words is not None

    def die(self) -> None:
        """Vanish, with every message that was not sent yet."""
        if not self.is_over:
            self.diary.die(self._around.timeline.now)
        self.is_over = True
        self._channel.close()
        self.saves.clear()

    def lose(self, cause: LossCause) -> None:
        """Die, and be missed by the executor."""
        self.die()
        self.report_loss(cause)

    def report_loss(self, cause: LossCause) -> None:
        """Be missed by the executor, dead or alive."""
        around = self._around
        node = self.node if around.rng.random() < 0.5 else ""  # noqa: PLR2004 - not everybody knows
        signal = around.rng.choice(("SIGSEGV", "SIGKILL"))
        detail = f"its process was killed by {signal}" if cause is LossCause.CRASHED else ""
        took_s = 0.0 if self.is_started else self.diary.since_given(around.timeline.now)
        lost = WorkerLost(
            trial=self._trial, attempt=self._attempt, cause=cause, detail=detail, node=node, took_s=took_s
        )
        around.timeline.after(around.rng.random(), around.deliver, Delivery([lost]))

    def end(self, event: Event) -> None:
        """Say the last words, when all saves are finished. Until then the process may still die.

        Args:
            event: The last words; those after them are not heard.
        """
        if self._last_words is not None:
            return
        self._last_words = event
        if self.saves.are_done:
            self._say_last_words(event)
            return
        self.diary.begin(self._around.timeline.now, Doing.SAVING)
        self.send(TrialSaving(trial=self._trial, attempt=self._attempt, final=True))
        if self._around.coin(self._around.options.faults.crash):
            self._around.timeline.after(self.saves.first_s / 2, self._lose_in_the_middle)

    def _finish(self) -> None:
        """Take note that nothing is being saved any more."""
        if self._last_words is not None and not self.is_over:
            self._say_last_words(self._last_words)

    def _say_last_words(self, event: Event) -> None:
        now = self._around.timeline.now
        if isinstance(event, _TELL_SAVES) and (blocked_s := self.diary.since_row(now, Doing.SAVING)):
            event = structs.replace(event, blocked_s=blocked_s)
        self.diary.begin(now, Doing.GONE)
        self.send(event)
        self.is_over = True

    def _lose_in_the_middle(self) -> None:
        """Let the process die with a save in flight, or a message."""
        if not self.is_over:
            self.lose(self._around.rng.choice(CRASHES))
