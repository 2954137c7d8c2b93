"""Deterministic mode: the core's side of ``core.sequencer``.

Two things are apart here that are one otherwise. A trial is *seated* on a logical slot, from the moment at which it is
asked for up to its logical end, and that is all that schedulers and searchers see. And it is *launched*, perhaps
several times, whenever there is a worker for it.

Where workers are fewer than slots, a trial that waits for a decision may stand in the way of one that has to come
first. It is *parked* then: paused through a checkpoint, and launched again once the decision has come.
"""

from __future__ import annotations

from typing import Final

from tunekit.core import checkpoints, launching, lifecycle
from tunekit.core.commands import Command
from tunekit.core.decisions import Continue, Pause
from tunekit.core.retries import end
from tunekit.core.scheduling import decide
from tunekit.core.sequencer import Seat, Sequencer
from tunekit.core.state import State
from tunekit.core.stopping import TIME_TOTAL_S
from tunekit.core.trial import TrialState
from tunekit.types import Intent, LossCause, Outcome, TrialId, TrialStatus

_MODE: Final = "deterministic mode"
_CLOCKS: Final = ("time_limit_s", TIME_TOTAL_S)
"""With these words begins the reason of a trial that ended by the clock."""
_FATES: Final = frozenset({LossCause.RAISED, LossCause.DRIVER_LOST, LossCause.NOT_STARTED})
"""Losses that cost a trial nothing, or that it may meet in any run."""
OUTCOMES_OF_CLOCKS: Final = (Outcome.TIME_BUDGET, Outcome.DEADLINE, Outcome.MAX_COST)
"""Of runs that ended at a moment which another run would not have ended at."""


def of(state: State) -> Sequencer | None:
    """Return the order of things under the settings of a driver that takes over; None: they happen as they arrive."""
    num_slots = state.settings.logical_slots
    if num_slots is None:
        return None
    order = state.order if state.order is not None else Sequencer(num_slots=num_slots)
    order.num_slots = num_slots
    return order


def go_on(state: State, order: Sequencer, out: list[Command]) -> None:
    """Let everything happen whose turn it is, and give workers to those that are needed first.

    While the run is wound up, nothing happens: what could be asked for then would be missing in its place.
    """
    while state.outcome is None and not state.ended:
        if not _fill_slots(state, order, out):
            break
        trial = order.next()
        if trial is None:
            break
        _happen(state, order, state.trials[trial], out)
    if state.outcome is None and not state.ended:
        _launch(state, order, out)
        _park(state, order, out)
    elif state.outcome in OUTCOMES_OF_CLOCKS:
        _say(state, _out_of_time(state.outcome))  # A later run may still come to the end of all runs.


def _fill_slots(state: State, order: Sequencer, out: list[Command]) -> bool:
    """Seat trials on all free slots, new ones first, then those that return. False: the searcher must answer first."""
    while order.num_free > 0:
        if order.next_new < len(state.trials) and state.is_wanted(state.trials[order.next_new]):
            _seat(state, order, order.next_new, seen=0)
            order.next_new += 1
        elif state.asking or launching.ask(state, order.num_free, out):
            return False
        elif order.returning:
            index, seen = order.returning[0]
            trial = state.trials[index]
            if seen is None and (trial.num_staged or not state.max_live):
                break  # It is not known yet from where it goes on: stock is taken first, and what waits is published.
            del order.returning[0]
            if seen is None:
                _seat_failed(state, order, trial, out)
                continue
            if trial.status is TrialStatus.PAUSED:
                state.move(trial, TrialStatus.PENDING)
            _seat(state, order, index, seen=seen)
        else:
            break
    return True


def _seat(state: State, order: Sequencer, trial: TrialId, *, seen: int) -> None:
    order.sit(trial, seen=seen, until=state.scheduler.horizon(trial, seen))


def _seat_failed(state: State, order: Sequencer, trial: TrialState, out: list[Command]) -> None:
    """Seat a trial that failed and is tried again. Whatever it computes again is asked about again."""
    entry = checkpoints.start(trial.checkpoints)
    seen = entry.iteration if entry else 0
    _seat(state, order, trial.trial, seen=seen)
    stop = order.stopped_by(trial.trial, seen)
    if stop is not None:  # Its end was decided after it had failed, and is saved: another row would be one too many.
        order.seats[trial.trial].verdict = stop
        trial.reason, trial.ran_in_full = stop.reason, not stop.early
        if trial.trial in state.queue:
            state.queue.remove(trial.trial)
        end(state, trial, TrialStatus.STOPPED, out)


