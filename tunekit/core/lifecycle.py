"""The life of a trial: what happens to a status at an event, as a table.

A trial's status says where it is, its intent what the experiment wants of it (``RUN < PAUSE < STOP``, merged with
``max``). Two small axes instead of one long list of states such as *stopping-because-paused*: each handler below reads
the intent only where an attempt ends.

An attempt ends in one of four ways: it returned (``on_returned``), it raised (``on_raised``), it halted as told
(``on_halted``), or its worker is gone (``on_lost`` and its kin; ``on_preempted`` if it took its leave). A trial that
ends in the middle of being stopped ends as it was meant to, unless its last checkpoint is owed: then it runs again
from the one before, comes to the same point, gets the same decision, and saves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import structs

from tunekit.core import ledger
from tunekit.core.alarms import limit_due
from tunekit.core.anew import is_doomed, look_back, on_started_over
from tunekit.core.checkpoints import valid
from tunekit.core.commands import Command, ContinueTrial, KillTrial, StopTrial
from tunekit.core.decisions import Continue, Decision, Stop
from tunekit.core.events import (
    CheckpointStaged,
    ErrorInfo,
    LaunchFailed,
    RestoreFailed,
    ResultReported,
    SaveFailed,
    TrialAssigned,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialSaving,
    TrialStarted,
    TrialStartedOver,
    WorkerLost,
)
from tunekit.core.exposure import exposed, prepared
from tunekit.core.failures import is_free, is_own_doing, note_loss, signal_in
from tunekit.core.patience import grace_ends_at, on_saving
from tunekit.core.preparing import on_assigned, on_assigned_in_vain
from tunekit.core.restoring import as_hopeless, put_aside
from tunekit.core.retries import again, charge, end, fail, is_spared, leave_slot, note_failure, pay
from tunekit.core.scheduling import decide, value_of
from tunekit.core.sequencer import Sequencer
from tunekit.core.state import State
from tunekit.core.trial import CheckpointStatus, TrialState
from tunekit.types import Intent, LossCause, Outcome, TrialStatus

# The members of an enum are slow to look up, and these are looked up at every row.
_LAUNCHING, _RUNNING, _STOPPING = TrialStatus.LAUNCHING, TrialStatus.RUNNING, TrialStatus.STOPPING
_COMPLETED, _STOPPED = TrialStatus.COMPLETED, TrialStatus.STOPPED
_PAUSE, _STOP = Intent.PAUSE, Intent.STOP


def on_started(state: State, trial: TrialState, event: TrialStarted, out: list[Command]) -> None:
    """User code is running."""
    del out
    trial.place = event.place
    trial.node = event.place.node
    trial.num_storage_faults = 0
    if not trial.is_metered:
        state.occupy(trial, event.resources, event.took_s)
    if trial.status is _LAUNCHING:
        state.move(trial, _RUNNING)
    elif trial.status is _RUNNING:
        state.num_stale += 1


def on_result(  # noqa: C901 - at every row; calls would cost more than what they do
    state: State, trial: TrialState, event: ResultReported, out: list[Command]
) -> None:
    """Record the row, then the trial's own stop, then the horizon."""
    last = trial.last
    if last is not None and last.attempt == event.attempt and event.iteration <= last.iteration:
        state.num_stale += 1
        return
    trial.last = event
    trial.ends_saving_at = None
    state.has_rows = True
    if event.saves:
        trial.owes_at = event.iteration
    if trial.status is _LAUNCHING:
        state.move(trial, _RUNNING)
    elif state.settings.hang_timeout_s is not None:
        state.hear(trial)
    if state.order is not None:
        _report_in_order(state, state.order, event)
    if (trial.beginning is not None or event.iteration == 1) and look_back(state, trial, event):
        stop(state, trial, _STOP, "it began anew", out)
    if event.final or trial.intent is _STOP:
        return
    if event.stop:
        stop(state, trial, _STOP, event.stop, out, is_own=True)
    elif trial.until is not None and event.iteration >= trial.until:
        _answer(state, trial, event, out)
    elif state.settings.asks_every_result and event.iteration > (trial.resume_from or 0):
        _go_on(
            state, trial, out
        )  # Up to there one that began anew does not wait, and would take it for a later answer.


