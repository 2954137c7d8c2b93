"""The simulator can fail: a core that keeps, deletes or trusts the wrong checkpoints is caught within a few seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from tunekit.core import experiment, launching, ledger, lifecycle, retries
from tunekit.core.checkpoints import superfluous
from tunekit.core.commands import Command, DeleteCheckpoint
from tunekit.core.events import (
    CheckpointStaged,
    PublishFailed,
    RestoreFailed,
    TrialSaving,
)
from tunekit.core.limit import ByteLimit
from tunekit.core.state import State
from tunekit.core.trial import CheckpointState, CheckpointStatus, TrialState
from tunekit.testing.sim_mutation import Mutants
from tunekit.testing.sim_mutation import call_instead as on

Patch = pytest.MonkeyPatch
mutant = Mutants()


# -- checkpoints -------------------------------------------------------------------------------------------------------


@mutant
def deletes_the_newest(patch: Patch) -> None:
    def backwards(published: Any, *, num_to_keep: int | None, **_: Any) -> list[Any]:
        entries = sorted(published, key=lambda entry: entry.iteration)
        return [] if num_to_keep is None else entries[num_to_keep:]

    patch.setattr(ledger, "superfluous", backwards)


@mutant
def deletes_before_the_new_one_is_published(patch: Patch) -> None:
    def on_staged(state: State, trial: TrialState, event: CheckpointStaged, out: list[Command]) -> None:
        ledger.on_staged(state, trial, event, out)
        entry = trial.checkpoints[event.iteration]
        entry.status = CheckpointStatus.PUBLISHED
        ledger.retain(state, trial, out)
        entry.status = CheckpointStatus.STAGED

    on(patch, CheckpointStaged, on_staged)


@mutant
def deletes_what_is_being_restored(patch: Patch) -> None:
    def careless(entries: Any, *, pinned: Any, **how: Any) -> list[Any]:
        found = list(entries)
        return superfluous(found, pinned={entry.iteration for entry in found if entry.pinned}, **how)

    patch.setattr(ledger, "superfluous", careless)


@mutant
def does_not_wait_for_the_publication(patch: Patch) -> None:
    def enqueue(self: State, trial: TrialState) -> None:
        staged, trial.num_staged = trial.num_staged, 0
        original(self, trial)
        trial.num_staged = staged

    original = State.enqueue
    patch.setattr(State, "enqueue", enqueue)
    patch.setattr(ledger, "_release", lambda state, trial: None)
    patch.setattr("tunekit.core.invariants.check", lambda experiment: None)


@mutant
def trusts_a_damaged_checkpoint_for_ever(patch: Patch) -> None:
    on(patch, RestoreFailed, lambda state, trial, event, out: retries.again(state, trial))


@mutant
def does_not_publish_again(patch: Patch) -> None:
    def reissue(state: State, trial: TrialState, out: list[Command]) -> None:
        trial.num_staged = 0

    patch.setattr(ledger, "reissue", reissue)


@mutant
def leaves_a_failed_publication_behind(patch: Patch) -> None:
    def on_publish_failed(state: State, trial: TrialState, event: PublishFailed, out: list[Command]) -> None:
        ledger.on_publish_failed(state, trial, event, out)
        if out and isinstance(out[-1], DeleteCheckpoint):
            state.io.discard(("delete", event.trial, event.iteration, event.attempt))
            del out[-1]
            trial.checkpoints.pop(event.iteration, None)

    patch.setitem(experiment._STORE, PublishFailed, on_publish_failed)


@mutant.shown_by(177)
def does_not_owe_a_last_checkpoint(patch: Patch) -> None:
    patch.setattr(lifecycle, "_owes_save", lambda state, trial: False)


# -- pins, limits, failures and late words -----------------------------------------------------------------------------


@mutant
def drops_a_pin(patch: Patch) -> None:
    def on_staged(state: State, trial: TrialState, event: CheckpointStaged, out: list[Command]) -> None:
        ledger.on_staged(state, trial, structs.replace(event, pinned=False), out)

    on(patch, CheckpointStaged, on_staged)


@mutant
def spares_a_pin_from_the_limit_only(patch: Patch) -> None:
    def unpinned(entries: Any, *, pinned: Any, **how: Any) -> list[Any]:
        found = list(entries)
        users = {entry.iteration for entry in found if entry.pinned}
        return superfluous(found, pinned=set(pinned) - users, **how)

    patch.setattr(ledger, "superfluous", unpinned)


@mutant
def spares_a_pin_from_retention_only(patch: Patch) -> None:
    offer = ByteLimit.offer

    def greedy(self: ByteLimit, trials: Any, trial: TrialState, entry: CheckpointState | None) -> None:
        pinned = entry is not None and entry.pinned
        if entry is not None:
            entry.pinned = False
        offer(self, trials, trial, entry)
        if entry is not None:
            entry.pinned = pinned

    patch.setattr(ByteLimit, "offer", greedy)
    patch.setattr(ByteLimit, "_is_held", holds(ByteLimit._is_held, but=lambda limit, trial, entry: entry.pinned))


@mutant
def takes_the_newest_to_make_room(patch: Patch) -> None:
    def is_newest(limit: ByteLimit, trial: TrialState, entry: CheckpointState) -> bool:
        return limit.mainstays.get(trial.trial) == entry.iteration

    patch.setattr(ByteLimit, "_is_held", holds(ByteLimit._is_held, but=is_newest))


@mutant
def takes_the_best_to_make_room(patch: Patch) -> None:
    def is_best(limit: ByteLimit, trial: TrialState, entry: CheckpointState) -> bool:
        is_newest = limit.mainstays.get(trial.trial) == entry.iteration
        is_used = trial.status.is_live and trial.resume_from == entry.iteration
        return not (is_newest or is_used or entry.pinned)

    patch.setattr(ByteLimit, "_is_held", holds(ByteLimit._is_held, but=is_best))


@mutant
def takes_what_is_in_use_to_make_room(patch: Patch) -> None:
    def is_used(limit: ByteLimit, trial: TrialState, entry: CheckpointState) -> bool:
        is_newest = limit.mainstays.get(trial.trial) == entry.iteration
        return trial.status.is_live and trial.resume_from == entry.iteration and not is_newest

    patch.setattr(ByteLimit, "_is_held", holds(ByteLimit._is_held, but=is_used))


@mutant
def makes_room_before_the_new_one_is_published(patch: Patch) -> None:
    def on_staged(state: State, trial: TrialState, event: CheckpointStaged, out: list[Command]) -> None:
        ledger.on_staged(state, trial, event, out)
        entry = trial.checkpoints.get(event.iteration)
        if entry is not None and entry.status is CheckpointStatus.STAGED and state.limit is not None:
            state.limit._supersede(state.trials, trial, entry)

    on(patch, CheckpointStaged, on_staged)
    patch.setattr("tunekit.core.invariants.check", lambda experiment: None)


@mutant
def forgets_the_limit(patch: Patch) -> None:
    patch.setattr(ledger, "make_room", lambda state, out: None)


@mutant
def never_offers_again(patch: Patch) -> None:
    """What was held when room was needed stays for ever."""
    pushed = set[Any]()
    push = ByteLimit._push

    def once(self: ByteLimit, trials: Any, ranked: Any) -> None:
        if (id(self), ranked) not in pushed:
            pushed.add((id(self), ranked))
            push(self, trials, ranked)

    patch.setattr(ByteLimit, "_push", once)


@mutant
def goes_on_from_a_failure_checkpoint(patch: Patch) -> None:
    launch = launching.launch

    def misled(state: State, trial: TrialState, out: list[Command]) -> None:
        regular = dict(trial.checkpoints)
        for entry in trial.failures_saved.values():
            if entry.status is CheckpointStatus.PUBLISHED and entry.iteration not in regular:
                trial.checkpoints[entry.iteration] = entry
        launch(state, trial, out)
        trial.checkpoints = regular

    patch.setattr(launching, "launch", misled)


@mutant
def keeps_a_failure_checkpoint_among_the_others(patch: Patch) -> None:
    def on_staged(state: State, trial: TrialState, event: CheckpointStaged, out: list[Command]) -> None:
        ledger.on_staged(state, trial, structs.replace(event, exact=True), out)

    on(patch, CheckpointStaged, on_staged)


@mutant
def forgets_failure_checkpoints_at_a_restart(patch: Patch) -> None:
    reissue = ledger.reissue

    def forgetful(state: State, trial: TrialState, out: list[Command]) -> None:
        failures, trial.failures_saved = trial.failures_saved, {}
        reissue(state, trial, out)
        trial.failures_saved = failures

    patch.setattr(ledger, "reissue", forgetful)


@mutant
def ignores_a_save_that_is_finished_late(patch: Patch) -> None:
    def on_staged(state: State, trial: TrialState, event: CheckpointStaged, out: list[Command]) -> None:
        if trial.last is not None and event.iteration == trial.last.iteration:
            ledger.on_staged(state, trial, event, out)

    on(patch, CheckpointStaged, on_staged)


@mutant.shown_by(178)
def takes_a_trial_that_saves_for_stuck(patch: Patch) -> None:
    on(patch, TrialSaving, lambda state, trial, event, out: None)


def holds(is_held: Callable[..., bool], *, but: Callable[..., bool]) -> Callable[..., bool]:
    """Return what holds a checkpoint against the limit, with a hole in it."""

    def leaky(self: ByteLimit, trials: Any, trial: TrialState, entry: CheckpointState) -> bool:
        return not but(self, trial, entry) and is_held(self, trials, trial, entry)

    return leaky


@pytest.mark.parametrize("name", mutant)
def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.expect_caught(name, monkeypatch)
