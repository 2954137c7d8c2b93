"""Simulated workers: attempts that live in virtual time, and die in every way.

Each attempt has a process of its own. Its messages reach the driver in order, batched and late, some of them twice. A
*zombie* is an attempt that was declared lost and lives on for a while: it computes, saves and speaks, and nothing of
that may count.
"""

from __future__ import annotations

from tunekit.core.commands import ContinueTrial, LaunchTrial, StopTrial, TellOutlook
from tunekit.core.events import (
    ErrorInfo,
    Event,
    LaunchFailed,
    Place,
    ResultReported,
    TrialAssigned,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialStarted,
    TrialStartedOver,
)
from tunekit.runtime.line.spec import Delivery
from tunekit.testing.sim_diary import Doing
from tunekit.testing.sim_nodes import is_bad
from tunekit.testing.sim_options import HARDWARE, MESSAGES, METRIC, is_divisible, resources_of
from tunekit.testing.sim_process import CRASHES, SimProcess
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.testing.sim_training import ERROR, SimTraining
from tunekit.testing.sim_world import metric_of
from tunekit.types import LossCause, StartOver

_ASSIGNED_S = 0.05
"""From when an attempt has a machine to when a worker there is given it."""
_NOTICE_S = 2.0


class SimAttempt:
    """One life of one trial."""

    def __init__(self, around: Surroundings, launch: LaunchTrial) -> None:
        """Begin to prepare."""
        self.trial, self.attempt = launch.trial, launch.attempt
        self._avoid = launch.avoid
        self._around = around
        self._until = launch.until
        self._resume_from = launch.resume_from
        self._work = SimTraining(around, launch)
        self._process = SimProcess(around, launch, self._work)
        self._diary, self._saves = self._process.diary, self._process.saves
        self._is_held_up = False
        """Whether it stands still for a moment before it goes on, because of a save."""
        self._pace = 10.0 if around.rng.random() < around.options.stragglers else 1.0
        self._is_deaf = around.coin(around.options.faults.deaf)
        self._ignores_interrupts = around.rng.random() < 0.5  # noqa: PLR2004
        self._is_waiting = False
        self._is_hung = False
        self._notice: bool | None = None
        """Whether it is to save before it leaves its machine; None: it stays."""
        self._saves_once = False
        """Whether its next row is saved, because its machine may go."""
        self._stop: StopTrial | None = None
        self._outlook = launch.outlook
        self._save_due_at = 0.0
        """When it saves by its own choice, if it has one."""
        self._settle_down()

    @property
    def is_over(self) -> bool:
        """Whether its process will do nothing more."""
        return self._process.is_over

    # -- what it is told -----------------------------------------------------------------------------------------------

    def go_on(self, command: ContinueTrial) -> None:
        """Go on from the horizon."""
        self._until = command.until
        self._note_answer()
        if self._is_waiting and self._can_act():
            self._is_waiting = False
            self._plan_step()

    def stop(self, command: StopTrial) -> None:
        """Stop at the next report, or at once at the horizon."""
        self._stop = command
        self._note_answer()
        if self._is_waiting and self._can_act():
            self._is_waiting = False
            self._halt()

    def _note_answer(self) -> None:
        """Write down that nobody waits any more, as far as the driver knows."""
        if self._is_waiting:
            self._diary.begin(self._around.timeline.now, Doing.GONE if self.is_over else Doing.TRAINING)

    def expect(self, command: TellOutlook) -> None:
        """Hear what it may expect."""
        self._outlook = command.outlook

    def interrupt(self) -> None:
        """Stop in the middle of an iteration, without saving; unless it is truly stuck."""
        if self._can_act() and not (self._is_deaf and self._ignores_interrupts):
            self._end(TrialHalted(trial=self.trial, attempt=self.attempt))

    def warn(self, *, ends: bool, saves: bool) -> None:
        """Be told that the machine is to go: leave it after the next row. Or that it may be: save the next row."""
        self._around.warned.add((self.trial, self.attempt))
        if not ends:
            self._saves_once = True
        elif self._notice is None:
            self._notice = saves
            if self._is_waiting and self._can_act():
                self._is_waiting = False
                self._leave()

    def kill(self) -> None:
        """Be killed: for being silent, if nobody has told it to stop."""
        if not self.is_over:
            self._diary.is_killed_for_silence = self._stop is None
            self.lose(LossCause.KILLED)

    def die(self) -> None:
        """Vanish, with every message that was not sent yet."""
        self._process.die()

    def lose(self, cause: LossCause) -> None:
        """Let the process die, and the executor notice it."""
        self._process.lose(cause)

    def _can_act(self) -> bool:
        """Whether user code may still do something."""
        return not self.is_over and not self._is_hung and not self._process.is_ending

    # -- what it does --------------------------------------------------------------------------------------------------

    def _settle_down(self) -> None:
        """Begin on a machine, as soon as there is one."""
        if self.is_over:
            return
        around = self._around
        self._process.node = around.nodes.place(self, self._avoid)
        if not self._process.node:
            around.timeline.after(1.0, self._settle_down)
            return
        self._diary.plan(around.timeline.now + _ASSIGNED_S, Doing.PREPARING)
        if around.options.hang_timeout_s is not None:
            around.timeline.after(_ASSIGNED_S, self._take_up)
        around.timeline.after(0.1 + around.rng.random(), self._start)

    def _take_up(self) -> None:
        if not self.is_over:
            assigned = TrialAssigned(trial=self.trial, attempt=self.attempt, node=self._process.node)
            self._around.deliver(Delivery([assigned]))

    def _start(self) -> None:
        if self.is_over:
            return
        if self._around.options.hang_timeout_s is not None and self._around.coin(self._around.options.faults.hang):
            self._is_hung = True  # While it loads the code of the trial.
            return
        if self._notice is not None and self._around.rng.random() < 0.5:  # noqa: PLR2004 - nothing was begun
            self.lose(LossCause.NOT_STARTED)
            return
        rate = self._around.options.faults.launch
        took_s = self._diary.since_given(self._around.timeline.now)
        if self._around.coin(rate):
            node = self._process.node
            self._end(LaunchFailed(trial=self.trial, attempt=self.attempt, error=ERROR, node=node, took_s=took_s))
        elif self._around.coin(rate):
            self.lose(LossCause.NOT_STARTED)
        elif (refusal := self._work.restore(self._process.node, took_s)) is not None:
            self._end(refusal)
        else:
            self._begin(took_s)

    def _begin(self, took_s: float) -> None:
        """Let user code run."""
        self._saves.saved_at = self._work.iteration
        self._process.is_started = True
        self._process.send(
            TrialStarted(
                trial=self.trial,
                attempt=self.attempt,
                restored_from=self._resume_from,
                place=Place(node=self._process.node),
                took_s=took_s,
                resources=resources_of(self.trial),
            )
        )
        self._diary.begin(self._around.timeline.now, Doing.TRAINING)
        self._halt() if self._stop is not None and not self._is_deaf else self._plan_step()

    def _plan_step(self) -> None:
        timeline, work = self._around.timeline, self._work
        self._diary.go_on(timeline.now, saves=self._is_held_up, loads=work.loads)
        self._is_held_up = work.loads = False
        timeline.after(self._pace * (0.5 + self._around.rng.random()), self._step)

    def _step(self) -> None:
        if self.is_over or self._process.is_ending or (self._stop is not None and self._is_deaf):
            return
        if self._misfortune() or self._is_not_to_begin_anew():
            return
        diary, work, now = self._diary, self._work, self._around.timeline.now
        blocked_s, loaded_s = diary.since_row(now, Doing.SAVING), diary.since_row(now, Doing.LOADING)
        took_s = loaded_s + diary.since_row(now, Doing.TRAINING)
        work.advance(took_s)
        diary.row(now, work.iteration)
        options = self._around.options
        final = work.iteration >= options.iterations
        is_pinned = is_divisible(work.iteration, options.pin_every)
        is_regular = is_divisible(work.iteration, options.save_every) or is_pinned or self._is_worth_saving()
        is_due = is_regular or self._saves_once
        self._saves_once = False
        self._process.send(
            ResultReported(
                trial=self.trial,
                attempt=self.attempt,
                iteration=work.iteration,
                metrics={METRIC: metric_of(work.state)},
                time_this_iter_s=took_s,
                time_total_s=work.time_total_s,
                final=final,
                saves=is_due,
                blocked_s=blocked_s,
                loaded_s=loaded_s,
            )
        )
        if is_due:
            interim = not is_regular and not (final and options.saves_at_end)
            self._is_held_up = self._saves.save(pinned=is_pinned, interim=interim)
        self._follow_up(final=final)

    def _follow_up(self, *, final: bool) -> None:
        """Do what comes after a row."""
        if final:
            if self._around.options.saves_at_end:
                self._saves.save()
            self._clean_up(TrialReturned(trial=self.trial, attempt=self.attempt))
        elif self._stop is not None:
            self._halt()
        elif self._notice is not None:
            self._leave()
        elif self._until is not None and self._work.iteration >= self._until:
            self._is_waiting = True
            self._diary.begin(self._around.timeline.now, Doing.WAITING)
        else:
            self._plan_step()

    def _is_worth_saving(self) -> bool:
        """Return whether the trial itself chooses to save now: to find out what that costs, or because it is time."""
        outlook, now = self._outlook, self._around.timeline.now
        is_due = outlook is not None and (now >= self._save_due_at or outlook.interval_s is None)
        self._save_due_at = now + (outlook.interval_s or 0.0) if outlook and is_due else self._save_due_at
        return is_due

    def _misfortune(self) -> bool:
        """Let something happen to the worker, and return whether it ends here."""
        coin, faults = self._around.coin, self._around.options.faults
        if coin(faults.crash):
            self.lose(self._around.rng.choice(CRASHES))
        elif coin(faults.raises):
            self._raise(self._around.rng.choice(MESSAGES))
        elif coin(faults.bad_machine) and is_bad(self._process.node):
            self._raise(HARDWARE)
        elif coin(faults.lease):
            self._end(TrialHalted(trial=self.trial, attempt=self.attempt))
        elif coin(faults.zombie):
            self._process.report_loss(self._around.rng.choice(CRASHES))
        elif self._around.options.hang_timeout_s is not None and coin(faults.hang):
            self._is_hung = True
        elif coin(faults.notice):
            self.warn(ends=True, saves=True)
            self._around.timeline.after(_NOTICE_S, self._run_out)
        return self.is_over or self._is_hung or self._process.is_ending

    def _is_not_to_begin_anew(self) -> bool:
        """Say that nothing was made of the checkpoint, ahead of the first row, and return whether that is the end."""
        sign, self._work.anew = self._work.anew, None
        if sign is None or sign is StartOver.SAME_ROWS:
            return False
        at = self._resume_from or 0
        self._process.send(TrialStartedOver(trial=self.trial, attempt=self.attempt, iteration=at, sign=sign))
        if self._around.options.silent_restart == "warn":
            return False
        self._raise("began anew", retryable=False)
        return True

    def _run_out(self) -> None:
        """Let the machine be gone, whatever the trial is doing."""
        if not self.is_over:
            self.lose(LossCause.PREEMPTED)

    def _leave(self) -> None:
        """Save the newest row if there is time for it, and leave the machine."""
        if self._until is not None and self._work.iteration >= self._until:
            self._diary.begin(self._around.timeline.now, Doing.LEAVING)
        if self._notice:
            self._saves.save(interim=True)
        self._clean_up(TrialPreempted(trial=self.trial, attempt=self.attempt))

    def _raise(self, message: str, *, retryable: bool = True) -> None:
        """Let user code raise, and save what is left, perhaps in the middle of an iteration."""
        if self._around.options.saves_failures:
            self._saves.save_failed()
        error = ErrorInfo(type=ERROR.type, message=message)
        self._end(TrialRaised(trial=self.trial, attempt=self.attempt, error=error, retryable=retryable))

    def _halt(self) -> None:
        assert self._stop is not None  # noqa: S101 - for the type checker
        if self._stop.pause or self._around.options.saves_at_end:
            self._saves.save(interim=self._stop.pause)
        self._clean_up(TrialHalted(trial=self.trial, attempt=self.attempt))

    def _clean_up(self, ending: Event) -> None:
        """Come to an end in order, unless user code raises on its way out."""
        if self._around.coin(self._around.options.faults.raises):
            self._raise(MESSAGES[0])
        else:
            self._end(ending)

    def _end(self, event: Event) -> None:
        self._process.end(event)
