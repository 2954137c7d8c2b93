"""What follows a lost attempt: somebody pays, and the trial waits, runs again, or has failed."""

from __future__ import annotations

from typing import Final

from tunekit.core import ledger
from tunekit.core.checkpoints import valid
from tunekit.core.commands import Command
from tunekit.core.decisions import Pause
from tunekit.core.events import Rule
from tunekit.core.failures import (
    MAX_STORAGE_FAULTS,
    STORAGE_BACKOFF_S,
    backoff_s,
    is_charged,
    is_exhausted,
    is_paid,
    is_preemption,
    likeness,
    ruling,
)
from tunekit.core.state import State
from tunekit.core.trial import Failure, Fault, TrialState
from tunekit.types import Intent, LossCause, Outcome, TrialStatus

_NEARLY_ALL: Final = 0.8
"""Share of the failures before any row that is alike if the code is at fault: others may have crashed meanwhile."""


def pay(state: State, trial: TrialState, cause: LossCause, out: list[Command]) -> None:
    """Have the budget pay that answers for a cause, and run the trial again if there is something left of it."""
    if is_charged(cause):
        charge(state, trial, out)
    elif cause is LossCause.STORAGE:
        rule = _asked(state, trial)
        trial.num_storage_faults += 1
        wait_s = backoff_s(state.settings, trial, STORAGE_BACKOFF_S, trial.num_storage_faults)
        _fail_or_again(
            state, trial, out, wait_s, is_over=_gives_up(rule) or trial.num_storage_faults > MAX_STORAGE_FAULTS
        )
    elif is_preemption(cause):
        trial.num_preemptions += 1
        budget = state.settings.max_preemption_failures
        _fail_or_again(state, trial, out, 0.0, is_over=is_exhausted(trial.num_preemptions, budget))
    else:
        again(state, trial)


def charge(state: State, trial: TrialState, out: list[Command]) -> None:
    """Charge a failure to the trial, unless a rule of the user answers for it."""
    settings = state.settings
    note_failure(state, trial)
    _suspect(state, trial)
    rule = _asked(state, trial)
    if rule is not None and not _gives_up(rule) and is_paid(rule, trial):
        wait_s = backoff_s(settings, trial, settings.backoff_s, trial.ruled[rule.pattern])
        _fail_or_again(state, trial, out, wait_s, is_over=False)
        return
    trial.num_failures += 1
    if _gives_up(rule):
        fail(state, trial, out)
        return
    wait_s = backoff_s(settings, trial, settings.backoff_s, trial.num_failures)
    _fail_or_again(state, trial, out, wait_s, is_over=is_exhausted(trial.num_failures, settings.max_failures))


def _asked(state: State, trial: TrialState) -> Rule | None:
    """Return what the user's rules say of a failure, and avoid its node if they say so."""
    rule = ruling(state.settings, trial.error)
    if rule is not None and rule.action == "avoid_node" and trial.node and trial.node not in trial.avoided:
        trial.avoided.append(trial.node)
    return rule


def _gives_up(rule: Rule | None) -> bool:
    return rule is not None and rule.action == "give_up"


def _fail_or_again(state: State, trial: TrialState, out: list[Command], wait_s: float, *, is_over: bool) -> None:
    if is_over:
        fail(state, trial, out)
    else:
        state.hold_back(trial, wait_s)
        again(state, trial)


def note_failure(state: State, trial: TrialState) -> None:
    """Compare a failure with those before it: of the trial, and of all while none has ever reported anything."""
    if state.order is not None:
        _compare(trial)
    _note_likeness(state, trial)


