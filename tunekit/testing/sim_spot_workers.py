"""Trials on machines that are taken away: how long everything takes that a real trial does.

An attempt restores, then iterates; a save keeps it waiting for ``block_s`` and is durable ``persist_s`` later, while it
goes on. At most one save is being finished and one waits, which gives way to a newer one, as in production. When a save
is due is decided by production's own triggers.

A machine ends with everything on it. If it is announced, its trials are told: those whose save fits into the time, by
production's own plan, save at their next report and leave, the others leave there without.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from tunekit.config import CheckpointConfig
from tunekit.core.cadence import Outlook
from tunekit.core.commands import LaunchTrial, StopTrial
from tunekit.core.events import (
    CheckpointStaged,
    Event,
    Place,
    ResultReported,
    TrialHalted,
    TrialPreempted,
    TrialReturned,
    TrialStarted,
    WorkerLost,
)
from tunekit.runtime.saving.pace import Pace
from tunekit.runtime.saving.triggers import Triggers, Wishes
from tunekit.testing.sim_options import METRIC
from tunekit.testing.sim_world import Timeline
from tunekit.types import LossCause

NO_WISHES = Wishes(save=False, pin=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What trials are like. Pairs are the least and the most, drawn evenly: by trial, or by attempt (``restore_s``)."""

    block_s: float = 1.0
    """How long a save keeps the trial waiting."""
    persist_s: float = 10.0
    """How long it then takes until it is durable."""
    restore_s: tuple[float, float] = (20.0, 60.0)
    """From a launch to the first iteration."""
    iteration_s: tuple[float, float] = (20.0, 120.0)
    jitter: float = 0.1
    """How much iterations of one trial differ, as a part of their length."""
    trial_s: tuple[float, float] = (14_400.0, 43_200.0)
    """How much work a trial is."""
    detect_s: float = 10.0
    """From the end of a machine to the driver's knowing of it."""


@dataclass(slots=True)
class SpotWorld:
    """What all attempts share."""

    workload: Workload
    rng: random.Random
    timeline: Timeline
    deliver: Callable[[list[Event]], None]
    checkpoints: CheckpointConfig
    seed: int


@dataclass(slots=True)
class SpotTotals:
    """What the world itself knows of the time that was spent."""

    leased_s: float = 0.0
    """From launch to end, over all attempts."""
    num_saves: int = 0
    num_lost: int = 0
    """Attempts that ended with their machine."""
    num_left: int = 0
    """Attempts that left a machine before its end."""


