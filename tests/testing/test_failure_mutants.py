"""The simulator can fail: a core that forgets what the user's rules say of failures is caught within a few seeds."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tunekit.core import failures, launching, lifecycle, retries
from tunekit.core.commands import Command, LaunchTrial
from tunekit.core.events import Rule
from tunekit.core.state import State
from tunekit.core.trial import TrialState
from tunekit.testing.sim_mutation import Mutants
from tunekit.testing.sim_options import Faults
from tunekit.testing.sim_pauser import Pauser
from tunekit.types import TrialStatus

Patch = pytest.MonkeyPatch
mutant = Mutants()
troubled = Mutants(
    faults=Faults(unreadable=0.95, crash=0.4, delay=3.0, driver=0.01),
    save_every=1,
    num_nodes=3,
    rules=(Rule("^crashed|^Simulated", "avoid_node", 3), Rule("^out of memory", "retry", 1)),
    max_failures=3,
    max_preemption_failures=-1,
    second_chance=False,
)
"""Where what is rare elsewhere is the rule."""
rested = Mutants(
    scheduler=Pauser(every=1, share=0.2),
    judged=False,
    faults=Faults(crash=0.4),
    persist_s=2.0,
    save_every=3,
    rules=(),
    max_failures=1,
    time_limit_s=None,
)
"""Where trials die while they are paused."""


# -- rules of the user -------------------------------------------------------------------------------------------------


@mutant
def ignores_rules(patch: Patch) -> None:
    patch.setattr(retries, "ruling", lambda settings, error: None)


@mutant
def charges_what_a_rule_answers_for(patch: Patch) -> None:
    patch.setattr(retries, "is_paid", lambda rule, trial: False)


@mutant
def lets_a_rule_answer_for_ever(patch: Patch) -> None:
    patch.setattr(retries, "is_paid", lambda rule, trial: failures.is_paid(structs.replace(rule, max_times=-1), trial))


@troubled
def counts_all_rules_as_one(patch: Patch) -> None:
    def is_paid(rule: Rule, trial: TrialState) -> bool:
        before = trial.ruled.copy()
        trial.ruled[rule.pattern] = sum(before.values())
        is_paid = failures.is_paid(rule, trial)
        trial.ruled[rule.pattern] = before.get(rule.pattern, 0) + is_paid
        return is_paid

    patch.setattr(retries, "is_paid", is_paid)


@mutant
def takes_the_last_rule_that_fits(patch: Patch) -> None:
    ruling = failures.ruling
    patch.setattr(
        retries, "ruling", lambda settings, error: ruling(structs.replace(settings, rules=settings.rules[::-1]), error)
    )


@mutant
def does_not_give_up(patch: Patch) -> None:
    patch.setattr(retries, "_gives_up", lambda rule: False)


@mutant
def asks_rules_about_lost_machines(patch: Patch) -> None:
    pay = retries.pay

    def eager(state: State, trial: TrialState, cause: Any, out: list[Command]) -> None:
        if failures.is_preemption(cause) and state.settings.rules:
            retries.fail(state, trial, out)
        else:
            pay(state, trial, cause, out)

    patch.setattr("tunekit.core.lifecycle.pay", eager)


@troubled
def waits_for_the_storage_for_ever(patch: Patch) -> None:
    patch.setattr(retries, "MAX_STORAGE_FAULTS", 10**6)


@mutant
def charges_a_storage_that_cannot_be_read(patch: Patch) -> None:
    pay = retries.pay

    def harsh(state: State, trial: TrialState, cause: Any, out: list[Command]) -> None:
        if cause == "storage fault":
            retries.charge(state, trial, out)
        else:
            pay(state, trial, cause, out)

    patch.setattr("tunekit.core.lifecycle.pay", harsh)


# -- nodes to keep away from -------------------------------------------------------------------------------------------


@mutant
def forgets_which_node_to_avoid(patch: Patch) -> None:
    _launch_without(patch, lambda avoid: [])


@mutant
def avoids_the_newest_only(patch: Patch) -> None:
    _launch_without(patch, lambda avoid: avoid[-1:])


@mutant
def avoids_every_node_that_fails(patch: Patch) -> None:
    charge = retries.charge

    def timid(state: State, trial: TrialState, out: list[Command]) -> None:
        if trial.node and trial.node not in trial.avoided:
            trial.avoided.append(trial.node)
        charge(state, trial, out)

    patch.setattr(retries, "charge", timid)
    patch.setattr("tunekit.core.lifecycle.charge", timid)


@troubled
def avoids_the_node_of_an_earlier_attempt(patch: Patch) -> None:
    launch = launching.launch

    def absent(state: State, trial: TrialState, out: list[Command]) -> None:
        node = trial.node
        launch(state, trial, out)
        trial.node = node

    patch.setattr(launching, "launch", absent)


def _launch_without(patch: Patch, what: Any) -> None:
    launch = launching.launch

    def careless(state: State, trial: TrialState, out: list[Command]) -> None:
        launch(state, trial, out)
        command = out[-1]
        assert isinstance(command, LaunchTrial)
        out[-1] = structs.replace(command, avoid=what(command.avoid))

    patch.setattr(launching, "launch", careless)


# -- pauses ------------------------------------------------------------------------------------------------------------


@rested
def spares_whoever_dies_at_a_pause(patch: Patch) -> None:
    patch.setattr(lifecycle, "is_spared", lambda state, trial, may_be_ours: trial.status is TrialStatus.STOPPING)


@rested
def charges_whoever_dies_at_a_pause(patch: Patch) -> None:
    patch.setattr(lifecycle, "is_spared", lambda state, trial, may_be_ours: False)


@pytest.mark.parametrize("name", mutant)
def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.expect_caught(name, monkeypatch)


@pytest.mark.parametrize("name", troubled)
def test_mutants_that_show_in_trouble_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    troubled.expect_caught(name, monkeypatch, max_seeds=60)


@pytest.mark.parametrize("name", rested)
def test_mutants_that_show_at_pauses_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rested.expect_caught(name, monkeypatch, max_seeds=100)
