"""The limit in bytes of a whole experiment: who goes, who stays, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.core.commands import Command, DeleteCheckpoint, EndExperiment
from tunekit.core.events import Event
from tunekit.core.experiment import Experiment
from tunekit.core.limit import ByteLimit
from tunekit.core.trial import CheckpointStatus
from tunekit.schedulers import FIFO
from tunekit.testing.events import (
    Script,
    capacity,
    deleted,
    driver,
    halted,
    interrupted,
    lost,
    missing,
    publish_failed,
    published,
    raised,
    restore_failed,
    returned,
    row,
    saved,
    staged,
    started,
    suggested,
)
from tunekit.types import LossCause, Outcome


def gone(commands: list[Command]) -> list[tuple[int, int]]:
    """Return trial and iteration of what is told to go, in this order."""
    return [(c.trial, c.iteration) for c in commands if isinstance(c, DeleteCheckpoint) and c.exact]


def save(play: Script, trial: int, iteration: int, **fields: Any) -> list[tuple[int, int]]:
    """Save 10 bytes, and return what is told to go for it."""
    return gone(play(*saved(trial, iteration, **{"size": 10, **fields})))


def there(play: Script, trial: int = 0) -> set[int]:
    known = play.trial(trial).checkpoints
    return {iteration for iteration, entry in known.items() if entry.status is CheckpointStatus.PUBLISHED}


def limit_of(play: Script) -> ByteLimit:
    limit = play.experiment.state.limit
    assert limit is not None
    return limit


# -- who goes ----------------------------------------------------------------------------------------------------------


def test_what_was_published_first_goes_first_whoseever_it_is(play: Script) -> None:
    play.begin(num_trials=2, max_experiment_bytes=40)
    assert [save(play, *which) for which in ((0, 1), (1, 1), (0, 2), (1, 2))] == [[], [], [], []]
    assert save(play, 1, 3) == [(0, 1)]
    assert save(play, 0, 3) == [(1, 1)]
    assert (there(play, 0), there(play, 1)) == ({2, 3}, {2, 3})


def test_with_scores_the_worst_goes_first_and_those_without_before_it(play: Script) -> None:
    play.begin(num_trials=2, max_experiment_bytes=40, score_attribute="acc")
    save(play, 0, 1, score=0.5)
    save(play, 1, 1, score=0.2)
    save(play, 0, 2)
    save(play, 1, 2, score=0.9)
    assert save(play, 0, 3, score=0.1) == [(0, 2)]
    assert save(play, 1, 3, score=0.1) == [(1, 1)]
    assert save(play, 0, 4, score=0.1) == [(0, 3)]


@pytest.mark.parametrize(("order", "expected"), [("max", {1, 4}), ("min", {2, 4})])
def test_the_best_of_the_experiment_stays(play: Script, order: str, expected: set[int]) -> None:
    play.begin(max_experiment_bytes=20, score_attribute="acc", score_order=order)
    for iteration, score in enumerate((0.9, 0.1, 0.5, 0.5), start=1):
        save(play, 0, iteration, score=score)
    assert there(play) == expected


def test_the_best_of_another_trial_may_go_and_does_when_a_better_one_comes(play: Script) -> None:
    """The best so far was held when there was no room; what held it has ended."""
    play.begin(num_trials=2, max_experiment_bytes=30, score_attribute="acc")
    save(play, 0, 1, score=0.8)
    save(play, 0, 2, score=0.1)
    save(play, 1, 1, score=0.2)
    assert save(play, 0, 3, score=0.3) == [(0, 2)]
    assert save(play, 1, 2, score=0.9) == [(1, 1)]
    assert save(play, 1, 3, score=0.1) == [(0, 1)]


def test_a_trial_keeps_its_only_one_and_its_newest(play: Script) -> None:
    """Promise 4."""
    play.begin(num_trials=3, max_experiment_bytes=10)
    assert [save(play, trial, 1) for trial in range(3)] == [[], [], []]
    assert save(play, 1, 2) == [(1, 1)]
    assert [there(play, trial) for trial in range(3)] == [{1}, {2}, {1}]


def test_pinned_ones_stay(play: Script) -> None:
    play.begin(max_experiment_bytes=10, num_to_keep=1)
    save(play, 0, 1, pinned=True)
    assert save(play, 0, 2) == []
    assert save(play, 0, 3) == [(0, 2)]
    assert there(play) == {1, 3}


def test_one_that_a_live_attempt_started_from_stays_until_that_ends(play: Script) -> None:
    play.begin(max_experiment_bytes=10, max_failures=-1)
    play(started(0), *saved(0, 1, size=10), lost(0), started(0, 2, restored_from=1))
    assert gone(play(*saved(0, 2, 2, size=10))) == []
    assert gone(play(row(0, 3, 2), lost(0, 2))) == [(0, 1)]


def test_failure_checkpoints_go_before_all_others(play: Script) -> None:
    play.begin(max_experiment_bytes=30, max_failures=-1)
    play(started(0), *saved(0, 1, size=10), *saved(0, 2, size=10))
    play(staged(0, 2, size=10, exact=False), raised(0), published(0, 2, exact=False))
    commands = play(*saved(0, 3, 2, size=10))
    assert commands == [DeleteCheckpoint(trial=0, iteration=2, attempt=1, exact=False)]
    play(deleted(0, 2, exact=False))
    assert not play.trial(0).failures_saved


def test_several_small_ones_go_for_a_large_one(play: Script) -> None:
    play.begin(max_experiment_bytes=40)
    for iteration in range(1, 5):
        save(play, 0, iteration)
    assert save(play, 0, 5, size=25) == [(0, 1), (0, 2), (0, 3)]


def test_what_has_no_bytes_makes_no_room(play: Script) -> None:
    """Not even when it was the best, and is no longer."""
    play.begin(max_experiment_bytes=10, score_attribute="acc")
    save(play, 0, 1, size=0, score=0.1)
    save(play, 0, 2, size=10, score=0.1)
    assert save(play, 0, 3, size=10, score=0.1) == [(0, 2)]
    assert there(play) == {1, 3}


# -- when --------------------------------------------------------------------------------------------------------------


def test_nothing_goes_before_the_new_one_is_published(play: Script) -> None:
    """S003-19."""
    play.begin(max_experiment_bytes=10)
    save(play, 0, 1)
    assert gone(play(row(0, 2), staged(0, 2, size=10))) == []
    assert gone(play(publish_failed(0, 2))) == [(0, 2)]
    play(deleted(0, 2))
    assert there(play) == {1}
    assert save(play, 0, 3) == [(0, 1)]


def test_a_replaced_checkpoint_is_counted_once(play: Script) -> None:
    play.begin(max_experiment_bytes=100, max_failures=-1)
    play(started(0), *saved(0, 1, size=10), *saved(0, 2, size=10), lost(0), restore_failed(0, 2, 2))
    assert limit_of(play).num_bytes == 10
    play(started(0, 3, restored_from=1), deleted(0, 2), row(0, 2, 3), staged(0, 2, 3, size=30))
    assert limit_of(play).num_bytes == 10
    play(published(0, 2, 3))
    assert limit_of(play).num_bytes == 40


def test_a_new_driver_deletes_nothing_before_it_has_told_what_is_missing(play: Script) -> None:
    """The newest is gone, so the one before it must not go for it."""
    play.begin()
    play(*saved(0, 1, size=10), *saved(0, 2, size=10))
    assert gone(play(driver(2, num_trials=1, max_experiment_bytes=10))) == []
    assert gone(play(missing(0, 2))) == []
    assert gone(play(capacity(1))) == []
    assert there(play) == {1}


def test_a_limit_that_is_set_later_holds_at_once(play: Script) -> None:
    play.begin()
    play(*saved(0, 1, size=10), *saved(0, 2, size=10), *saved(0, 3, size=10))
    play(driver(2, num_trials=1, max_experiment_bytes=20))
    assert gone(play(capacity(1))) == [(0, 1)]


def test_the_run_ends_when_the_deletions_are_done(play: Script) -> None:
    play.begin(max_experiment_bytes=10)
    save(play, 0, 1)
    play(row(0, 2, final=True), staged(0, 2, size=10), returned(0))
    assert gone(play(published(0, 2))) == [(0, 1)]
    assert play(deleted(0, 1)) == [EndExperiment(outcome=Outcome.FINISHED)]


# -- what cannot be met ------------------------------------------------------------------------------------------------


def test_a_limit_that_cannot_be_met_is_told_once_and_harms_nothing(play: Script) -> None:
    play.begin(num_trials=2, max_experiment_bytes=5)
    save(play, 0, 1)
    save(play, 1, 1)
    assert save(play, 0, 2) == [(0, 1)]
    state = play.experiment.state
    (notice,) = state.notices
    assert "the checkpoints take 10 bytes, more than max_experiment_bytes=5" in notice
    play(returned(0), returned(1))
    assert play(deleted(0, 1)) == [EndExperiment(outcome=Outcome.FINISHED)]
    assert limit_of(play).is_unmet


def test_a_pause_waits_for_the_publication_and_keeps_the_newest(play: Script) -> None:
    play.begin(max_experiment_bytes=10)
    save(play, 0, 1)
    play(interrupted(), row(0, 2), staged(0, 2, size=10), halted(0))
    assert not play.experiment.state.paused
    assert gone(play(published(0, 2))) == [(0, 1)]
    assert list(play.experiment.state.paused) == [0]


# -- any history -------------------------------------------------------------------------------------------------------


def oracle_goes(play: Script, max_bytes: int, order: str) -> list[tuple[int, int]]:
    """Say who must go now, by sorting everything there is."""
    state = play.experiment.state
    entries = [
        (trial, entry)
        for trial in state.trials
        for entry in trial.checkpoints.values()
        if entry.status is CheckpointStatus.PUBLISHED
    ]
    sign = 1 if order == "max" else -1
    scored = [(sign * e.score, e.number, t.trial, e.iteration) for t, e in entries if e.score is not None]
    held = {(t.trial, max(e.iteration for u, e in entries if u is t)) for t, _ in entries}
    held |= {(t.trial, e.iteration) for t, e in entries if e.pinned}
    held |= {(t.trial, t.resume_from) for t, _ in entries if t.status.is_live and t.resume_from is not None}
    held |= {max(scored)[2:]} if scored else set()
    total = sum(e.num_bytes for _, e in entries)
    expected = []
    ranked = sorted(entries, key=lambda pair: (pair[1].score is not None, sign * (pair[1].score or 0), pair[1].number))
    for trial, entry in ranked:
        if total > max_bytes and (trial.trial, entry.iteration) not in held and entry.num_bytes:
            expected.append((trial.trial, entry.iteration))
            total -= entry.num_bytes
    return expected


@given(
    max_bytes=st.integers(1, 60),
    order=st.sampled_from(["min", "max"]),
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 20), st.none() | st.sampled_from([0.0, 0.25, 0.5]), st.booleans()),
        max_size=25,
    ),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_saves_of_any_trials_cost_what_the_oracle_says(
    max_bytes: int, order: str, steps: list[tuple[int, int, float | None, bool]], data: st.DataObject
) -> None:
    play = Script()
    play.begin(num_trials=3, max_experiment_bytes=max_bytes, score_attribute="acc", score_order=order, max_failures=-1)
    without = Script()
    without.begin(num_trials=3, score_attribute="acc", score_order=order, max_failures=-1)
    for trial, size, score, pinned in steps:
        state = play.trial(trial)
        if data.draw(st.integers(0, 4)) == 0:
            play(lost(trial, state.attempt, LossCause.PREEMPTED))
        iteration = max([state.iteration, *state.checkpoints]) + 1
        attempt = state.attempt
        play(row(trial, iteration, attempt), staged(trial, iteration, attempt, score=score, size=size, pinned=pinned))
        entry = state.checkpoints[iteration]
        number = play.experiment.state.num_published + 1
        entry.status, entry.number = CheckpointStatus.PUBLISHED, number
        expected = oracle_goes(play, max_bytes, order)
        entry.status, entry.number = CheckpointStatus.STAGED, 0
        told = gone(play(published(trial, iteration, attempt)))
        assert told == expected
        for index, at in told:
            play(deleted(index, at, play.trial(index).checkpoints[at].attempt))


def test_heaps_do_not_grow_with_what_is_gone(play: Script) -> None:
    play.begin(max_experiment_bytes=10**9, num_to_keep=1, score_attribute="acc")
    for iteration in range(1, 600):
        play(*saved(0, iteration, score=iteration / 1000, size=10))
        play(*(deleted(c.trial, c.iteration) for c in play.history[-1][1] if isinstance(c, DeleteCheckpoint)))
    limit = limit_of(play)
    assert limit.num_counted == 1
    assert len(limit.expendable) < 100
    assert len(limit.best) < 100


class Watched(list[Any]):
    """Trials that count who is looked at, and refuse to be looked through."""

    num_seen = 0

    def __getitem__(self, index: Any) -> Any:
        self.num_seen += 1
        return super().__getitem__(index)

    def __iter__(self) -> Any:
        raise AssertionError("all trials were looked through")


def test_an_event_looks_at_no_other_trial() -> None:
    """O(log n): with ten times as many trials, no more of them are looked at."""
    counts = []
    for num_trials in (20, 200):
        settings = {"num_trials": num_trials, "ask_batch": num_trials, "max_experiment_bytes": 10 * num_trials + 10}
        events: list[Event] = [capacity(num_trials), suggested(num_trials)]
        for trial in range(num_trials):
            events += saved(trial, 1, size=10)
        experiment = Experiment(FIFO())
        experiment.handle(driver(**settings))
        trials = experiment.state.trials = Watched()
        for event in events:
            experiment.handle(event)
        trials.num_seen = 0
        for iteration in range(2, 12):
            for event in saved(iteration, iteration, size=10):
                experiment.handle(event)
        counts.append(trials.num_seen)
    assert counts[1] <= counts[0] + 10


def test_a_run_that_is_over_when_it_begins_deletes_nothing_any_more(play: Script) -> None:
    """Its deadline had passed when the script was run again, with a smaller limit."""
    play.begin(max_experiment_bytes=100)
    for iteration in (1, 2, 3):
        save(play, 0, iteration)
    [end] = play(driver(2, num_trials=1, max_experiment_bytes=10, deadline_s=0.0))
    assert isinstance(end, EndExperiment)
    assert play(capacity(2)) == []
    play(driver(3, num_trials=1, max_experiment_bytes=10))
    assert gone(play(capacity(2))) == [(0, 1), (0, 2)]