def _report_in_order(state: State, order: Sequencer, event: ResultReported) -> None:
    is_final = event.final or bool(event.stop)
    order.report(event.trial, event.iteration, is_final=is_final, value=value_of(state, event))


def _answer(state: State, trial: TrialState, event: ResultReported, out: list[Command]) -> None:
    """Answer a trial at its horizon; in deterministic mode, if it is decided already."""
    if state.order is None:
        obey(state, trial, decide(state, trial.trial, event.iteration, value_of(state, event)), out)
        return
    seat = state.order.seats[trial.trial]
    if seat.verdict is not None:
        obey(state, trial, seat.verdict, out)
    elif not seat.is_undecided:
        obey(state, trial, Continue(until=seat.until), out)


def obey(state: State, trial: TrialState, decision: Decision, out: list[Command]) -> None:
    """Do with a trial at its horizon what the scheduler decided."""
    if isinstance(decision, Continue):
        trial.until = decision.until
        _go_on(state, trial, out)
    elif isinstance(decision, Stop):
        if trial.intent is not _STOP:
            trial.ran_in_full = not decision.early
        stop(state, trial, _STOP, decision.reason, out)
    else:
        stop(state, trial, _PAUSE, decision.reason, out)


def is_held(trial: TrialState) -> bool:
    """Return whether a live trial stands at its horizon."""
    last = trial.last
    if trial.status is not _RUNNING and trial.status is not _STOPPING:
        return False
    is_current = last is not None and last.attempt == trial.attempt
    return is_current and trial.until is not None and trial.iteration >= trial.until


def _go_on(state: State, trial: TrialState, out: list[Command]) -> None:
    """Answer a trial that waits, unless it was told to pause: then that is its answer."""
    if trial.status is not _STOPPING:
        until = worker_horizon(state, trial) if state.settings.asks_every_result else trial.until
        state.attend(trial)  # It could not speak while it waited, and nobody looked.
        out.append(ContinueTrial(trial=trial.trial, attempt=trial.attempt, until=until))


def worker_horizon(state: State, trial: TrialState) -> int | None:
    """Return the iteration at which the worker must wait: the scheduler's, or the next row if each is judged here."""
    if not state.settings.asks_every_result:
        return trial.until
    start = trial.last.iteration if trial.last and trial.last.attempt == trial.attempt else trial.resume_from
    return (start or 0) + 1


def stop(
    state: State, trial: TrialState, intent: Intent, reason: str, out: list[Command], *, is_own: bool = False
) -> None:
    """Tell a live trial to stop or pause, and set the deadline for harder measures.

    The first reason stays: a trial that its clock has ended is not one that the scheduler stopped too.
    """
    if intent > trial.intent:
        trial.intent, trial.reason, trial.own_stop = intent, reason, is_own
    if trial.status is _STOPPING:
        return
    state.move(trial, _STOPPING)
    state.set_deadline(trial, grace_ends_at(state, trial))
    pause = trial.intent is _PAUSE
    out.append(StopTrial(trial=trial.trial, attempt=trial.attempt, reason=reason, pause=pause))


def look_after(state: State, trial: TrialState, out: list[Command]) -> None:
    """Do what is due about a trial: launch it again, stop it if it has run for long enough, kill it if it says nothing.

    It is killed at the second look. A driver that was asleep itself (stopped, or short of processor time) finds every
    trial silent, and what they said meanwhile waiting at its door.
    """
    if trial.status is TrialStatus.PENDING:
        state.let_go(trial)
        return
    limit = limit_due(state.settings, trial)
    if limit is not None and limit <= state.now:
        stop(state, trial, _STOP, f"time_limit_s={state.settings.time_limit_s:g} is used up", out, is_own=True)
    elif trial.suspected_at is None:
        trial.suspected_at = state.now
        state.deadlines.watch(trial.trial)
    else:
        trial.is_hung = True
        out.append(KillTrial(trial=trial.trial, attempt=trial.attempt))


def on_returned(state: State, trial: TrialState, event: TrialReturned, out: list[Command]) -> None:
    """The trial came to its own end."""
    if is_doomed(state, trial, out):
        return
    trial.reason = event.reason
    end(state, trial, _COMPLETED, out)


