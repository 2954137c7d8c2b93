"""The simulator can fail: core and shell, each with one promise broken, are caught within a few hundred seeds.

Each mutant is put in place by patching; those of checkpoints have a file of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from tunekit.core import alarms, checkpoints, experiment, lifecycle, retries
from tunekit.core.commands import Command, KillTrial
from tunekit.core.events import (
    Event,
    ResultReported,
    TrialAssigned,
    TrialPreempted,
)
from tunekit.core.experiment import Experiment
from tunekit.core.state import State
from tunekit.core.trial import TrialState
from tunekit.runtime.driver.driver import Driver
from tunekit.runtime.line.spec import Delivery
from tunekit.schedulers.asha import ASHAState
from tunekit.testing.sim_journal import SimJournal
from tunekit.testing.sim_mutation import Mutants
from tunekit.testing.sim_mutation import call_instead as on
from tunekit.types import Intent, LossCause, TrialId, TrialStatus

Patch = pytest.MonkeyPatch
mutant = Mutants()


# -- the order of things in the driver ---------------------------------------------------------------------------------


@mutant
def acts_before_it_journals(patch: Patch) -> None:
    """What a turn has to say is written down after its commands were carried out."""
    act, commit = Driver._act, SimJournal.commit

    def hasty(self: Driver, commands: Sequence[Command]) -> list[Event]:
        answers = act(self, commands)
        commit(cast("SimJournal", self._commits._journal))
        return answers

    patch.setattr(SimJournal, "commit", lambda self: None)
    patch.setattr(Driver, "_act", hasty)


@mutant
def acknowledges_before_it_journals(patch: Patch) -> None:
    take = Driver.take

    def hasty(self: Driver, deliveries: Sequence[Delivery]) -> None:
        if self._executor is not None:
            self._executor.acknowledge([delivery.token for delivery in deliveries if delivery.token is not None])
        take(self, deliveries)

    patch.setattr(Driver, "take", hasty)


@mutant
def does_not_sync(patch: Patch) -> None:
    """A commit reaches the disk only with the next one."""
    commit = SimJournal.commit
    held: dict[int, list[bytes]] = {}

    def lazy(self: SimJournal) -> None:
        new, self._pending = self._pending, held.get(id(self), [])
        held[id(self)] = new
        if self._pending:
            commit(self)

    patch.setattr(SimJournal, "commit", lazy)


@mutant
def keeps_a_torn_tail(patch: Patch) -> None:
    patch.setattr(SimJournal, "_cut", lambda self, end, chain: None)


# -- attempts ----------------------------------------------------------------------------------------------------------


@mutant
def does_not_fence_attempts(patch: Patch) -> None:
    handle = Experiment._handle_trial_event

    def trusting(self: Experiment, event: Any, out: list[Command]) -> None:
        trial = self.state.trials[event.trial]
        if type(event) in lifecycle.TRANSITIONS.get(trial.status, {}):
            event = type(event)(
                **{**{name: getattr(event, name) for name in event.__struct_fields__}, "attempt": trial.attempt}
            )
        handle(self, event, out)

    patch.setattr(Experiment, "_handle_trial_event", trusting)


@mutant
def takes_a_row_twice(patch: Patch) -> None:
    def on_result(state: State, trial: TrialState, event: ResultReported, out: list[Command]) -> None:
        if trial.last is not None and event.iteration <= trial.last.iteration:
            trial.last = None
        lifecycle.on_result(state, trial, event, out)

    on(patch, ResultReported, on_result)


@mutant.shown_by(82)
def runs_a_finished_trial_on(patch: Patch) -> None:
    patch.setattr(lifecycle, "_is_over", lambda state, trial, out: False)


@mutant
def forgets_to_kill(patch: Patch) -> None:
    escalate = experiment._escalate

    def lenient(state: State, trial: TrialState, out: list[Command]) -> None:
        escalate(state, trial, out)
        out[:] = [command for command in out if not isinstance(command, KillTrial)]

    patch.setattr(experiment, "_escalate", lenient)


# -- budgets -----------------------------------------------------------------------------------------------------------


@mutant
def forgets_failures_at_a_restart(patch: Patch) -> None:
    take_over = experiment._take_over

    def forgetful(state: State, trial: TrialState, out: list[Command]) -> None:
        trial.num_failures = 0
        take_over(state, trial, out)

    patch.setattr(experiment, "_take_over", forgetful)


@mutant
def charges_the_death_of_the_driver(patch: Patch) -> None:
    patch.setattr(retries, "is_charged", lambda cause: cause not in {LossCause.PREEMPTED, LossCause.NODE_LOST})


@mutant
def charges_preemption(patch: Patch) -> None:
    patch.setattr(retries, "is_charged", lambda cause: cause is not LossCause.DRIVER_LOST)


@mutant
def charges_a_leave(patch: Patch) -> None:
    def on_preempted(state: State, trial: TrialState, event: TrialPreempted, out: list[Command]) -> None:
        lifecycle.lost(state, trial, LossCause.CRASHED, event.reason, out)

    on(patch, TrialPreempted, on_preempted)


@mutant
def takes_every_preemption_for_bad_luck(patch: Patch) -> None:
    patch.setattr(lifecycle, "is_own_doing", lambda settings, trial: False)


@mutant
def takes_a_second_preemption_for_its_own_doing(patch: Patch) -> None:
    """Wherever it is, and however far the trial has come."""
    patch.setattr(lifecycle, "is_own_doing", lambda settings, trial: trial.num_preemptions > 0)


@mutant
def forgets_who_took_its_leave(patch: Patch) -> None:
    on(patch, TrialPreempted, lambda state, trial, event, out: None)


@mutant
def allows_one_failure_more(patch: Patch) -> None:
    patch.setattr(retries, "is_exhausted", lambda failures, budget: 0 <= budget < failures - 1)


@mutant
def forgets_lost_machines(patch: Patch) -> None:
    patch.setattr(retries, "is_preemption", lambda cause: False)


@mutant
def does_not_wait_after_a_failure(patch: Patch) -> None:
    patch.setattr(State, "hold_back", lambda self, trial, wait_s: None)


@mutant
def never_ends_a_wait(patch: Patch) -> None:
    patch.setattr(State, "let_go", lambda self, trial: None)


@mutant
def starts_from_a_suspect_checkpoint(patch: Patch) -> None:
    patch.setattr(checkpoints, "start", checkpoints.newest)


# -- silence and time --------------------------------------------------------------------------------------------------


@mutant
def never_finds_a_hang(patch: Patch) -> None:
    patch.setattr(alarms, "hang_due", lambda settings, trial: None)


@mutant
def never_finds_a_hang_before_user_code_runs(patch: Patch) -> None:
    on(patch, TrialAssigned, lambda state, trial, event, out: None)


@mutant
def does_not_listen(patch: Patch) -> None:
    """Only the start counts as a sign of life."""
    patch.setattr(State, "hear", lambda self, trial: None)


@mutant
def forgets_how_long_earlier_attempts_ran(patch: Patch) -> None:
    end = State._end_attempt

    def forgetful(self: State, trial: TrialState) -> None:
        end(self, trial)
        trial.run_s = 0.0

    patch.setattr(State, "_end_attempt", forgetful)


@mutant
def lets_trials_run_for_ever(patch: Patch) -> None:
    patch.setattr(alarms, "limit_due", lambda settings, trial: None)


# -- decisions ---------------------------------------------------------------------------------------------------------


@mutant
def enters_a_rung_again(patch: Patch) -> None:
    decide = ASHAState.decide

    def forgetful(self: ASHAState, trial: TrialId, iteration: int, value: float | None) -> Any:
        for stages in self._stages:
            if iteration in stages:
                stages[iteration].decided.pop(trial, None)
        self._stopped.pop(trial, None)
        return decide(self, trial, iteration, value)

    patch.setattr(ASHAState, "decide", forgetful)


@mutant
def skips_a_rung_while_pausing(patch: Patch) -> None:
    def on_result(state: State, trial: TrialState, event: ResultReported, out: list[Command]) -> None:
        if trial.status is TrialStatus.STOPPING and trial.intent is Intent.PAUSE:
            trial.last = event
        else:
            lifecycle.on_result(state, trial, event, out)

    on(patch, ResultReported, on_result)


@mutant
def leaves_a_trial_waiting(patch: Patch) -> None:
    go_on = lifecycle._go_on

    def absent(state: State, trial: TrialState, out: list[Command]) -> None:
        if trial.attempt == 1:
            go_on(state, trial, out)

    patch.setattr(lifecycle, "_go_on", absent)


@pytest.mark.parametrize("name", mutant)
def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.expect_caught(name, monkeypatch)
