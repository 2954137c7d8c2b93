"""Which checkpoints retention keeps, against an oracle that is written differently.

Holds S003-19 (num_to_keep), S003-20 (score attribute), S003-21 (score order).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.checkpoints import superfluous
from tunekit.core.events import CheckpointStaged, Event
from tunekit.core.metrics import score
from tunekit.core.trial import CheckpointState, CheckpointStatus
from tunekit.testing.events import Script, capacity, driver, preempted, returned, saved, started

scores = st.none() | st.floats() | st.integers(-2, 2).map(float)
orders = st.sampled_from(["min", "max"])


def entries(values: Sequence[float | None]) -> list[CheckpointState]:
    return [
        CheckpointState(iteration=i, attempt=1, status=CheckpointStatus.PUBLISHED, score=value)
        for i, value in enumerate(values, start=1)
    ]


def kept(values: Sequence[float | None], keep: int | None, order: str | None, pinned: Sequence[int] = ()) -> set[int]:
    """Return the iterations that stay; without an order, the newest count."""
    gone = superfluous(
        entries(values), num_to_keep=keep, by_score=order is not None, order=order or "max", pinned=pinned
    )
    return set(range(1, len(values) + 1)) - {entry.iteration for entry in gone}


def oracle(values: Sequence[float | None], keep: int, order: str | None, pinned: Sequence[int]) -> set[int]:
    """A checkpoint stays if fewer than ``keep`` are better, or if it is the newest or pinned."""

    def beats(one: int, other: int) -> bool:
        a, b = values[one - 1], values[other - 1]
        if order is not None:
            has_a, has_b = a is not None and not math.isnan(a), b is not None and not math.isnan(b)
            if has_a != has_b:
                return has_a
            if a is not None and b is not None and has_a and a != b:
                return a > b if order == "max" else a < b
        return one > other

    everyone = range(1, len(values) + 1)
    best = {i for i in everyone if sum(beats(other, i) for other in everyone) < keep}
    return best | {len(values)} | (set(pinned) & set(everyone))


@given(st.lists(scores, min_size=1, max_size=9), st.integers(1, 5), st.none() | orders, st.sets(st.integers(1, 9)))
def test_any_checkpoints_are_kept_as_the_oracle_says(
    values: list[float | None], keep: int, order: str | None, pinned: set[int]
) -> None:
    assert kept(values, keep, order, sorted(pinned)) == oracle(values, keep, order, sorted(pinned))


@given(st.lists(scores, max_size=9), st.none() | orders)
def test_without_a_number_all_are_kept(values: list[float | None], order: str | None) -> None:
    assert kept(values, None, order) == set(range(1, len(values) + 1))


@given(st.lists(scores, min_size=1, max_size=9), st.integers(1, 5), orders, st.data())
def test_deleting_at_each_publication_never_loses_what_would_be_kept_at_the_end(
    values: list[float | None], keep: int, order: str, data: st.DataObject
) -> None:
    """Whoever is among the best of all was among the best of those before it; only the newest are kept besides."""
    pinned = data.draw(st.sets(st.integers(1, len(values))))
    there: list[CheckpointState] = []
    for entry in entries(values):
        there.append(entry)
        gone = superfluous(there, num_to_keep=keep, by_score=True, order=order, pinned=pinned)
        there = [other for other in there if other not in gone]
    assert {entry.iteration for entry in there} == kept(values, keep, order, sorted(pinned))


@given(st.lists(st.tuples(scores, st.booleans()), min_size=1, max_size=9), st.none() | st.integers(1, 3), orders)
def test_interim_checkpoints_take_nobodys_place_and_leave_no_trace(
    saves: list[tuple[float | None, bool]], keep: int | None, order: str
) -> None:
    """The newest is always there; what is left at the next regular one is what would be there without them."""
    there: list[CheckpointState] = []
    calm: list[CheckpointState] = []
    for entry, (value, interim) in zip(entries([None] * len(saves)), saves, strict=True):
        entry.score, entry.interim = value, interim
        there.append(entry)
        gone = superfluous(there, num_to_keep=keep, by_score=True, order=order)
        there = [other for other in there if other not in gone]
        if not interim:
            calm.append(entry)
        gone = superfluous(calm, num_to_keep=keep, by_score=True, order=order)
        calm = [other for other in calm if other not in gone]
        assert there == (calm if not interim else [*calm, entry])
    gone = superfluous(there, num_to_keep=keep, by_score=True, order=order, is_over=True)
    assert [other for other in there if other not in gone] == (calm or there), "the only one stays"


@pytest.mark.parametrize("keep", [None, 1, 2])
def test_a_trial_that_left_its_place_keeps_what_it_would_have_kept(keep: int | None) -> None:
    """What it goes on from stays as long as that may still be read."""
    play = Script()
    play.begin(num_to_keep=keep)
    play(*saved(0, 1), *saved(0, 2, interim=True), preempted(0))
    assert left(play) == {1, 2}
    play(started(0, 2, restored_from=2), *saved(0, 3, 2), *saved(0, 4, 2, interim=True), *saved(0, 5, 2))
    regular = {1, 3, 5} if keep is None else {3, 5} if keep == 2 else {5}
    assert left(play) == regular | {2}
    play(returned(0, 2))
    assert left(play) == regular
    play.replay()


@pytest.mark.parametrize(("saves_at_end", "expected"), [(False, {1}), (True, {1, 2})])
def test_the_last_row_is_saved_for_good_only_where_the_end_would_have_saved_it(
    expected: set[int], *, saves_at_end: bool
) -> None:
    play = Script()
    play.begin(num_to_keep=2, saves_at_end=saves_at_end)
    play(*saved(0, 1), *saved(0, 2, interim=True), returned(0))
    assert left(play) == expected


def test_an_interim_checkpoint_at_the_end_counts_as_the_last() -> None:
    play = Script()
    play.begin(num_to_keep=1, saves_at_end=True)
    play(*saved(0, 1), *saved(0, 2, interim=True), returned(0))
    assert left(play) == {2}


def left(play: Script) -> set[int]:
    known = play.trial(0).checkpoints
    return {i for i, entry in known.items() if entry.status is CheckpointStatus.PUBLISHED}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("order", "expected"), [("max", {2, 4, 6}), ("min", {1, 6})])
def test_the_figures_of_the_requirements(order: str, expected: set[int], *, nested: bool) -> None:
    """S003-20, S003-21: .1 .9 .3 .8 NaN .2, two of them kept, by a flat attribute or a nested one."""
    values = [0.1, 0.9, 0.3, 0.8, math.nan, 0.2]
    rows: list[dict[str, Any]] = [{"val": {"acc": value}} if nested else {"val/acc": value} for value in values]
    play = Script()
    play.begin(num_to_keep=2, score_attribute="val/acc", score_order=order)
    for i, metrics in enumerate(rows, start=1):
        play(*saved(0, i, score=score(metrics, "val/acc")))
    known = play.trial(0).checkpoints
    assert {i for i, entry in known.items() if entry.status is CheckpointStatus.PUBLISHED} == expected


@pytest.mark.parametrize("metrics", [{}, {"acc": "high"}, {"acc": None}, {"acc": [1.0]}, {"acc": math.nan}])
@pytest.mark.parametrize("order", ["min", "max"])
def test_what_is_no_number_ranks_last_in_both_orders(metrics: dict[str, Any], order: str) -> None:
    """S003-20."""
    values = [0.5, score(metrics, "acc"), 0.1, score(metrics, "acc")]
    assert kept(values, 2, order) == {1, 3, 4}


@pytest.mark.parametrize("order", ["min", "max"])
def test_equals_go_to_the_newer_one(order: str) -> None:
    """S003-20: rewards that are all alike keep the newest."""
    assert kept([0.5] * 5, 2, order) == {4, 5}
    assert kept([None] * 5, 2, order) == {4, 5}


def test_another_attribute_ranks_what_was_saved_before_it() -> None:
    """S003-20: whoever ranks by something else from now on has the best by that, and none by the old scores."""
    acc, loss = [0.9, 0.1, 0.5, 0.2], [4.0, 1.0, 3.0, 2.0]

    def events(i: int, attempt: int, attribute: str | None) -> list[Event]:
        metrics = {"acc": acc[i - 1], "val": {"loss": loss[i - 1]}, "note": "x"}
        value = None if attribute is None else score(metrics, attribute)
        row, staged, published = saved(0, i, attempt, score=value)
        assert isinstance(staged, CheckpointStaged)
        return [row, msgspec.structs.replace(staged, manifest={**staged.manifest, "metrics": metrics}), published]

    for before in (None, "acc"):
        for attribute, expected in (("val/loss", {2, 4}), ("training_iteration", {1, 4}), ("nowhere", {3, 4})):
            play = Script()
            play.begin(score_attribute=before)
            for i in (1, 2, 3):
                play(*events(i, 1, before))
            play(driver(2, num_to_keep=1, score_attribute=attribute, score_order="min"), capacity(1))
            play(started(0, 2, restored_from=3), *events(4, 2, attribute))
            known = play.trial(0).checkpoints
            left = {i for i, entry in known.items() if entry.status is CheckpointStatus.PUBLISHED}
            assert left - {3} == expected - {3}, (before, attribute)
            play.replay()