class SpotAttempt:
    """One life of one trial, on one machine."""

    def __init__(self, world: SpotWorld, totals: SpotTotals, launch: LaunchTrial, node: int) -> None:
        """Begin to restore."""
        self.trial, self.attempt, self.node = launch.trial, launch.attempt, node
        self.is_over = False
        self.save_s = 0.0
        """How long its newest save took, until it was durable."""
        self._world, self._totals = world, totals
        self._iteration = launch.resume_from or 0
        self._resume_from = launch.resume_from
        self._time_total_s = launch.time_total_s
        self._began = world.timeline.now
        self._row_at = self._reported_at = self._began
        """When the iteration under way began, and when the newest row was reported."""
        self._blocked_s = 0.0
        """Since that row."""
        self._saved_at = self._iteration
        self._saved_when = self._began
        shape = random.Random(f"{world.seed} {launch.trial}")  # noqa: S311 - the same in every attempt
        self._iteration_s = shape.uniform(*world.workload.iteration_s)
        self._num_iterations = max(1, round(shape.uniform(*world.workload.trial_s) / self._iteration_s))
        self._quality = shape.uniform(1.0, 2.0)
        """Which a scheduler sees at any iteration: lower is better."""
        self._pace: Pace | None = None
        if world.checkpoints.is_auto:
            self._pace = Pace(launch.outlook or Outlook(), lambda: self._finishing is not None)
        self._triggers: Triggers | None = None
        self._stop: StopTrial | None = None
        self._leaves: bool | None = None
        """Whether it saves before it leaves its machine; None: it stays."""
        self._finishing: tuple[int, float, float] | None = None
        self._waiting: tuple[int, float, float] | None = None
        """Saves on their way: iteration, ``time_total_s``, when they began."""
        self._is_copying = False
        self._last_words: TrialReturned | TrialHalted | TrialPreempted | None = None
        world.timeline.after(world.rng.uniform(*world.workload.restore_s), self._start)

    @property
    def risk_s(self) -> float:
        """Seconds of work since what is saved."""
        return self._world.timeline.now - self._saved_when

    def stop(self, command: StopTrial) -> None:
        """Stop at the next report."""
        self._stop = command

    def heed(self, outlook: Outlook) -> None:
        """Choose by this how often it saves."""
        if self._pace is not None:
            self._pace.outlook = outlook

    def leave(self, *, saves: bool) -> None:
        """Leave the machine at the next report."""
        self._leaves = saves

    def die(self, cause: LossCause) -> None:
        """End with the machine; the driver hears of it later."""
        if self.is_over:
            return
        self._end()
        self._totals.num_lost += 1
        lost = WorkerLost(trial=self.trial, attempt=self.attempt, cause=cause, node=str(self.node))
        self._world.timeline.after(self._world.workload.detect_s, self._world.deliver, [lost])

    # -- iterations ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self.is_over:
            return
        self._triggers = Triggers(self._world.checkpoints, lambda: self._world.timeline.now, self._pace)
        self._row_at = self._saved_when = self._world.timeline.now
        started = TrialStarted(
            trial=self.trial,
            attempt=self.attempt,
            restored_from=self._resume_from,
            place=Place(node=str(self.node)),
            took_s=self._row_at - self._began,
        )
        self._say(started)
        self._go_on()

    def _go_on(self) -> None:
        """Begin the next iteration."""
        if self.is_over:
            return
        self._row_at = self._world.timeline.now
        jitter = 1.0 + self._world.workload.jitter * (2.0 * self._world.rng.random() - 1.0)
        self._world.timeline.after(self._iteration_s * jitter, self._report)

    def _report(self) -> None:
        if self.is_over or self._triggers is None:
            return
        took = self._world.timeline.now - self._row_at
        self._reported_at = self._world.timeline.now
        self._iteration += 1
        self._time_total_s += took
        is_final = self._iteration >= self._num_iterations
        due = self._triggers.due(self._iteration, NO_WISHES)
        self._say(
            ResultReported(
                trial=self.trial,
                attempt=self.attempt,
                iteration=self._iteration,
                metrics={METRIC: self._quality / self._iteration},
                time_this_iter_s=took,
                time_total_s=self._time_total_s,
                blocked_s=self._blocked_s,
                final=is_final,
                saves=is_final,
            )
        )
        self._blocked_s = 0.0
        if is_final:
            self._leave_with(TrialReturned(trial=self.trial, attempt=self.attempt), saves=True)
        elif self._stop is not None:
            self._leave_with(TrialHalted(trial=self.trial, attempt=self.attempt), saves=True)
        elif self._leaves is not None:
            self._totals.num_left += 1
            self._leave_with(TrialPreempted(trial=self.trial, attempt=self.attempt), saves=self._leaves)
        elif due is not None:
            self._save()
        else:
            self._go_on()

    # -- saves ---------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Keep the trial waiting while its state is copied."""
        self._is_copying = True
        self._world.timeline.after(self._world.workload.block_s, self._copied)

    def _copied(self) -> None:
        """Go on; the copy is made durable behind the trial."""
        if self.is_over or self._triggers is None:
            return
        self._is_copying = False
        self._blocked_s = self._world.workload.block_s
        self._triggers.restart()
        if self._pace is not None and self._last_words is None:
            self._pace.note_blocked(self._world.workload.block_s)
        self._hand_over()
        if self._last_words is None:
            self._go_on()
        else:
            self._settle()

    def _hand_over(self) -> None:
        self._saved_at, self._saved_when = self._iteration, self._reported_at
        save = (self._iteration, self._time_total_s, self._world.timeline.now - self._world.workload.block_s)
        self._totals.num_saves += 1
        if self._finishing is None:
            self._finish(save)
        else:
            self._waiting = save

    def _finish(self, save: tuple[int, float, float]) -> None:
        self._finishing = save
        self._world.timeline.after(self._world.workload.persist_s, self._durable)

    def _durable(self) -> None:
        if self.is_over or self._finishing is None:
            return
        iteration, time_total_s, began = self._finishing
        self.save_s = self._world.timeline.now - began
        blocked_s = self._world.workload.block_s if self._last_words is None else 0.0
        if self._pace is not None and blocked_s:
            self._pace.note_durable(self.save_s)
        manifest = {"iteration": iteration, "time_total_s": time_total_s, "files": []}
        self._say(
            CheckpointStaged(
                trial=self.trial,
                attempt=self.attempt,
                iteration=iteration,
                manifest=manifest,
                took_s=self.save_s,
                blocked_s=blocked_s,
            )
        )
        self._finishing = None
        if self._waiting is not None:
            save, self._waiting = self._waiting, None
            self._finish(save)
        self._settle()

    # -- its end -------------------------------------------------------------------------------------------------------

    def _leave_with(self, words: TrialReturned | TrialHalted | TrialPreempted, *, saves: bool) -> None:
        self._last_words = words
        if saves and self._saved_at != self._iteration:
            self._save()
        else:
            self._settle()

    def _settle(self) -> None:
        """Say the last words once all saves are durable."""
        if self._last_words is not None and self._finishing is None and not self._is_copying:
            waited_s = self._world.timeline.now - self._reported_at
            self._say(msgspec.structs.replace(self._last_words, blocked_s=waited_s))
            self._end()

    def _end(self) -> None:
        self.is_over = True
        self._totals.leased_s += self._world.timeline.now - self._began

    def _say(self, event: Event) -> None:
        self._world.deliver([event])