def _happen(state: State, order: Sequencer, trial: TrialState, out: list[Command]) -> None:
    seat = order.seats[trial.trial]
    if seat.is_undecided:
        _decide(state, trial, seat, out)
    else:
        order.leave(trial.trial, has_failed=trial.status is TrialStatus.FAILED)
        _end(state, order, trial, seat, out)


def _end(state: State, order: Sequencer, trial: TrialState, seat: Seat, out: list[Command]) -> None:
    if isinstance(seat.verdict, Pause) and not trial.status.is_ended:
        order.returning.append((trial.trial, seat.seen))
        return
    if trial.status is TrialStatus.FAILED and _is_bad_luck(trial):
        note(state, f"trial {trial.trial} failed for good, so a run in which it does not may come to another end")
    elif clock := next((limit for limit in _CLOCKS if trial.reason.startswith(limit)), ""):
        note(state, f"trial {trial.trial} was ended by {clock}, so what follows depends on the clock")
    state.tell_end(trial, out)


def _is_bad_luck(trial: TrialState) -> bool:
    """Return whether a trial has failed by more than exceptions of its own which come in any run: at one row, alike."""
    return trial.doom is not None or trial.fails_by_chance or not {*trial.losses} <= _FATES


def _decide(state: State, trial: TrialState, seat: Seat, out: list[Command]) -> None:
    decision = decide(state, trial.trial, seat.seen, seat.value)
    if isinstance(decision, Continue):
        seat.until = decision.until
    else:
        seat.verdict = decision
    if lifecycle.is_held(trial):
        lifecycle.obey(state, trial, decision, out)
    elif trial.status.is_live or trial.status.is_ended:
        return  # It comes to its horizon again, or never will.
    elif isinstance(decision, Pause):
        seat.has_ended = True
    elif not isinstance(decision, Continue):
        trial.reason, trial.ran_in_full = decision.reason, not decision.early
        lifecycle.finish_stop(state, trial, out)
        if trial.status.is_ended and trial.trial in state.queue:
            state.queue.remove(trial.trial)


def dependence(state: State) -> str:
    """Return what a sweep in deterministic mode owes to chance or to the clock; empty: nothing, or it is in no mode."""
    if state.order is None:
        return ""
    return state.order.depends_on or (_out_of_time(state.outcome) if state.outcome in OUTCOMES_OF_CLOCKS else "")


def _out_of_time(outcome: Outcome | None) -> str:
    return f"the {outcome} ended the run, so what it came to depends on the clock"


def note(state: State, why: str) -> None:
    """Remember, and say, what ends the promise that another sweep comes to the same end."""
    if state.order is not None and not state.order.depends_on:
        state.order.depends_on = why
    _say(state, why)


def _say(state: State, why: str) -> None:
    """Say it, once a run."""
    if not any(notice.startswith(_MODE) for notice in state.notices):
        state.notices.append(f"{_MODE}: {why}")


def _launch(state: State, order: Sequencer, out: list[Command]) -> None:
    while len(state.live) < state.max_live:
        trial = min(_wanting(state, order), key=order.place, default=None)
        if trial is None:
            return
        state.queue.remove(trial)
        launching.launch(state, state.trials[trial], out)


def _park(state: State, order: Sequencer, out: list[Command]) -> None:
    """Have as many trials that wait make room as places are wanted, the last in order first."""
    if len(state.live) < state.max_live or not (state.queue or len(state.live) > state.max_live):
        return
    num_stopping = sum(state.trials[trial].status is TrialStatus.STOPPING for trial in state.live)
    num_wanted = len(_wanting(state, order)) + len(state.live) - state.max_live - num_stopping
    if num_wanted <= 0:
        return
    held = [trial for trial in state.live if _is_idle(state.trials[trial])]
    for index in sorted(held, key=order.place, reverse=True)[:num_wanted]:
        trial = state.trials[index]
        lifecycle.stop(state, trial, Intent.PAUSE, "it makes room for a trial that is needed first", out)
        trial.reason = ""  # It is none for its end.


def _wanting(state: State, order: Sequencer) -> list[TrialId]:
    """Return the trials that could use a worker."""
    return [trial for trial in order.seats if order.needs_worker(trial) and state.is_queued(state.trials[trial])]


def _is_idle(trial: TrialState) -> bool:
    return trial.status is TrialStatus.RUNNING and lifecycle.is_held(trial)
