"""What becomes of checkpoints: staged → published → superfluous → deleted.

These events answer commands to the store, or announce new files. They are keyed by (trial, iteration, attempt of the
checkpoint), and so they are valid whatever the trial does meanwhile.
"""

from __future__ import annotations

from typing import TypeAlias

from tunekit.core.checkpoints import num_bytes, own, start, superfluous, valid
from tunekit.core.commands import Command, TellOutlook
from tunekit.core.events import (
    CheckpointAdopted,
    CheckpointDeleted,
    CheckpointMissing,
    CheckpointPublished,
    CheckpointStaged,
    DeleteFailed,
    PublishFailed,
)
from tunekit.core.rows import end_of
from tunekit.core.scores import figures
from tunekit.core.state import State, call_name
from tunekit.core.trial import CheckpointState, CheckpointStatus, TrialState
from tunekit.types import TrialStatus


def on_staged(state: State, trial: TrialState, event: CheckpointStaged, out: list[Command]) -> None:
    """Enter a durable but invisible checkpoint, and have it published.

    The trial may have gone on meanwhile: saving is behind the training. Nothing is owed for that, since the worker ends
    no attempt and asks for no way out of one before all that it saves has been told.
    """
    if event.iteration <= trial.saved_at if event.exact else event.attempt <= trial.failure_saved_by:
        state.num_stale += 1
        return
    entry = _entry(event, time_total_s=_time_total_s(trial, event), size=num_bytes(event.manifest))
    entry.manifest = event.manifest
    entry.figures = figures(event.manifest)
    entry.replaces = trial.checkpoints.get(event.iteration) if event.exact else None
    if event.exact:
        trial.saved_at = event.iteration
        if event.iteration >= trial.owes_at:  # Saves come in the order of their rows.
            trial.owes_at = 0
    else:
        trial.failure_saved_by = event.attempt
    trial.enter(entry)
    state.hear(trial)
    state.publish(trial, entry, out)
    state.exposure.measure(event.blocked_s, event.took_s)
    if state.settings.tells_outlook and trial.status is TrialStatus.RUNNING:
        outlook = state.exposure.outlook(state.now)
        out.append(TellOutlook(trial=trial.trial, attempt=trial.attempt, outlook=outlook))


def _entry(event: CheckpointStaged | CheckpointAdopted, *, time_total_s: float, size: int) -> CheckpointState:
    """Return a new checkpoint, on which nobody relies yet."""
    return CheckpointState(
        iteration=event.iteration,
        attempt=event.attempt,
        status=CheckpointStatus.STAGED,
        score=event.score,
        time_total_s=time_total_s,
        num_bytes=size,
        pinned=event.pinned,
        exact=event.exact,
        interim=event.interim,
    )


def _time_total_s(trial: TrialState, event: CheckpointStaged) -> float:
    """Return the seconds of training up to a checkpoint; of a row that others have followed, its manifest tells."""
    last = trial.last
    if last is None or last.iteration == event.iteration:
        return last.time_total_s if last else 0.0
    told = event.manifest.get("time_total_s")
    return float(told) if isinstance(told, int | float) else last.time_total_s


def on_published(state: State, trial: TrialState, event: CheckpointPublished, out: list[Command]) -> None:
    """Rely on the checkpoint from now on, and give up those that it made superfluous."""
    if not _close(state, "publish", event):
        return
    trial.num_staged -= event.exact
    entry = _meant(trial, event, CheckpointStatus.STAGED)
    if entry is not None:
        if entry.replaces is not None and (replaced := valid(entry.replaces)) is not None:
            state.give_up(trial, replaced)
        entry.manifest = entry.replaces = None
        state.rely_on(trial, entry)
        retain(state, trial, out)
    if event.exact:
        _release(state, trial)


def on_publish_failed(state: State, trial: TrialState, event: PublishFailed, out: list[Command]) -> None:
    """Forget the save; the previous checkpoints are as good as before.

    It may have become visible all the same: by a driver that died before it could say so, or halfway. What nobody knows
    of must not stay, so it is deleted. The one of an earlier attempt that it was to replace may be gone. If the trial
    can go on from another one, it is given up, so that retention does not spare it in that one's place; if not, it is
    the only hope.
    """
    if not _close(state, "publish", event):
        return
    trial.num_staged -= event.exact
    entry = _meant(trial, event, CheckpointStatus.STAGED)
    if entry is not None:
        if entry.replaces is not None and len(own(trial.checkpoints)) > 1:
            state.give_up(trial, entry.replaces)
        elif entry.replaces is not None and (hope := valid(entry.replaces)) is not None:
            hope.is_doubted = True
        state.delete(trial, entry, out)
    if event.exact:
        _release(state, trial)


def on_deleted(state: State, trial: TrialState, event: CheckpointDeleted, out: list[Command]) -> None:
    """Forget the checkpoint."""
    if not _close(state, "delete", event):
        return
    entry = _meant(trial, event, CheckpointStatus.DELETING)
    if entry is None:
        return
    beneath = entry.replaces
    if beneath is None:
        trial.forget(entry)
        return
    trial.checkpoints[event.iteration] = beneath
    if beneath.status is CheckpointStatus.DELETING:
        state.delete(trial, beneath, out)
        return
    if state.limit is not None:
        state.limit.offer(state.trials, trial, beneath)
    retain(state, trial, out)


def on_delete_failed(state: State, trial: TrialState, event: DeleteFailed, out: list[Command]) -> None:
    """Leave it DELETING: nobody relies on it, and the next driver tries again."""
    del trial, out
    _close(state, "delete", event)


