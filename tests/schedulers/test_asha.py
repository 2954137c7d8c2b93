"""ASHA: its rungs, its rule, and what sweeps under it look like."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.core.decisions import Continue, Decision, Stop
from tunekit.core.policies import Scheduler
from tunekit.core.rng import uniform
from tunekit.errors import ConfigError, ConfigTypeError
from tunekit.schedulers import ASHA
from tunekit.schedulers.asha import ASHAState
from tunekit.testing.scheduler_contract import SchedulerContract
from tunekit.types import Mode


class TestOneBracket(SchedulerContract):
    def scheduler(self) -> Scheduler:
        return ASHA(max_t=27, reduction_factor=3)


class TestBrackets(SchedulerContract):
    def scheduler(self) -> Scheduler:
        return ASHA(max_t=150, grace_period=2, reduction_factor=2, brackets=4)


class TestWithoutRungs(SchedulerContract):
    def scheduler(self) -> Scheduler:
        return ASHA(max_t=5, grace_period=5)


@pytest.mark.parametrize(
    ("asha", "rungs"),
    [
        (ASHA(), (1, 4, 16, 64)),
        (ASHA(max_t=64), (1, 4, 16)),
        (ASHA(max_t=65), (1, 4, 16, 64)),
        (ASHA(max_t=81, grace_period=5, reduction_factor=3), (5, 15, 45)),
        (ASHA(max_t=1), ()),
        (ASHA(max_t=5, grace_period=5), ()),
        (ASHA(max_t=3**40 + 1, reduction_factor=3), tuple(3**k for k in range(41))),
    ],
)
def test_rungs_lie_below_max_t(asha: ASHA, rungs: tuple[int, ...]) -> None:
    """Whole numbers stay exact where a logarithm of floats would lose the last rung."""
    assert asha.rungs == rungs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_t": 0}, ["max_t: got 0"]),
        ({"grace_period": 0}, ["grace_period: got 0"]),
        ({"reduction_factor": 1}, ["reduction_factor: got 1", ">= 2"]),
        ({"brackets": 0}, ["brackets: got 0"]),
        ({"brackets": 6}, ["brackets: got 6", "at most 5", "4 rungs"]),
        ({"grace_period": 101}, ["grace_period: got 101", "at most max_t=100"]),
        ({"time_attr": "time_total_s"}, ["time_attr: got 'time_total_s'", "'training_iteration'"]),
        ({"max_t": 0, "brackets": 0}, ["2 problems", "max_t", "brackets"]),
    ],
)
def test_bad_arguments_are_reported_together(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        ASHA(**arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("value", [4.0, 2.5, True, "4", None])
def test_the_reduction_factor_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ConfigTypeError, match="reduction_factor"):
        ASHA(reduction_factor=value)


def test_a_float_that_is_whole_gets_a_hint() -> None:
    with pytest.raises(ConfigTypeError, match="did you mean reduction_factor=3"):
        ASHA(reduction_factor=3.0)  # type: ignore[arg-type]


def test_it_is_a_frozen_value() -> None:
    asha = ASHA(max_t=50)
    assert asha == ASHA(max_t=50) != ASHA(max_t=51)
    assert pickle.loads(pickle.dumps(asha)) == asha
    assert asha.identity() == {
        "class": "ASHA",
        "time_attr": "training_iteration",
        "max_t": 50,
        "grace_period": 1,
        "reduction_factor": 4,
        "brackets": 1,
    }
    with pytest.raises(AttributeError):
        asha.max_t = 3  # type: ignore[misc]


def _verdicts(state: ASHAState, values: list[float | None], iteration: int = 1) -> str:
    """Let trial 0, 1, … report the values; ``c`` for each that continues and ``s`` for each that is stopped."""
    decisions = [state.decide(trial, iteration, value) for trial, value in enumerate(values)]
    return "".join("c" if isinstance(decision, Continue) else "s" for decision in decisions)


@pytest.mark.parametrize(
    ("mode", "values", "verdicts"),
    [
        # η = 2: the first one passes; with n = 2 and 3 there is one place, with 4 and 5 there are two.
        (Mode.MAX, [0.5, 0.6, 0.55, 0.57, 0.56], "ccscs"),
        (Mode.MIN, [0.5, 0.4, 0.45, 0.43, 0.44], "ccscs"),
        (Mode.MAX, [0.5, 0.4, 0.3, 0.2, 0.1], "cssss"),
        (Mode.MAX, [0.1, 0.2, 0.3, 0.4, 0.5], "ccccc"),
        (Mode.MIN, [0.5, 0.5, 0.5, 0.5], "cccc"),
        (Mode.MAX, [math.nan, 0.5, 0.4, 0.45], "scsc"),
        (Mode.MIN, [None, 0.5, 0.6, 0.55], "scsc"),
        (Mode.MIN, [math.inf, 0.5, -math.inf], "scs"),
        (Mode.MAX, [math.nan, math.nan, math.nan, 0.0], "sssc"),
    ],
)
def test_the_best_of_each_rung_go_on(mode: Mode, values: list[float | None], verdicts: str) -> None:
    assert _verdicts(ASHA(max_t=8, reduction_factor=2).begin(mode), values) == verdicts


def test_the_first_arrivals_pass() -> None:
    state = ASHA(max_t=8, reduction_factor=4).begin(Mode.MAX)
    assert _verdicts(state, [0.9, 0.1, 0.2, 0.3, 0.8, 0.7, 0.6, 0.85]) == "cccssssc"


def test_reasons_say_what_was_compared() -> None:
    state = ASHA(max_t=8, reduction_factor=2).begin(Mode.MAX)
    assert state.decide(0, 1, 0.5) == Continue(until=2, reason="rung 1: fewer than 2 values so far")
    assert state.decide(1, 1, 0.25) == Stop(reason="rung 1: 0.25, where the best 1 of 2 values end at 0.5")
    assert state.decide(2, 1, math.nan) == Stop(reason="rung 1: nan is no finite number")
    assert state.decide(3, 1, 0.75) == Continue(until=2, reason="rung 1: among the best 1/2")
    assert state.decide(0, 8, 0.5) == Stop(reason="max_t 8 reached", early=False)


def test_a_trial_goes_from_rung_to_rung() -> None:
    state = ASHA(max_t=100, grace_period=2, reduction_factor=3).begin(Mode.MIN)
    assert [state.horizon(0, at) for at in (0, 1, 2, 5, 6, 17, 18, 53, 54, 99, 100)] == [
        *(2, 2, 6, 6, 18, 18, 54, 54, 100, 100, 101)
    ]


def test_between_rungs_nothing_is_recorded() -> None:
    """A driver that looks at each result asks between rungs too; that must not count as coming to a rung."""
    state, quiet = (ASHA(max_t=16).begin(Mode.MIN) for _ in range(2))
    for iteration in (2, 3):
        assert isinstance(state.decide(0, iteration, 0.0), Continue)
    values: list[float | None] = [0.4, 0.3, 0.2, 0.1]
    assert _verdicts(state, values, 4) == _verdicts(quiet, values, 4)


def test_a_stopped_trial_that_comes_back_later_stays_stopped() -> None:
    """Its worker died before it heard; the next attempt goes on from the checkpoint that was saved at the rung."""
    state = ASHA(max_t=64, reduction_factor=2).begin(Mode.MAX)
    assert _verdicts(state, [0.9, 0.8], 2) == "cs"
    assert state.horizon(1, 2) == 3
    assert state.decide(1, 3, 5.0) == state.decide(1, 2, 0.8)
    assert isinstance(state.decide(1, 1, 5.0), Continue), "before that rung, it was still running"


def test_brackets_fill_in_the_proportions_of_hyperband() -> None:
    """η = 4, max_t = 64: brackets with 3, 2, 1 and 0 rungs begin with ⌈4·4^s/(s+1)⌉ = 64, 22, 8 and 4 trials."""
    state = ASHA(max_t=64, brackets=4).begin(Mode.MIN)
    count = Counter(state.bracket(trial) for trial in range(9800))
    assert sorted(count) == [0, 1, 2, 3]
    for bracket, size in enumerate((64, 22, 8, 4)):
        assert abs(count[bracket] - 100 * size) < 4 * math.sqrt(100 * size)


def test_a_bracket_leaves_out_the_first_rungs() -> None:
    asha = ASHA(max_t=64, brackets=4)
    state, again = asha.begin(Mode.MIN), asha.begin(Mode.MAX)
    first = {state.bracket(trial): state.horizon(trial, 0) for trial in range(200)}
    assert first == {0: 1, 1: 4, 2: 16, 3: 64}
    assert all(state.bracket(trial) == again.bracket(trial) for trial in range(200))


def test_brackets_do_not_compare_with_each_other() -> None:
    state = ASHA(max_t=64, reduction_factor=2, brackets=2).begin(Mode.MAX)
    one, other = (next(trial for trial in range(99) if state.bracket(trial) == bracket) for bracket in (0, 1))
    assert isinstance(state.decide(one, 2, 0.9), Continue)
    assert isinstance(state.decide(other, 2, 0.1), Continue)


def _sweep(asha: ASHA, mode: Mode, quality: list[float], seed: int) -> dict[int, tuple[int, Decision]]:
    """Run trials whose metric is their quality at every iteration, in random order; return where each one ended."""
    state = asha.begin(mode)
    waiting = {trial: state.horizon(trial, 0) for trial in range(len(quality))}
    ended: dict[int, tuple[int, Decision]] = {}
    turn = 0
    while waiting:
        turn += 1
        trial = sorted(waiting)[int(uniform(seed, turn) * len(waiting))]
        iteration = waiting[trial]
        decision = state.decide(trial, iteration, quality[trial])
        if isinstance(decision, Continue):
            assert decision.until is not None
            waiting[trial] = decision.until
        else:
            ended[trial] = (waiting.pop(trial), decision)
    return ended


@given(
    quality=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30, unique=True),
    eta=st.integers(2, 5),
    max_t=st.integers(1, 200),
    grace=st.integers(1, 10),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_the_best_trial_reaches_the_end(quality: list[float], eta: int, max_t: int, grace: int, seed: int) -> None:
    """Without noise the best trial is among the best of every rung, in either mode and any order."""
    asha = ASHA(max_t=max_t, reduction_factor=eta, grace_period=min(grace, max_t))
    for mode, pick in ((Mode.MAX, max), (Mode.MIN, min)):
        ended = _sweep(asha, mode, quality, seed)
        assert len(ended) == len(quality)
        assert ended[quality.index(pick(quality))][0] == max_t
        assert {iteration for iteration, _ in ended.values()} <= {*asha.rungs, max_t}


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_about_one_in_eta_goes_on(eta: int) -> None:
    """In random order the n-th arrival is among the best ⌊n/η⌋ of n with chance ⌊n/η⌋/n, and the first η - 1 pass."""
    num = 2000
    quality = [uniform(5, trial) for trial in range(num)]
    state = ASHA(max_t=100, reduction_factor=eta).begin(Mode.MIN)
    survivors = _verdicts(state, list(quality)).count("c")
    chances = [Fraction(n // eta, n) if n >= eta else Fraction(1) for n in range(1, num + 1)]
    expected = float(sum(chances))
    spread = math.sqrt(float(sum(chance * (1 - chance) for chance in chances)))
    assert abs(survivors - expected) < 4 * spread
    assert abs(expected - num / eta) < 2 * eta + math.log(num) * eta


def test_a_hundred_thousand_trials_are_decided() -> None:
    """Decisions cost O(log n), so this takes a moment and not minutes."""
    state = ASHA(max_t=100).begin(Mode.MIN)
    verdicts = Counter(type(state.decide(trial, 1, uniform(1, trial))) for trial in range(100_000))
    assert 24_000 < verdicts[Continue] < 26_000
