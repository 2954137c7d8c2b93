"""What every scheduler must hold, ours or a user's.

Subclass ``SchedulerContract`` in a test file, say which scheduler, and pytest runs the suite::

    class TestMine(SchedulerContract):
        def scheduler(self) -> Scheduler:
            return Mine(max_t=27)
"""

# ruff: noqa: S101 - a test suite asserts

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tunekit.core.decisions import Continue, Decision
from tunekit.core.policies import Scheduler, SchedulerState
from tunekit.core.rng import uniform
from tunekit.types import Mode, TrialId


class Asked(NamedTuple):
    """One question to a scheduler and its answer."""

    trial: TrialId
    iteration: int
    value: float | None
    decision: Decision


Visit = Callable[[SchedulerState, Asked], None]
"""Called after each answer, to disturb the sweep in a way that must not matter."""


def play(
    state: SchedulerState,
    seed: int,
    *,
    num_trials: int = 40,
    last_iteration: int = 200,
    bad_share: float = 0.1,
    visit: Visit | None = None,
) -> list[Asked]:
    """Run an imaginary sweep, in which trials come to their horizons in random order, and return all that was asked.

    Args:
        state: A scheduler at work; it is changed.
        seed: Fixes the order and the values.
        num_trials: How many trials take part.
        last_iteration: Where trials end by themselves.
        bad_share: Which share of the values is NaN or missing.
        visit: Called after each answer.
    """
    return list(_play(state, seed, num_trials, last_iteration, bad_share, visit))


def _play(
    state: SchedulerState, seed: int, num_trials: int, last_iteration: int, bad_share: float, visit: Visit | None
) -> Iterator[Asked]:
    waiting = {trial: state.horizon(trial, 0) for trial in range(num_trials)}
    for turn in range(num_trials * last_iteration):
        trials = [trial for trial, until in waiting.items() if until is not None and until <= last_iteration]
        if not trials:
            return
        trial = trials[int(uniform(seed, "order", turn) * len(trials))]
        iteration = waiting[trial] or 0
        value = _value(seed, trial, iteration, bad_share)
        asked = Asked(trial, iteration, value, state.decide(trial, iteration, value))
        yield asked
        if visit is not None:
            visit(state, asked)
        waiting[trial] = asked.decision.until if isinstance(asked.decision, Continue) else None


def _value(seed: int, trial: TrialId, iteration: int, bad_share: float) -> float | None:
    if uniform(seed, "bad", trial, iteration) < bad_share:
        return math.nan if trial % 2 else None
    return uniform(seed, "value", trial, iteration)


def _plain(asked: list[Asked]) -> list[tuple[TrialId, int, Decision]]:
    return [(trial, iteration, decision) for trial, iteration, _, decision in asked]  # NaN does not equal itself


class SchedulerContract:
    """Each test runs in both modes and on several imaginary sweeps."""

    num_sweeps = 5
    """How many sweeps each test plays."""

    def scheduler(self) -> Scheduler:
        """Return the scheduler under test."""
        raise NotImplementedError

    def _sweeps(self) -> Iterator[tuple[SchedulerState, SchedulerState, int]]:
        for mode in Mode:
            for seed in range(self.num_sweeps):
                yield self.scheduler().begin(mode), self.scheduler().begin(mode), seed

    def test_identity_is_json_and_names_the_class(self) -> None:
        """An experiment remembers who decided, and notices when that changes."""
        scheduler = self.scheduler()
        identity = scheduler.identity()
        assert json.loads(json.dumps(identity, allow_nan=False)) == identity
        assert identity["class"] == type(scheduler).__name__
        assert identity == self.scheduler().identity()

    def test_each_beginning_is_fresh(self) -> None:
        """One description can serve two experiments that know nothing of each other."""
        for mode in Mode:
            scheduler = self.scheduler()
            first = play(scheduler.begin(mode), 1)
            play(scheduler.begin(mode), 2)
            assert _plain(play(scheduler.begin(mode), 1)) == _plain(first)

    def test_replay_gives_the_same_decisions(self) -> None:
        """The same questions in the same order are answered alike, so a journal rebuilds the scheduler."""
        for state, other, seed in self._sweeps():
            for trial, iteration, value, decision in play(state, seed):
                assert other.decide(trial, iteration, value) == decision

    def test_horizons_lie_ahead(self) -> None:
        """A trial that was just asked does not wait at the same place, whatever was decided."""

        def visit(state: SchedulerState, asked: Asked) -> None:
            for iteration in (0, asked.iteration - 1, asked.iteration, asked.iteration + 1, 10**6):
                until = state.horizon(asked.trial, iteration)
                assert until is None or until > iteration
            if isinstance(asked.decision, Continue) and asked.decision.until is not None:
                assert asked.decision.until > asked.iteration

        for state, _, seed in self._sweeps():
            play(state, seed, visit=visit)

    def test_asking_for_a_horizon_changes_nothing(self) -> None:
        """The core may ask for it at any time, for any trial."""

        def visit(state: SchedulerState, asked: Asked) -> None:
            for trial in (asked.trial, asked.trial + 1, 10**6):
                assert state.horizon(trial, asked.iteration) == state.horizon(trial, asked.iteration)

        for state, quiet, seed in self._sweeps():
            assert _plain(play(state, seed, visit=visit)) == _plain(play(quiet, seed))

    def test_a_decision_stands(self) -> None:
        """A later attempt of a trial is given the first answer, whatever it reports, and it does not count twice."""

        def visit(state: SchedulerState, asked: Asked) -> None:
            for value in (asked.value, -1.0, 2.0, math.nan, None):
                assert state.decide(asked.trial, asked.iteration, value) == asked.decision

        for state, quiet, seed in self._sweeps():
            asked = play(state, seed, visit=visit)
            assert _plain(asked) == _plain(play(quiet, seed))
            for trial, iteration, _, decision in asked:
                assert state.decide(trial, iteration, 0.5) == decision

    def test_a_trial_stays_ended(self) -> None:
        """A trial that goes on from a later checkpoint does not slip past the decision that ended it."""
        for state, _, seed in self._sweeps():
            for trial, iteration, _, decision in play(state, seed):
                if not isinstance(decision, Continue):
                    until = state.horizon(trial, iteration)
                    assert until is not None
                    assert state.decide(trial, until, 0.5) == decision

    def test_every_decision_has_a_reason(self) -> None:
        """A reason is one line of text."""
        for state, _, seed in self._sweeps():
            for asked in play(state, seed):
                assert asked.decision.reason.strip()
                assert "\n" not in asked.decision.reason

    def test_what_is_no_number_never_goes_on(self) -> None:
        """S003-20, of trials: NaN and missing values rank last in both modes."""
        if not self.scheduler().needs_metric:
            return
        for state, _, seed in self._sweeps():
            play(state, seed, bad_share=0.0)
            for trial, value in ((1000, math.nan), (1001, None)):
                until = state.horizon(trial, 0)
                assert until is not None
                assert not isinstance(state.decide(trial, until, value), Continue)