def on_adopted(state: State, trial: TrialState, event: CheckpointAdopted, out: list[Command]) -> None:
    """Rely on a checkpoint that was found, unless the journal has something to say about its place after all.

    Nothing is given up for it yet: what else is missing may not have been told.
    """
    del out
    end = end_of(trial)
    is_known = trial.checkpoint_of(event) is not None
    is_beyond = event.exact and end is not None and event.iteration > end
    if is_known or is_beyond or trial.status.is_live or not 0 < event.attempt <= trial.attempt:
        state.num_stale += 1
        return
    entry = _entry(event, time_total_s=event.time_total_s, size=event.num_bytes)
    trial.enter(entry)
    state.rely_on(trial, entry)


def on_missing(state: State, trial: TrialState, event: CheckpointMissing, out: list[Command]) -> None:
    """Forget a checkpoint that is not there, or is put aside already."""
    del out
    above: CheckpointState | None = None
    entry = trial.checkpoint_of(event)
    while entry is not None and entry.attempt != event.attempt:
        above, entry = entry, entry.replaces
    if entry is None or entry.iteration != event.iteration or entry.status is not CheckpointStatus.PUBLISHED:
        state.num_stale += 1
        return
    state.give_up(trial, entry)
    if above is not None:
        above.replaces = entry.replaces
    elif entry.replaces is None:
        trial.forget(entry)
    else:
        trial.enter(entry.replaces)


def make_room(state: State, out: list[Command]) -> None:
    """Delete what is too much for the limit of the experiment, or tell the user that what must stay is."""
    limit = state.limit
    if limit is None or limit.num_bytes <= limit.max_bytes:
        return
    while (found := limit.pick(state.trials)) is not None:
        state.delete(*found, out)
    if limit.num_bytes > limit.max_bytes and not limit.is_unmet:
        limit.is_unmet = True
        state.notices.append(
            f"the checkpoints take {limit.num_bytes:,} bytes, more than max_experiment_bytes={limit.max_bytes:,}; "
            "each of them is what its trial goes on from, in use, pinned, or the best of the experiment, so they stay"
        )


def retain(state: State, trial: TrialState, out: list[Command]) -> None:
    """Delete what retention gives up. The checkpoint that a live attempt started from may still be read.

    While a trial may go on, what it would go on from stays: the newest need not be that, since it may be suspect, or
    hold the training of an attempt that began anew.

    A function may begin anew although it was given a checkpoint. What lies beyond its newest row then stays while the
    trial may still need it, but takes no place of what is saved now; a trial that comes to its end before it was never
    there.
    """
    settings = state.settings
    end = end_of(trial)
    if end is None and settings.num_to_keep is None and not trial.has_interim:
        return
    published = [
        entry
        for entry in trial.checkpoints.values()
        if entry.status is CheckpointStatus.PUBLISHED and not entry.damaged
    ]
    if end is not None:
        for entry in published:
            if entry.iteration > end:
                state.delete(trial, entry, out)
            elif entry.iteration == end and settings.saves_at_end:
                entry.interim = False  # The end would have saved it, had that not been done already.
    if settings.num_to_keep is None and not trial.has_interim:
        return
    reached = _reached(trial)
    pinned = {entry.iteration for entry in published if entry.pinned}
    if trial.status.is_live and trial.resume_from is not None:
        pinned.add(trial.resume_from)
    if end is None and (onward := start(trial.checkpoints)) is not None:
        pinned.add(onward.iteration)
    for entry in superfluous(
        (entry for entry in published if reached is None or entry.iteration <= reached),
        num_to_keep=settings.num_to_keep,
        by_score=settings.score_attribute is not None,
        order=settings.score_order,
        pinned=pinned,
        is_over=end is not None and not settings.saves_at_end,
    ):
        state.delete(trial, entry, out)
    trial.has_interim = any(entry.interim for entry in trial.checkpoints.values())


def _reached(trial: TrialState) -> int | None:
    """Return how far the trial has come, as its newest attempt tells; None: as far as any attempt."""
    end, last = end_of(trial), trial.last
    if end is not None or trial.status is TrialStatus.FAILED:
        return end
    return last.iteration if last is not None and last.attempt == trial.attempt else None


def reissue(state: State, trial: TrialState, out: list[Command]) -> None:
    """Issue every open command of a trial again, for a driver that cannot know how far the last one came."""
    trial.num_staged = 0
    for entry in trial.checkpoints.values():
        if entry.status is CheckpointStatus.STAGED:
            state.publish(trial, entry, out)
        elif entry.status is CheckpointStatus.DELETING:
            state.delete(trial, entry, out)
    for entry in trial.failures_saved.values():
        if entry.status is CheckpointStatus.STAGED:
            state.publish(trial, entry, out)
        elif entry.status is CheckpointStatus.DELETING:
            state.delete(trial, entry, out)


StoreAnswer: TypeAlias = CheckpointPublished | PublishFailed | CheckpointDeleted | DeleteFailed


def _close(state: State, call: str, event: StoreAnswer) -> bool:
    """Close the command that the event answers; False for an answer to a question that nobody asks any more."""
    key = (call_name(call, exact=event.exact), event.trial, event.iteration, event.attempt)
    if key not in state.io:
        state.num_stale += 1
        return False
    state.io.remove(key)
    return True


def _meant(trial: TrialState, event: StoreAnswer, expected: CheckpointStatus) -> CheckpointState | None:
    """Return the entry that the command was about, unless a later attempt has taken its place."""
    entry = trial.checkpoint_of(event)
    if entry is None or entry.attempt != event.attempt or entry.status is not expected:
        return None
    return entry if entry.iteration == event.iteration else None


def _release(state: State, trial: TrialState) -> None:
    """Queue a trial that was held back until its checkpoints had been published."""
    state.enqueue(trial)
