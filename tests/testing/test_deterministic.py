"""Deterministic mode in virtual time: no delay, no number of workers, no loss and no death changes its outcome.

The order of things is the production core's; compared are the table, how every trial ended and why, every decision of
the scheduler, every question to the searcher, and what the searcher had heard by then.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resting import Resting, RestingState

from tunekit.core import ordering
from tunekit.core.commands import Command
from tunekit.core.decisions import Decision, Pause, Stop
from tunekit.core.sequencer import Sequencer
from tunekit.core.state import State
from tunekit.errors import InvariantViolationError, TunekitError
from tunekit.schedulers import ASHA
from tunekit.schedulers.asha import ASHAState
from tunekit.testing.sim_options import Faults, SimOptions
from tunekit.testing.sim_pauser import Pauser
from tunekit.testing.simulator import Simulation
from tunekit.types import Mode, StartOver, TrialId, TrialStatus


class Recorded(ASHA):
    """ASHA that writes its decisions down."""

    def begin(self, mode: Mode) -> RecordedState:
        DECISIONS.clear()
        return RecordedState(self, mode)


class RecordedState(ASHAState):
    def decide(self, trial: TrialId, iteration: int, value: float | None) -> Decision:
        decision = super().decide(trial, iteration, value)
        DECISIONS.append((trial, iteration, value, decision))
        return decision


class Pausing(Resting):
    """Stops the worst as well, and writes its decisions down."""

    def begin(self, mode: Mode) -> PausingState:
        DECISIONS.clear()
        return PausingState()


class PausingState(RestingState):
    def decide(self, trial: TrialId, iteration: int, value: float | None) -> Decision:
        decision = super().decide(trial, iteration, value)
        DECISIONS.append((trial, iteration, value, decision))
        return decision

    def judge(self, iteration: int, num_better: int, share: float) -> Decision:
        if share > 0.8 and iteration >= 4:
            return Stop(reason=f"{num_better} were better")
        return super().judge(iteration, num_better, share)


DECISIONS: list[tuple[TrialId, int, float | None, Decision]] = []
"""Those of the newest driver, the replayed ones included."""


WORKERS = (1, 2, 7, 64)
SHUFFLED = Faults(delay=4.0, split=0.3, duplicate=0.2)
STORMY = Faults(
    delay=2.0,
    split=0.3,
    duplicate=0.2,
    crash=0.3,
    zombie=0.1,
    lease=0.1,
    launch=0.1,
    deaf=0.2,
    save=0.1,
    store=0.1,
    damage=0.1,
    driver=0.03,
    interrupt=0.02,
    capacity=0.1,
    raises=0.05,
    hang=0.05,
    notice=0.1,
    machine=0.05,
    unreadable=0.2,
    searcher=0.05,
    bad_machine=0.2,
    anew=0.2,
    start_overs=(StartOver.UNOPENED,),  # The others compute something else.
)
SWEEPS: dict[str, SimOptions] = {
    "asha": SimOptions(num_trials=12, iterations=9, scheduler=Recorded(max_t=9, reduction_factor=2), logical_slots=4),
    "asha_learns": SimOptions(
        num_trials=10, iterations=8, scheduler=Recorded(max_t=7, reduction_factor=2), logical_slots=3, learns=True
    ),
    "fifo_learns": SimOptions(num_trials=10, iterations=4, logical_slots=3, learns=True, counts=False),
    "pauses": SimOptions(num_trials=9, iterations=7, scheduler=Pausing(), logical_slots=3, learns=True),
    "judged": SimOptions(num_trials=6, iterations=5, logical_slots=3, learns=True, judged=True),
}


class World(Simulation):
    """A simulation whose outcome can be compared with that of another seed: its trials compute the same."""

    def __init__(self, seed: int, options: SimOptions) -> None:
        super().__init__(seed, options)
        self._around.seed = 0
        self._review.oracle._seed = 0


def outcome(seed: int, options: SimOptions) -> dict[str, Any]:
    """Run a sweep, and return everything that no misfortune may change.

    A trial whose only checkpoint is damaged starts over: to fail would end the promise, and rightly.
    """
    DECISIONS.clear()
    world = World(seed, replace(options, fails_without_checkpoint=False))
    world.run()
    return {**world.outcome(), "decisions": list(DECISIONS)}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in one if one[name] != other[name]]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("name", SWEEPS)
def test_no_delay_and_no_number_of_workers_changes_anything(name: str, workers: int) -> None:
    reference = outcome(0, SWEEPS[name])
    options = replace(SWEEPS[name], max_live=workers, faults=SHUFFLED)
    for seed in range(1, 11):
        assert not differences(reference, outcome(seed, options)), seed


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("name", SWEEPS)
def test_no_loss_and_no_death_changes_anything(name: str, workers: int) -> None:
    reference = outcome(0, SWEEPS[name])
    options = replace(SWEEPS[name], max_live=workers, hang_timeout_s=25.0, faults=STORMY)
    for seed in range(1, 3):
        assert not differences(reference, outcome(seed, options)), seed


@given(
    seed=st.integers(0, 2**32),
    slots=st.integers(1, 6),
    workers=st.sampled_from(WORKERS),
    crash=st.floats(0, 0.5),
    eta=st.integers(2, 3),
    learns=st.booleans(),
    save_every=st.integers(0, 3),
    persist_s=st.sampled_from((0.0, 3.0)),
)
@settings(max_examples=12, deadline=None)
def test_any_sweep_has_one_outcome(seed: int, slots: int, workers: int, crash: float, eta: int, **how: Any) -> None:
    options = SimOptions(
        num_trials=9, iterations=9, scheduler=Recorded(max_t=9, reduction_factor=eta), logical_slots=slots, **how
    )
    faults = replace(STORMY, crash=crash)
    disturbed = outcome(seed, replace(options, max_live=workers, hang_timeout_s=25.0, faults=faults))
    assert not differences(outcome(0, options), disturbed)


def test_a_searcher_that_fails_changes_nothing() -> None:
    """What is under way is paused, so that nothing ends without those beside it that are asked for by the next run."""
    options = replace(SWEEPS["asha"], ask_batch=1)
    reference = outcome(0, options)
    options = replace(options, faults=Faults(searcher=0.2))
    for seed in range(1, 4):
        assert not differences(reference, outcome(seed, options)), seed


def test_trials_are_paused_and_go_on() -> None:
    """The sweeps above are about something: trials rest, and more than once; each of them comes to its end."""
    found = outcome(0, SWEEPS["pauses"])
    paused = [trial for trial, _, _, decision in found["decisions"] if isinstance(decision, Pause)]
    assert len(paused) > len(set(paused)) > 2
    assert any(isinstance(decision, Stop) for *_, decision in found["decisions"])
    assert {status for _, _, status, _ in found["trials"]} == {TrialStatus.COMPLETED, TrialStatus.STOPPED}


def test_it_makes_a_difference() -> None:
    """Without a logical order, delays alone lead to other decisions."""
    options = replace(SWEEPS["asha"], logical_slots=None, max_live=4)
    reference = outcome(0, options)
    assert any("decisions" in differences(reference, outcome(seed, options)) for seed in range(1, 5))


# -- mutants -----------------------------------------------------------------------------------------------------------


def by_arrival(order: Sequencer) -> TrialId | None:
    """Whatever is known happens, in the order of the seats."""
    order.awaited = None
    trial = next((trial for trial, seat in order.seats.items() if seat.is_known), None)
    if trial is not None:
        order.now = order.seats[trial].due
    return trial


def ties_by_arrival(order: Sequencer) -> TrialId | None:
    """Of what is due at the same time, whatever is known comes first."""
    order.awaited = None
    if not order.seats:
        return None
    bound, _, trial = min((seat.due, not seat.is_known, trial) for trial, seat in order.seats.items())
    order.now = bound
    return trial if order.seats[trial].is_known else None


def counts_what_is_computed_again(
    order: Sequencer, trial: TrialId, iteration: int, *, is_final: bool, value: float | None
) -> None:
    seat = order.seats[trial]
    seat.seen, seat.is_final = seat.seen + 1, is_final
    if seat.until is not None and seat.seen >= seat.until:
        seat.value = value


def asks_before_the_earlier(state: State, order: Sequencer, out: list[Command]) -> bool:
    """Slots are filled as soon as a trial has ended, although its end has not come yet in the order of things."""
    for trial in [trial for trial, seat in order.seats.items() if seat.has_ended]:
        ordering._happen(state, order, state.trials[trial], out)
    return FILL_SLOTS(state, order, out)


FILL_SLOTS = ordering._fill_slots
MUTANTS: dict[str, tuple[object, str, object]] = {
    "by_arrival": (Sequencer, "next", by_arrival),
    "ties_by_arrival": (Sequencer, "next", ties_by_arrival),
    "counts_what_is_computed_again": (Sequencer, "report", counts_what_is_computed_again),
    "asks_before_the_earlier": (ordering, "_fill_slots", asks_before_the_earlier),
    "never_parks": (ordering, "_park", lambda state, order, out: None),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = [SWEEPS["asha_learns"], SWEEPS["fifo_learns"]]
    references = [outcome(0, options) for options in sweeps]
    monkeypatch.setattr(*MUTANTS[name])
    for seed in range(1, 30):
        options = replace(sweeps[seed % 2], max_live=WORKERS[seed % len(WORKERS)], faults=STORMY)
        try:
            if differences(references[seed % 2], outcome(seed, options)):
                return
        except (TunekitError, KeyError, AssertionError):
            return
    raise AssertionError(f"{name} was not caught")


@pytest.mark.parametrize("is_mutant", [False, True], ids=["core", "mutant"])
def test_a_searcher_that_waits_for_paused_trials_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, *, is_mutant: bool
) -> None:
    """Or else a sweep would say that it has finished before all its trials were made."""
    if is_mutant:
        monkeypatch.setattr(Sequencer, "num_open", property(lambda order: len(order.seats)))
    scheduler = Pauser(every=2, share=0.3)
    options = SimOptions(num_trials=6, iterations=6, scheduler=scheduler, learns=True, logical_slots=1)
    with pytest.raises(InvariantViolationError, match="of 6 trials") if is_mutant else nullcontext():
        for seed in range(12):
            Simulation(seed, options).run()


def test_failed_trials_that_are_taken_up_again_meet_their_decisions() -> None:
    """Found by a seed: one that had failed while it was being stopped came past the rung at which it was stopped."""
    options = SimOptions(
        num_trials=6, iterations=6, scheduler=ASHA(max_t=6, reduction_factor=2), logical_slots=3, max_failures=0
    )
    faults = Faults(crash=0.2, raises=0.2, launch=0.1)
    for seed in range(20):
        Simulation(seed, replace(options, second_chance=True, faults=faults)).run()


def test_one_that_failed_before_its_stop_was_decided_trains_no_more() -> None:
    """Found by a seed: it waited at a rung, was preempted once too often, and was stopped there by what came after."""
    Simulation(20995).run()