def on_halted(state: State, trial: TrialState, event: TrialHalted, out: list[Command]) -> None:
    """The trial stopped, and has saved what it was to save."""
    del event
    if is_doomed(state, trial, out):
        return
    if trial.status is _STOPPING and trial.intent is _STOP:
        end(state, trial, _stopped_status(trial), out)
    elif _is_over(state, trial, out):
        return
    elif trial.status is TrialStatus.STOPPING and (state.order is None or state.outcome is not None):
        leave_slot(state, trial)
        state.move(trial, TrialStatus.PAUSED)
    else:  # Nobody asked: a worker that ran out of its lease. Or it only made room for a trial that is needed first.
        if trial.status is not _STOPPING:
            trial.cut_off = trial.attempt
        again(state, trial)


def on_raised(state: State, trial: TrialState, event: TrialRaised, out: list[Command]) -> None:
    """User code raised."""
    trial.error = event.error
    if not event.fatal:
        note_loss(trial, LossCause.RAISED)
    if event.fatal:
        _give_up(state, trial, event.error)
    elif is_doomed(state, trial, out):
        return
    elif trial.status is TrialStatus.STOPPING and trial.intent is Intent.STOP:
        _finish_stop(state, trial, out, None)
    elif event.retryable and _is_over(state, trial, out):
        return
    elif is_spared(state, trial, may_be_ours=trial.escalation > 0):
        again(state, trial)
    elif event.retryable:
        charge(state, trial, out)
    else:
        note_failure(state, trial)
        fail(state, trial, out)


def on_lost(state: State, trial: TrialState, event: WorkerLost, out: list[Command]) -> None:
    """The worker is gone."""
    trial.node = event.node or trial.node
    lost(state, trial, event.cause, event.detail, out, how=event.exit)


def lost(state: State, trial: TrialState, cause: LossCause, detail: str, out: list[Command], *, how: str = "") -> None:
    """Let a live trial that lost its worker end as it was meant to, or try again."""
    if trial.is_hung and cause is LossCause.KILLED:
        what = "not begun" if trial.status is _LAUNCHING else "no report"
        cause, detail = LossCause.HUNG, f"{what} within hang_timeout_s={state.settings.hang_timeout_s:g}"
    if cause is LossCause.PREEMPTED and is_own_doing(state.settings, trial):
        cause, how = LossCause.CRASHED, signal_in(detail) or how
        detail = f"{detail}, again and again on one machine, and no new row"
        trial.own_doings.add(trial.attempt)
    note_loss(trial, cause, how)
    trial.error = ErrorInfo(type=str(cause), message=detail)
    if is_doomed(state, trial, out):
        return
    if trial.status is TrialStatus.STOPPING and trial.intent is Intent.STOP:
        if cause is LossCause.KILLED:
            end(state, trial, _stopped_status(trial), out)
        else:
            _finish_stop(state, trial, out, cause)
    elif _is_over(state, trial, out):
        return
    elif not is_free(cause) and is_spared(state, trial, may_be_ours=True):
        again(state, trial)
    else:
        pay(state, trial, cause, out)


def on_preempted(state: State, trial: TrialState, event: TrialPreempted, out: list[Command]) -> None:
    """The worker was told to leave, and has saved what it could: it is as lost as any, but owes nothing for that."""
    lost(state, trial, LossCause.PREEMPTED, event.reason, out)


def on_launch_failed(state: State, trial: TrialState, event: LaunchFailed, out: list[Command]) -> None:
    """The worker could not prepare the attempt."""
    trial.error = event.error
    trial.node = event.node or trial.node
    if not event.fatal:
        note_loss(trial, event.cause)
    if event.fatal:
        _give_up(state, trial, event.error)
    elif trial.status is TrialStatus.STOPPING and trial.intent is Intent.STOP:
        end(state, trial, _stopped_status(trial), out)
    elif trial.status is TrialStatus.STOPPING:
        again(state, trial)
    elif event.retryable:
        pay(state, trial, event.cause, out)
    else:
        note_failure(state, trial)
        fail(state, trial, out)


