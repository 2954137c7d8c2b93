"""Simulated workers: an executor whose attempts live in virtual time, and die in every way.

Each attempt has a process of its own. Its messages reach the driver in order, batched and late, some of them twice. A
*zombie* is an attempt that was declared lost and lives on for a while: it computes, saves and speaks, and nothing of
that may count.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from tunekit.core.commands import ContinueTrial, InterruptTrial, KillTrial, LaunchTrial, StopTrial
from tunekit.core.events import (
    CapacityChanged,
    CheckpointStaged,
    ErrorInfo,
    Event,
    LaunchFailed,
    RestoreFailed,
    ResultReported,
    SaveFailed,
    TrialHalted,
    TrialRaised,
    TrialReturned,
    TrialStarted,
    WorkerLost,
)
from tunekit.runtime.spec import Delivery, ExecutorCommand
from tunekit.testing.sim_journal import DriverDiedError
from tunekit.testing.sim_options import METRIC, SimOptions
from tunekit.testing.sim_world import SimStore, Timeline, first_state, metric_of, next_state
from tunekit.types import LossCause, TrialId

ERROR = ErrorInfo(type="SimulatedError", message="as drawn")
CRASHES = (LossCause.CRASHED, LossCause.OUT_OF_MEMORY, LossCause.NODE_LOST, LossCause.PREEMPTED)


@dataclass(slots=True)
class Surroundings:
    """What all attempts of a simulation share."""

    seed: int
    options: SimOptions
    rng: random.Random
    timeline: Timeline
    store: SimStore
    deliver: Callable[[Delivery], bool]
    """Hands a delivery to the driver; False while there is none."""
    coin: Callable[[float], bool]
    """True with the given probability, and never once calm has come."""
    launched: dict[tuple[TrialId, int], int] = field(default_factory=dict)
    """How often each attempt was launched."""


class SimAttempt:
    """One life of one trial."""

    def __init__(self, around: Surroundings, launch: LaunchTrial) -> None:
        """Begin to prepare."""
        self.trial, self.attempt = launch.trial, launch.attempt
        self.is_over = False
        """Whether its process will do nothing more."""
        self._around = around
        self._until = launch.until
        self._resume_from = launch.resume_from
        self._iteration = launch.resume_from or 0
        self._saved_at = self._iteration
        self._time_total_s = launch.time_total_s
        self._state = first_state(around.seed, launch.trial)
        self._pace = 10.0 if around.rng.random() < around.options.stragglers else 1.0
        self._is_deaf = around.coin(around.options.faults.deaf)
        self._ignores_interrupts = around.rng.random() < 0.5  # noqa: PLR2004
        self._is_waiting = False
        self._stop: StopTrial | None = None
        self._outbox: list[Event] = []
        around.timeline.after(0.1 + around.rng.random(), self._start)

    # -- what it is told -----------------------------------------------------------------------------------------------

    def go_on(self, command: ContinueTrial) -> None:
        """Go on from the horizon."""
        self._until = command.until
        if self._is_waiting and not self.is_over:
            self._is_waiting = False
            self._plan_step()

    def stop(self, command: StopTrial) -> None:
        """Stop at the next report, or at once at the horizon."""
        self._stop = command
        if self._is_waiting and not self.is_over:
            self._halt()

    def interrupt(self) -> None:
        """Stop in the middle of an iteration, without saving; unless it is truly stuck."""
        if not self.is_over and not (self._is_deaf and self._ignores_interrupts):
            self._end(TrialHalted(trial=self.trial, attempt=self.attempt))

    def die(self) -> None:
        """Vanish, with every message that was not sent yet."""
        self.is_over = True
        self._outbox = []

    # -- what it does --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self.is_over:
            return
        rate = self._around.options.faults.launch
        if self._around.coin(rate):
            self._end(LaunchFailed(trial=self.trial, attempt=self.attempt, error=ERROR))
        elif self._around.coin(rate):
            self.lose(LossCause.NOT_STARTED)
        elif self._restore():
            self._send(TrialStarted(trial=self.trial, attempt=self.attempt, restored_from=self._resume_from))
            self._halt() if self._stop is not None and not self._is_deaf else self._plan_step()

    def _restore(self) -> bool:
        if self._resume_from is None:
            return True
        state = self._around.store.restore(self.trial, self._resume_from)
        if state is None:
            failed = RestoreFailed(trial=self.trial, attempt=self.attempt, iteration=self._resume_from, error=ERROR)
            self._end(failed)
            return False
        self._state = state
        return True

    def _plan_step(self) -> None:
        self._around.timeline.after(self._pace * (0.5 + self._around.rng.random()), self._step)

    def _step(self) -> None:
        if self.is_over or (self._stop is not None and self._is_deaf):
            return
        if self._misfortune():
            return
        self._iteration += 1
        self._time_total_s += 1.0
        self._state = next_state(self._state, self._iteration)
        options = self._around.options
        final = self._iteration >= options.iterations
        is_due = options.save_every > 0 and self._iteration % options.save_every == 0
        self._send(
            ResultReported(
                trial=self.trial,
                attempt=self.attempt,
                iteration=self._iteration,
                metrics={METRIC: metric_of(self._state)},
                time_total_s=self._time_total_s,
                final=final,
                saves=is_due,
            )
        )
        if is_due:
            self._save()
        if final:
            self._save_at_end()
            self._clean_up(TrialReturned(trial=self.trial, attempt=self.attempt))
        elif self._stop is not None:
            self._halt()
        elif self._until is not None and self._iteration >= self._until:
            self._is_waiting = True
        else:
            self._plan_step()

    def _misfortune(self) -> bool:
        """Let something happen to the worker, and return whether it ends here."""
        coin, faults = self._around.coin, self._around.options.faults
        if coin(faults.crash):
            self.lose(self._around.rng.choice(CRASHES))
        elif coin(faults.raises):
            self._end(TrialRaised(trial=self.trial, attempt=self.attempt, error=ERROR))
        elif coin(faults.lease):
            self._end(TrialHalted(trial=self.trial, attempt=self.attempt))
        elif coin(faults.zombie):
            self._report_loss(self._around.rng.choice(CRASHES))
        return self.is_over

    def lose(self, cause: LossCause) -> None:
        """Let the process die, and the executor notice it."""
        self.die()
        self._report_loss(cause)

    def _report_loss(self, cause: LossCause) -> None:
        lost = WorkerLost(trial=self.trial, attempt=self.attempt, cause=cause)
        self._around.timeline.after(self._around.rng.random(), self._around.deliver, Delivery([lost]))

    def _halt(self) -> None:
        assert self._stop is not None  # noqa: S101 - for the type checker
        if self._stop.pause or self._around.options.saves_at_end:
            self._save()
        self._clean_up(TrialHalted(trial=self.trial, attempt=self.attempt))

    def _clean_up(self, ending: Event) -> None:
        """Come to an end in order, unless user code raises on its way out."""
        raises = self._around.coin(self._around.options.faults.raises)
        self._end(TrialRaised(trial=self.trial, attempt=self.attempt, error=ERROR) if raises else ending)

    def _save_at_end(self) -> None:
        if self._around.options.saves_at_end:
            self._save()

    def _save(self) -> None:
        if self._iteration in {0, self._saved_at}:
            return
        if self._around.coin(self._around.options.faults.save):
            self._send(SaveFailed(trial=self.trial, attempt=self.attempt, iteration=self._iteration, error=ERROR))
            return
        self._saved_at = self._iteration
        self._around.store.staged[self.trial, self._iteration, self.attempt] = self._state
        manifest = {"trial": self.trial, "iteration": self._iteration}
        score = metric_of(self._state) if self._around.options.by_score else None
        self._send(
            CheckpointStaged(
                trial=self.trial, attempt=self.attempt, iteration=self._iteration, manifest=manifest, score=score
            )
        )

    # -- how it speaks -------------------------------------------------------------------------------------------------

    def _end(self, event: Event) -> None:
        self._send(event)
        self.is_over = True

    def _send(self, event: Event) -> None:
        if not self._outbox:
            faults = self._around.options.faults
            delay = 0.02 + self._around.rng.random() * faults.delay
            self._around.timeline.after(delay, self._flush)
        self._outbox.append(event)

    def _flush(self) -> None:
        batch, self._outbox = self._outbox, []
        if len(batch) > 1 and self._around.coin(self._around.options.faults.split):
            cut = self._around.rng.randrange(1, len(batch))
            batch, self._outbox = batch[:cut], batch[cut:]
            self._around.timeline.after(2.0 * self._around.rng.random(), self._flush)
        if not batch:
            return
        if not self._around.deliver(self._delivery(batch)):
            if not self._outbox:
                self._around.timeline.after(1.0, self._flush)
            self._outbox[:0] = batch  # There is no driver: keep it, as one does until the acknowledgement.
        elif self._around.coin(self._around.options.faults.duplicate):
            again = self._around.rng.random() * 5.0
            self._around.timeline.after(again, self._around.deliver, self._delivery(batch))
        if self._outbox and self._around.coin(self._around.options.faults.crash):
            self.lose(self._around.rng.choice(CRASHES))

    def _delivery(self, batch: list[Event]) -> Delivery:
        return Delivery([copy.copy(event) for event in batch], tuple(batch))


class SimExecutor:
    """The executor of one driver.

    Args:
        around: The world.
        acknowledged: Told what the driver says is durable.
        fate: True when the driver dies between two commands.
    """

    def __init__(
        self, around: Surroundings, acknowledged: Callable[[Sequence[Event]], None], fate: Callable[[], bool]
    ) -> None:
        """Tell the driver how much room there is."""
        self.attempts: dict[tuple[TrialId, int], SimAttempt] = {}
        self._around = around
        self._acknowledged = acknowledged
        self._fate = fate
        around.timeline.after(0.1, self.announce, around.options.max_live)

    def announce(self, max_live: int) -> None:
        """Tell the driver how much room there is."""
        self._around.deliver(Delivery([CapacityChanged(max_live=max_live)]))

    def execute(self, commands: list[ExecutorCommand]) -> None:
        """Carry the commands out, unless the driver dies in the middle."""
        for command in commands:
            if self._fate():
                raise DriverDiedError
            self._execute(command)

    def acknowledge(self, tokens: list[object]) -> None:
        """Note that messages are durable, and need not be kept by their senders."""
        for token in tokens:
            self._acknowledged(cast("tuple[Event, ...]", token))  # a token is the batch that it stands for

    def close(self) -> None:
        """End every worker."""
        for attempt in self.attempts.values():
            attempt.die()

    def _execute(self, command: ExecutorCommand) -> None:
        key = (command.trial, command.attempt)
        if isinstance(command, LaunchTrial):
            self._around.launched[key] = self._around.launched.get(key, 0) + 1
            self.attempts[key] = SimAttempt(self._around, command)
            return
        attempt = self.attempts[key]
        match command:
            case ContinueTrial():
                attempt.go_on(command)
            case StopTrial():
                attempt.stop(command)
            case InterruptTrial():
                attempt.interrupt()
            case KillTrial():
                if not attempt.is_over:
                    attempt.lose(LossCause.KILLED)
