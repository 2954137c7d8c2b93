"""The simulated world around the core: time, a store, a searcher, and what user code computes.

The trainable is a function of (seed, trial) and of a state that it hands from iteration to iteration and through its
checkpoints. So a trial that was restored from the wrong checkpoint, or twice went through an iteration, shows it in
every metric that follows.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash

from tunekit.core.events import Draw
from tunekit.runtime.driver.clock import Clock
from tunekit.types import TrialId

_MASK = 2**64 - 1


class Timeline:
    """Virtual time: callbacks in the order of their moments, ties in the order of their making."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._made = 0

    def after(self, delay: float, act: Callable[..., object], *args: Any) -> None:
        """Call ``act`` after so many seconds."""
        self._made += 1
        heapq.heappush(self._heap, (self.now + delay, self._made, act, args))

    def step(self) -> bool:
        """Go to the next moment; False if there is none."""
        if not self._heap:
            return False
        self.now, _, act, args = heapq.heappop(self._heap)
        act(*args)
        return True


class SimClock(Clock):
    """Experiment time of one driver: goes on where the journal ended.

    Args:
        timeline: Virtual time.
        start_s: Time of the newest journalled event.
    """

    def __init__(self, timeline: Timeline, start_s: float) -> None:
        """Start to run at once."""
        self._timeline = timeline
        self._start_s = start_s
        self._began = timeline.now

    def now(self) -> float:
        """Return the experiment's time."""
        return self._start_s + (self._timeline.now - self._began)


def first_state(seed: int, trial: TrialId) -> int:
    """Return the state before the first iteration."""
    return (seed * 0x9E3779B97F4A7C15 + trial * 0xBF58476D1CE4E5B9 + 1) & _MASK


def next_state(state: int, iteration: int) -> int:
    """Return the state after one iteration."""
    state = ((state ^ iteration) * 0xD6E8FEB86659FD93 + 0x2545F4914F6CDD1D) & _MASK
    return state ^ (state >> 32)


def size_of(state: int) -> int:
    """Return how many bytes a checkpoint of this state takes."""
    return 1 + state % 9


def metric_of(state: int) -> float:
    """Return what an iteration reports."""
    return state / 2**64


class Oracle:
    """What undisturbed trials compute.

    Args:
        seed: The seed of the simulation.
    """

    def __init__(self, seed: int) -> None:
        """Compute nothing yet."""
        self._seed = seed
        self._states: dict[TrialId, list[int]] = {}

    def state(self, trial: TrialId, iteration: int) -> int:
        """Return the state of an undisturbed trial after this iteration."""
        states = self._states.get(trial)
        if states is None:
            states = self._states[trial] = [first_state(self._seed, trial)]
        while len(states) <= iteration:
            states.append(next_state(states[-1], len(states)))
        return states[iteration]

    def metric(self, trial: TrialId, iteration: int) -> float:
        """Return what an undisturbed trial reports at this iteration."""
        return metric_of(self.state(trial, iteration))


@dataclass(slots=True)
class Visible:
    """A published checkpoint."""

    attempt: int
    state: int
    is_damaged: bool = False


@dataclass(slots=True)
class SimStore:
    """Checkpoints as a store holds them: staged ones, visible ones, and failure ones, which are never replaced."""

    staged: dict[tuple[TrialId, int, int, bool], int] = field(default_factory=dict)
    """By trial, iteration, attempt, and whether they are exact."""
    visible: dict[tuple[TrialId, int], Visible] = field(default_factory=dict)
    """By trial and iteration."""
    failures: dict[tuple[TrialId, int, int], int] = field(default_factory=dict)
    """By trial, iteration and attempt."""

    def publish(self, trial: TrialId, iteration: int, attempt: int, *, exact: bool = True) -> bool:
        """Make a staged checkpoint visible; False if there is nothing to be made visible."""
        if self.is_visible(trial, iteration, attempt, exact=exact):
            return True
        state = self.staged.pop((trial, iteration, attempt, exact), None)
        if state is None:
            return False
        if exact:
            self.visible[trial, iteration] = Visible(attempt, state)
        else:
            self.failures[trial, iteration, attempt] = state
        return True

    def is_visible(self, trial: TrialId, iteration: int, attempt: int, *, exact: bool) -> bool:
        """Return whether this very checkpoint is visible."""
        if not exact:
            return (trial, iteration, attempt) in self.failures
        there = self.visible.get((trial, iteration))
        return there is not None and there.attempt == attempt

    def delete(self, trial: TrialId, iteration: int, attempt: int, *, exact: bool = True) -> None:
        """Remove a visible checkpoint, unless another attempt has replaced it."""
        if self.is_visible(trial, iteration, attempt, exact=exact):
            if exact:
                del self.visible[trial, iteration]
            else:
                del self.failures[trial, iteration, attempt]

    def restore(self, trial: TrialId, iteration: int) -> int | None:
        """Return the state in a checkpoint; None if it is damaged or not there."""
        there = self.visible.get((trial, iteration))
        return None if there is None or there.is_damaged else there.state

    def sweep(self, wanted: set[tuple[TrialId, int, int, bool]]) -> None:
        """Remove what attempts of earlier drivers left in the staging area."""
        self.staged = {key: state for key, state in self.staged.items() if key in wanted}


@dataclass(slots=True)
class SimSearcher:
    """Numbers its suggestions.

    Args:
        num_trials: How many it has.
        coin: True with the given probability.
        failure: Probability that it raises.
        learns: Whether it sometimes waits for a trial to end.
        in_flight: Says whether any trial has not ended.
        heard: What an earlier driver has told it.
        is_steady: Whether its answers depend on what it has heard, and on nothing else.
    """

    num_trials: int
    coin: Callable[[float], bool]
    failure: float
    learns: bool
    in_flight: Callable[[], bool]
    heard: list[str] = field(default_factory=list)
    """What it was told, in order."""
    is_steady: bool = False
    """Whether it answers according to what it has heard, and to nothing else."""

    def ask(self, first: TrialId, count: int) -> tuple[list[Draw], bool]:
        """Suggest configurations; sometimes fewer than wanted, or none for now."""
        if self.coin(self.failure):
            raise ValueError("the optimiser does not converge")
        count = min(count, self.num_trials - first)
        opinion = xxhash.xxh3_64_intdigest("\n".join(self.heard).encode())
        if self.learns and count > 0 and (opinion % 3 == 0 if self.is_steady else self.coin(0.3)):
            is_any = first > len(self.heard) if self.is_steady else self.in_flight()
            count = 0 if is_any else 1
        shown = {"opinion": opinion} if self.is_steady else {}
        draws = [Draw(values={"x": index}, shown={"x": index, **shown}) for index in range(first, first + count)]
        return draws, first + count >= self.num_trials

    def tell(self, trial: TrialId, draw: Draw, metrics: Mapping[str, Any] | None, failed: bool) -> None:  # noqa: FBT001 - a seam
        """Learn that a trial has ended."""
        if draw.values != {"x": trial}:
            raise AssertionError(f"trial {trial} was told with the configuration of another one: {draw}")
        self.heard.append(f"{trial} {metrics} {failed}")