def on_restore_failed(state: State, trial: TrialState, event: RestoreFailed, out: list[Command]) -> None:
    """Put the damaged checkpoint aside, and try again from the one before, if there is one. No budget pays for it."""
    if (failure := as_hopeless(state, trial, event)) is not None:
        on_launch_failed(state, trial, failure, out)
        return
    note_loss(trial, LossCause.RESTORE_FAILED)
    put_aside(state, trial, event.iteration, out)
    again(state, trial)


def on_save_failed(state: State, trial: TrialState, event: SaveFailed, out: list[Command]) -> None:
    """Storage failed while saving: the trial goes on, and has its previous checkpoints."""
    del out
    if event.iteration >= trial.owes_at:
        trial.owes_at = 0
    if trial.last is not None and trial.last.iteration == event.iteration:
        trial.last = structs.replace(trial.last, saves=False)
    state.hear(trial)


def _give_up(state: State, trial: TrialState, error: ErrorInfo) -> None:
    """End the run for a reason that holds for every trial; this one is as it was before."""
    hint = f"\n\nhint: {error.hint}" if error.hint else ""
    state.wind_up(Outcome.ERROR, f"{error.type}: {error.message}{hint}")
    again(state, trial)


def finish_stop(state: State, trial: TrialState, out: list[Command]) -> None:
    """Stop a trial that no worker holds; unless its last checkpoint is owed, for which it runs again."""
    if not _owes_save(state, trial):
        end(state, trial, TrialStatus.STOPPED, out)


def _finish_stop(state: State, trial: TrialState, out: list[Command], cause: LossCause | None) -> None:
    """End a trial that died while it was being stopped, or run it again if its last checkpoint is still owed."""
    if not _owes_save(state, trial):
        end(state, trial, _stopped_status(trial), out)
    elif cause is None:
        charge(state, trial, out)
    else:
        pay(state, trial, cause, out)


def _is_over(state: State, trial: TrialState, out: list[Command]) -> bool:
    """Complete a trial whose own last row is recorded and that owes nothing, and say whether it was one.

    To run it again from there would give a row beyond its last. If a checkpoint is owed it does run again, from the one
    before, comes to the same row, and saves.
    """
    last = trial.last
    if last is None or not last.final or last.attempt != trial.attempt or _owes_save(state, trial):
        return False
    end(state, trial, TrialStatus.COMPLETED, out)
    return True


def _owes_save(state: State, trial: TrialState) -> bool:
    """Return whether a trial that has come to its end has yet to save its newest row, or one behind it."""
    if trial.owes_at:
        return True
    if not state.settings.saves_at_end and not (trial.last is not None and trial.last.saves):
        return False
    entry = trial.checkpoints.get(trial.iteration)
    return entry is None or (entry.status is not CheckpointStatus.STAGED and valid(entry) is None)


def _stopped_status(trial: TrialState) -> TrialStatus:
    return _COMPLETED if trial.own_stop else _STOPPED


Handler: TypeAlias = Callable[[State, TrialState, Any, list[Command]], None]

_ENDINGS: dict[type, Handler] = {
    TrialReturned: on_returned,
    TrialRaised: exposed(on_raised),
    TrialHalted: on_halted,
    TrialPreempted: exposed(on_preempted),
    WorkerLost: prepared(exposed(on_lost)),
    LaunchFailed: prepared(on_launch_failed),
    RestoreFailed: prepared(on_restore_failed),
}
_WORK: dict[type, Handler] = {
    TrialStarted: on_started,
    TrialStartedOver: on_started_over,
    ResultReported: on_result,
    CheckpointStaged: ledger.on_staged,
    SaveFailed: on_save_failed,
}

TRANSITIONS: dict[TrialStatus, dict[type, Handler]] = {
    TrialStatus.LAUNCHING: {**_WORK, **_ENDINGS, TrialAssigned: on_assigned, TrialSaving: on_saving},
    TrialStatus.RUNNING: {**_WORK, **_ENDINGS, TrialSaving: on_saving},
    TrialStatus.STOPPING: {**_WORK, **_ENDINGS, TrialAssigned: on_assigned_in_vain, TrialSaving: on_saving},
}
"""What an event of the current attempt does. No entry: it comes too late, and is counted and ignored."""