def _compare(trial: TrialState) -> None:
    """Note whether a trial fails otherwise than it did before: then chance is in it, and another run may be spared."""
    if trial.error is None:
        return
    last = trial.last
    has_rows = last is not None and last.attempt == trial.attempt
    failure = Failure(
        last.iteration if last is not None and has_rows else trial.resume_from or 0, likeness(trial.error)
    )
    if trial.last_failure is None:  # Who fails with what it was given, before any row, may have failed at loading it.
        is_chance = trial.resume_from is not None and not has_rows and {*trial.losses} != {LossCause.RAISED}
    else:
        is_chance = failure != trial.last_failure
    trial.fails_by_chance = trial.fails_by_chance or is_chance
    trial.last_failure = failure


def _note_likeness(state: State, trial: TrialState) -> None:
    """End the run if nearly all trials that fail do so in the same way, and none has ever reported anything."""
    limit, error = state.settings.max_identical_failures, trial.error
    if limit is None or error is None or state.has_rows:
        return
    alike = state.failed_alike.setdefault(likeness(error), set())
    alike.add(trial.trial)
    num_failed = sum(map(len, state.failed_alike.values()))
    if len(alike) >= limit and len(alike) > _NEARLY_ALL * num_failed:
        state.wind_up(
            Outcome.ERROR,
            f"{len(alike)} trials have failed in the same way, and none has ever reported a result: "
            f"{error.type}: {error.message} (max_identical_failures={limit})",
        )


def _suspect(state: State, trial: TrialState) -> None:
    """Blame the checkpoint that two attempts in a row have started from and failed in the same way.

    What it holds may be poisoned: a loss that is not a number, a full buffer, an optimiser out of bounds. While there
    is another one, the trial does not start from it again; a later attempt may save the same iteration anew.
    """
    last, error = trial.last, trial.error
    is_over = last is not None and last.final and last.attempt == trial.attempt
    entry = trial.checkpoints.get(trial.resume_from) if trial.resume_from is not None else None
    start = valid(entry) if entry is not None else None
    if start is None or error is None or is_over or trial.status is TrialStatus.STOPPING:
        return
    fault = Fault(start.iteration, start.attempt, likeness(error))
    if fault == trial.last_fault:
        start.is_suspect = True
        state.review(trial)
    trial.last_fault = fault


def is_spared(state: State, trial: TrialState, *, may_be_ours: bool) -> bool:
    """Return whether nobody pays for an attempt that was lost while it was to be paused, and note it.

    Its next attempt will say whether it fails; but it comes to the same pause, so it is spared again only when it has
    saved something since. At the end of a run it is always: what the run took from it is not to be charged in the next
    one.
    """
    if trial.status is not TrialStatus.STOPPING:
        return False
    if state.outcome is not None:
        return True
    start = trial.resume_from or 0
    is_first = trial.spared_from is None or start > trial.spared_from
    if may_be_ours and is_first:
        trial.spared_from = start
    return may_be_ours and is_first


def fail(state: State, trial: TrialState, out: list[Command]) -> None:
    """End a trial that has failed for good."""
    trial.reason = trial.error.message if trial.error else ""
    end(state, trial, TrialStatus.FAILED, out)
    if state.settings.fail_fast:
        state.wind_up(Outcome.FAILED_FAST, f"trial {trial.trial} failed", culprit=trial.trial)


def again(state: State, trial: TrialState) -> None:
    """Have a trial run again."""
    trial.intent = Intent.RUN
    trial.own_stop = False
    leave_slot(state, trial)
    state.move(trial, TrialStatus.PENDING)


def leave_slot(state: State, trial: TrialState) -> None:
    """Give the logical slot up if the scheduler paused the trial; it is kept whatever else stops an attempt."""
    if state.order is not None:
        seat = state.order.seats[trial.trial]
        seat.has_ended = isinstance(seat.verdict, Pause)


def end(state: State, trial: TrialState, status: TrialStatus, out: list[Command]) -> None:
    """End a trial."""
    if status is not TrialStatus.FAILED:
        trial.error = trial.beginning = None
    state.end(trial, status, out)
    if trial.checkpoints:
        ledger.retain(state, trial, out)
