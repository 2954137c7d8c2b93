"""The simulator can fail: accounts that add up and put seconds where they do not belong are caught within a few seeds.

Their sums are right, and so are the numbers of losses and what the core has metered: only what the attempts themselves
have written down tells the difference.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs

from tunekit.core import accounts
from tunekit.core.accounts import Accounts
from tunekit.core.books import NO_LOSS, Book, Lease
from tunekit.core.events import ResultReported
from tunekit.core.trial import TrialState
from tunekit.schedulers import ASHA
from tunekit.testing.sim_mutation import Mutants
from tunekit.testing.sim_options import Faults
from tunekit.types import TrialStatus

Patch = pytest.MonkeyPatch
mutant = Mutants()
halting = Mutants(
    faults=Faults(crash=0.3, interrupt=0.1, machine=0.05),
    scheduler=ASHA(max_t=6, grace_period=1, reduction_factor=2),
    logical_slots=2,
    hang_timeout_s=25.0,
    persist_s=8.0,
    save_every=1,
    iterations=6,
    num_trials=4,
    max_failures=-1,
    second_chance=False,
)
"""Where trials wait for each other, and are interrupted and lost while they do, or while they save."""

pruning = Mutants(
    scheduler=ASHA(max_t=5, grace_period=1, reduction_factor=2), iterations=6, num_trials=6, faults=Faults()
)


def with_rows(patch: Patch, change: Callable[[ResultReported], ResultReported]) -> None:
    """Have rows entered as if they had said something else."""
    settle = Book.settle

    def changed(self: Book, lease: Lease) -> None:
        lease.fresh[:] = [change(row) for row in lease.fresh]
        settle(self, lease)

    patch.setattr(Book, "settle", changed)


# -- what is lost ------------------------------------------------------------------------------------------------------


@mutant
def takes_what_is_done_again_for_useful(patch: Patch) -> None:
    def rewind(self: Book, iteration: int) -> None:
        while self.rows and self.rows[-1][0] > iteration:
            self.under(NO_LOSS).useful += self.rows.pop()[1]

    patch.setattr(Book, "rewind", rewind)


@mutant
def takes_the_time_before_a_crash_for_useful(patch: Patch) -> None:
    """And not only that before a halt."""
    close = Book.close

    def lenient(self: Book, lease: Lease, now: int, cause: str | None, blocked_s: float = 0.0) -> None:
        before = self.under(cause).recomputed if cause is not None else 0
        close(self, lease, now, cause, blocked_s)
        if cause is not None:
            self.under(NO_LOSS).useful += self.under(cause).recomputed - before
            self.under(cause).recomputed = before

    patch.setattr(Book, "close", lenient)


@mutant
def blames_the_first_loss_for_all(patch: Patch) -> None:
    lose = Book.lose

    def unfair(self: Book, cause: str, *, is_fatal: bool = False) -> None:
        before = self.cause
        lose(self, cause, is_fatal=is_fatal)
        self.cause = cause if before == NO_LOSS else before

    patch.setattr(Book, "lose", unfair)


@mutant
def blames_nobody(patch: Patch) -> None:
    def rewind(self: Book, iteration: int) -> None:
        while self.rows and self.rows[-1][0] > iteration:
            self.under(NO_LOSS).recomputed += self.rows.pop()[1]

    patch.setattr(Book, "rewind", rewind)


@pruning
def takes_what_is_pruned_for_useful(patch: Patch) -> None:
    patch.setattr(TrialState, "is_pruned", property(lambda self: False))


@pruning
def takes_whoever_was_stopped_for_pruned(patch: Patch) -> None:
    """Also one that had gone as far as any."""
    patch.setattr(TrialState, "is_pruned", property(lambda self: self.status is TrialStatus.STOPPED))


# -- what an attempt does besides training -----------------------------------------------------------------------------


@mutant
def counts_saves_twice(patch: Patch) -> None:
    with_rows(patch, lambda row: structs.replace(row, blocked_s=2 * row.blocked_s))


@mutant
def forgets_the_saves_at_the_end(patch: Patch) -> None:
    close = Book.close
    patch.setattr(Book, "close", lambda self, lease, now, cause, blocked_s=0.0: close(self, lease, now, cause))


@mutant
def takes_loading_for_training(patch: Patch) -> None:
    with_rows(patch, lambda row: structs.replace(row, loaded_s=0.0))


@mutant
def takes_preparation_for_training(patch: Patch) -> None:
    prepare = Book.prepare

    def generous(self: Book, lease: Lease, now: int, took_s: float) -> None:
        account = self.under(self.cause)
        before = account.restoring
        prepare(self, lease, now, took_s)
        account.useful += account.restoring - before
        account.restoring = before

    patch.setattr(Book, "prepare", generous)


@halting
def takes_waiting_for_training(patch: Patch) -> None:
    def wait(self: Book, lease: Lease, now: int) -> None:
        self.settle(lease)
        lease.is_held = False

    patch.setattr(Book, "wait", wait)


@halting
def lets_those_wait_who_are_told_to_stop(patch: Patch) -> None:
    """At their horizon: no answer will come."""
    on_row = Accounts._on_row

    def on_any_row(self: Accounts, event: ResultReported) -> None:
        lease = self._books[event.trial].lease if event.trial in self._books else None
        was_stopping = lease is not None and lease.is_stopping
        if lease is not None:
            lease.is_stopping = False
        on_row(self, event)
        if lease is not None:
            lease.is_stopping = was_stopping

    patch.setitem(accounts._TAKERS, ResultReported, on_any_row)


@pytest.mark.parametrize("name", mutant)
def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By this check, which comes last: all others were content with the same seed."""
    assert "in its accounts, but" in str(mutant.expect_caught(name, monkeypatch))


@pytest.mark.parametrize("name", pruning)
def test_mutants_of_those_that_are_stopped_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "in its accounts, but" in str(pruning.expect_caught(name, monkeypatch))


@pytest.mark.parametrize("name", halting)
def test_mutants_of_those_that_stand_still_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "in its accounts, but" in str(halting.expect_caught(name, monkeypatch))
