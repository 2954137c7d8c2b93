"""The simulator can fail: who overlooks that a trial began anew, mixes rows, or keeps what is to go, is caught soon."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tunekit.core import anew, ledger, lifecycle, restarts
from tunekit.core.checkpoints import newest, superfluous
from tunekit.core.commands import Command
from tunekit.core.events import CheckpointStaged, ResultReported, TrialStartedOver
from tunekit.core.rows import RowTable
from tunekit.core.state import State
from tunekit.core.trial import TrialState
from tunekit.testing.sim_mutation import Mutants
from tunekit.testing.sim_mutation import call_instead as on
from tunekit.testing.sim_options import Faults
from tunekit.types import TrialStatus

Patch = pytest.MonkeyPatch
FAULTS = Faults(anew=0.5, crash=0.2, raises=0.05, driver=0.01, interrupt=0.02)
mutant = Mutants(faults=FAULTS, iterations=8, save_every=1, num_to_keep=1, max_failures=3, second_chance=True)
"""Of trials that begin anew."""
mender = Mutants(
    faults=FAULTS,
    iterations=8,
    save_every=1,
    num_to_keep=1,
    max_bytes=12,
    max_failures=0,
    silent_restart="fail",
    second_chance=True,
    fail_fast=False,
)
"""Of trials that go on from what they were given, once somebody has mended their code."""
leaver = Mutants(faults=Faults(notice=0.2, machine=0.1, crash=0.05), iterations=8, max_bytes=None, time_limit_s=None)
"""Of trials whose machines are to go."""


# -- trials that begin anew --------------------------------------------------------------------------------------------


@mutant
def overlooks_the_rows_of_the_beginning(patch: Patch) -> None:
    patch.setattr(anew, "begins_anew", lambda seen, row, resume_from, metric: False)


@mutant
def takes_two_rows_for_a_beginning(patch: Patch) -> None:
    patch.setattr(restarts, "NUM_ROWS", 2)
    patch.setattr(anew, "NUM_ROWS", 2)


@mutant
def does_not_hear_what_the_worker_has_seen(patch: Patch) -> None:
    on(patch, TrialStartedOver, lambda state, trial, event, out: None)


@mutant
def lists_an_attempt_for_each_sign(patch: Patch) -> None:
    patch.setattr(anew, "_note", lambda state, trial, restart: trial.silent_restarts.append(restart))


@mutant
def lets_it_train_on(patch: Patch) -> None:
    def look_back(state: State, trial: TrialState, row: ResultReported) -> bool:
        anew.look_back(state, trial, row)
        return False

    patch.setattr(lifecycle, "look_back", look_back)


@mutant
def forgets_that_it_is_to_fail(patch: Patch) -> None:
    patch.setattr(lifecycle, "is_doomed", lambda state, trial, out: False)


@mutant
def trusts_what_it_has_saved(patch: Patch) -> None:
    def is_doomed(state: State, trial: TrialState, out: list[Command]) -> bool:
        known = {iteration: entry.began_anew for iteration, entry in trial.checkpoints.items()}
        is_one = anew.is_doomed(state, trial, out)
        for iteration, entry in trial.checkpoints.items():
            entry.began_anew = known.get(iteration, entry.began_anew)
        return is_one

    patch.setattr(lifecycle, "is_doomed", is_doomed)


# -- rows --------------------------------------------------------------------------------------------------------------


@mutant
def keeps_the_first_of_two_rows(patch: Patch) -> None:
    add_row = RowTable._add_row

    def stubborn(self: RowTable, row: ResultReported) -> None:
        story = self._live(row.trial, row.attempt)
        before = story.rows.get(row.iteration) if story is not None else None
        add_row(self, row)
        if story is not None and before is not None:
            story.rows[row.iteration] = before

    patch.setattr(RowTable, "_add_row", stubborn)


@mutant
def loses_rows_of_trials_that_failed(patch: Patch) -> None:
    rows = RowTable.rows

    def short(self: RowTable, trial: TrialState) -> list[ResultReported]:
        found = rows(self, trial)
        return found[: trial.resume_from or 0] if trial.status is TrialStatus.FAILED else found

    patch.setattr(RowTable, "rows", short)


# -- machines that are to go -------------------------------------------------------------------------------------------


@leaver
def has_the_save_at_a_notice_take_the_place_of_the_best(patch: Patch) -> None:
    def on_staged(state: State, trial: TrialState, event: CheckpointStaged, out: list[Command]) -> None:
        ledger.on_staged(state, trial, structs.replace(event, interim=False), out)

    on(patch, CheckpointStaged, on_staged)


@leaver
def keeps_the_save_at_a_notice_for_ever(patch: Patch) -> None:
    def hoard(entries: Any, **how: Any) -> list[Any]:
        return [entry for entry in superfluous(entries, **how) if not entry.interim]

    patch.setattr(ledger, "superfluous", hoard)


@leaver
def drops_the_save_at_a_notice_before_it_has_served(patch: Patch) -> None:
    def hasty(entries: Any, **how: Any) -> list[Any]:
        found = list(entries)
        return [entry for entry in found if entry.interim or entry in superfluous(found, **how)]

    patch.setattr(ledger, "superfluous", hasty)


@mender
def keeps_only_the_newest_of_a_trial_that_began_anew(patch: Patch) -> None:
    patch.setattr(ledger, "start", lambda checkpoints: None)


@mender
def takes_what_a_trial_goes_on_from_to_make_room(patch: Patch) -> None:
    patch.setattr("tunekit.core.limit.mainstay", newest)
    patch.setattr("tunekit.core.invariants.mainstay", newest)


@pytest.mark.parametrize("name", mutant)
def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.expect_caught(name, monkeypatch, max_seeds=60)


@pytest.mark.parametrize("name", leaver)
def test_mutants_that_save_at_notices_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leaver.expect_caught(name, monkeypatch, max_seeds=60)


@pytest.mark.parametrize("name", mender)
def test_mutants_that_leave_no_way_back_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mender.expect_caught(name, monkeypatch, max_seeds=100)
