"""What becomes of checkpoints: staged → published → superfluous → deleted.

These events answer commands to the store, or announce new files. They are keyed by (trial, iteration, attempt of the
checkpoint), and so they are valid whatever the trial does meanwhile.
"""

from __future__ import annotations

from typing import TypeAlias

from tunekit.core.checkpoints import superfluous
from tunekit.core.commands import Command
from tunekit.core.events import (
    CheckpointDeleted,
    CheckpointPublished,
    CheckpointStaged,
    DeleteFailed,
    PublishFailed,
)
from tunekit.core.rows import end_of
from tunekit.core.state import State
from tunekit.core.trial import CheckpointState, CheckpointStatus, TrialState
from tunekit.types import TrialStatus


def on_staged(state: State, trial: TrialState, event: CheckpointStaged, out: list[Command]) -> None:
    """Enter a durable but invisible checkpoint, and have it published."""
    if event.iteration <= trial.saved_at:
        state.num_stale += 1
        return
    trial.saved_at = event.iteration
    entry = CheckpointState(
        iteration=event.iteration,
        attempt=event.attempt,
        status=CheckpointStatus.STAGED,
        score=event.score,
        time_total_s=trial.last.time_total_s if trial.last else 0.0,
        manifest=event.manifest,
        replaces=trial.checkpoints.get(event.iteration),
    )
    trial.checkpoints[event.iteration] = entry
    state.publish(trial, entry, out)


def on_published(state: State, trial: TrialState, event: CheckpointPublished, out: list[Command]) -> None:
    """Rely on the checkpoint from now on, and give up those that it made superfluous."""
    if not _close(state, "publish", event):
        return
    trial.num_staged -= 1
    entry = _meant(trial, event, CheckpointStatus.STAGED)
    if entry is not None:
        entry.status = CheckpointStatus.PUBLISHED
        entry.manifest = entry.replaces = None
        retain(state, trial, out)
    _release(state, trial)


def on_publish_failed(state: State, trial: TrialState, event: PublishFailed, out: list[Command]) -> None:
    """Forget the save; the previous checkpoints are as good as before.

    It may have become visible all the same: by a driver that died before it could say so, or halfway. What nobody knows
    of must not stay, so it is deleted; a checkpoint of another attempt is not touched by that.
    """
    if not _close(state, "publish", event):
        return
    trial.num_staged -= 1
    entry = _meant(trial, event, CheckpointStatus.STAGED)
    if entry is not None:
        state.delete(trial, entry, out)
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
        del trial.checkpoints[event.iteration]
        return
    trial.checkpoints[event.iteration] = beneath
    if beneath.status is CheckpointStatus.DELETING:
        state.delete(trial, beneath, out)
    else:
        retain(state, trial, out)


def on_delete_failed(state: State, trial: TrialState, event: DeleteFailed, out: list[Command]) -> None:
    """Leave it DELETING: nobody relies on it, and the next driver tries again."""
    del trial, out
    _close(state, "delete", event)


def retain(state: State, trial: TrialState, out: list[Command]) -> None:
    """Delete what retention gives up. The checkpoint that a live attempt started from may still be read.

    A function may begin anew although it was given a checkpoint. What lies beyond its newest row then stays while the
    trial may still need it, but takes no place of what is saved now; a trial that comes to its end before it was never
    there.
    """
    settings = state.settings
    published = [
        entry
        for entry in trial.checkpoints.values()
        if entry.status is CheckpointStatus.PUBLISHED and not entry.damaged
    ]
    end = end_of(trial)
    if end is not None:
        for entry in published:
            if entry.iteration > end:
                state.delete(trial, entry, out)
    if settings.num_to_keep is None:
        return
    reached = _reached(trial)
    pinned = [trial.resume_from] if trial.status.is_live and trial.resume_from is not None else []
    for entry in superfluous(
        (entry for entry in published if reached is None or entry.iteration <= reached),
        num_to_keep=settings.num_to_keep,
        by_score=settings.score_attribute is not None,
        order=settings.score_order,
        pinned=pinned,
    ):
        state.delete(trial, entry, out)


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


StoreAnswer: TypeAlias = CheckpointPublished | PublishFailed | CheckpointDeleted | DeleteFailed


def _close(state: State, call: str, event: StoreAnswer) -> bool:
    """Close the command that the event answers; False for an answer to a question that nobody asks any more."""
    key = (call, event.trial, event.iteration, event.attempt)
    if key not in state.io:
        state.num_stale += 1
        return False
    state.io.remove(key)
    return True


def _meant(trial: TrialState, event: StoreAnswer, expected: CheckpointStatus) -> CheckpointState | None:
    """Return the entry that the command was about, unless a later attempt has taken its place."""
    entry = trial.checkpoints.get(event.iteration)
    if entry is None or entry.attempt != event.attempt or entry.status is not expected:
        return None
    return entry


def _release(state: State, trial: TrialState) -> None:
    """Queue a trial that was held back until its checkpoints had been published."""
    state.enqueue(trial)
