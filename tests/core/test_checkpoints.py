"""What becomes of checkpoints: which are kept, and which commands say so."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.checkpoints import newest, restorable, superfluous
from tunekit.core.commands import Command, DeleteCheckpoint, EndExperiment, LaunchTrial, PublishCheckpoint
from tunekit.core.trial import CheckpointState, CheckpointStatus
from tunekit.testing.events import (
    Script,
    capacity,
    delete_failed,
    deleted,
    driver,
    lost,
    publish_failed,
    published,
    raised,
    restore_failed,
    returned,
    row,
    saved,
    staged,
    started,
)
from tunekit.types import LossCause, Outcome, TrialStatus

FINISHED = EndExperiment(outcome=Outcome.FINISHED)
S003_20 = [0.1, 0.9, 0.3, 0.8, math.nan, 0.2]
"""Scores of iterations 1 to 6."""


def entries(scores: Sequence[float | None]) -> list[CheckpointState]:
    return [
        CheckpointState(iteration=i, attempt=1, status=CheckpointStatus.PUBLISHED, score=score)
        for i, score in enumerate(scores, start=1)
    ]


def kept(
    scores: Sequence[float | None], num_to_keep: int | None, order: str = "", pinned: Sequence[int] = ()
) -> set[int]:
    given_up = superfluous(
        entries(scores), num_to_keep=num_to_keep, by_score=bool(order), order=order or "max", pinned=pinned
    )
    return set(range(1, len(scores) + 1)) - {entry.iteration for entry in given_up}


def delete(trial: int, iteration: int, attempt: int = 1) -> DeleteCheckpoint:
    return DeleteCheckpoint(trial=trial, iteration=iteration, attempt=attempt)


def publish(trial: int, iteration: int, attempt: int = 1) -> PublishCheckpoint:
    manifest = {"iteration": iteration, "attempt": attempt}
    return PublishCheckpoint(trial=trial, iteration=iteration, attempt=attempt, manifest=manifest)


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "num_to_keep", "order", "expected"),
    [
        ([None] * 6, None, "", {1, 2, 3, 4, 5, 6}),
        ([None] * 6, 2, "", {5, 6}),
        ([None] * 6, 1, "", {6}),
        (S003_20, 2, "max", {2, 4, 6}),
        (S003_20, 2, "min", {1, 6}),
        (S003_20, 1, "max", {2, 6}),
        ([0.5, 0.5, 0.5, 0.1], 2, "max", {2, 3, 4}),
        ([0.5, 0.5, 0.5, 0.9], 2, "min", {2, 3, 4}),
        ([math.nan, None, math.nan, None], 2, "max", {3, 4}),
        ([math.nan, 1.0, math.nan], 1, "min", {2, 3}),
        ([], 2, "", set()),
    ],
)
def test_the_best_and_the_newest_are_kept(
    scores: list[float | None], num_to_keep: int | None, order: str, expected: set[int]
) -> None:
    """S003-19, S003-20: NaN ranks last in both orders, equals go to the newer one."""
    assert kept(scores, num_to_keep, order) == expected


def test_what_somebody_needs_is_kept_besides() -> None:
    """S003-19."""
    assert kept([None] * 6, 2, pinned=[1]) == {1, 5, 6}


@given(
    st.lists(st.none() | st.floats(), min_size=1, max_size=8),
    st.integers(1, 4),
    st.sampled_from(["min", "max"]),
    st.booleans(),
)
def test_retention_keeps_enough_and_always_the_newest(
    scores: list[float | None],
    num_to_keep: int,
    order: str,
    by_score: bool,  # noqa: FBT001
) -> None:
    stay = kept(scores, num_to_keep, order if by_score else "")
    assert len(scores) in stay
    assert min(num_to_keep, len(scores)) <= len(stay) <= num_to_keep + 1


def test_only_what_is_whole_and_visible_is_restorable() -> None:
    found = {entry.iteration: entry for entry in entries([None] * 5)}
    found[2].damaged = True
    found[3].status = CheckpointStatus.DELETING
    found[5] = CheckpointState(iteration=5, attempt=2, status=CheckpointStatus.STAGED, manifest={})
    assert [entry.iteration for entry in restorable(found)] == [1, 4]
    assert newest(found) is found[4]
    assert newest({}) is None


def test_while_it_is_being_replaced_the_old_one_is_restorable() -> None:
    [old] = entries([None])
    new = CheckpointState(iteration=1, attempt=2, status=CheckpointStatus.STAGED, manifest={}, replaces=old)
    assert newest({1: new}) is old


# -- events and commands -----------------------------------------------------------------------------------------------


def test_a_staged_checkpoint_is_published(play: Script) -> None:
    play.begin()
    assert play(row(0, 1), staged(0, 1)) == [publish(0, 1)]
    assert play(published(0, 1)) == []
    assert play.trial(0).checkpoints[1].manifest is None


def test_retention_waits_for_the_publication(play: Script) -> None:
    """S003-19: deletion only after the new one is durable."""
    play.begin(num_to_keep=1)
    play(*saved(0, 1))
    assert play(row(0, 2), staged(0, 2)) == [publish(0, 2)]
    assert play(published(0, 2)) == [delete(0, 1)]
    assert play(deleted(0, 1)) == []
    assert list(play.trial(0).checkpoints) == [2]


def test_retention_by_score(play: Script) -> None:
    """S003-20."""
    play.begin(num_to_keep=2, score_attribute="acc", score_order="max")
    commands: list[Command] = []
    for iteration, score in enumerate(S003_20, start=1):
        commands += play(*saved(0, iteration, score=score))
    assert commands == [delete(0, 1), delete(0, 3), delete(0, 5)]


def test_a_publication_that_failed_deletes_nothing_but_itself(play: Script) -> None:
    """It may have become visible all the same, and then nobody would know of it."""
    play.begin(num_to_keep=1, max_failures=1)
    play(*saved(0, 1), row(0, 2), staged(0, 2))
    assert play(publish_failed(0, 2)) == [delete(0, 2)]
    assert play(deleted(0, 2)) == []
    assert play(lost(0)) == [LaunchTrial(trial=0, attempt=2, resume_from=1, time_total_s=1.0)]


def test_a_publication_that_failed_is_deleted_by_the_next_driver_if_this_one_could_not(play: Script) -> None:
    play.begin()
    play(row(0, 1), staged(0, 1), publish_failed(0, 1))
    assert play(driver(2, num_trials=1)) == [delete(0, 1)]
    assert play(capacity(1)) == [LaunchTrial(trial=0, attempt=2)]


def test_the_checkpoint_that_an_attempt_started_from_stays_until_it_ends(play: Script) -> None:
    """S003-19: the one being restored from is never deleted."""
    play.begin(num_to_keep=1, max_failures=1)
    play(*saved(0, 1), lost(0))
    assert play(*saved(0, 2, 2)) == []
    assert play(*saved(0, 3, 2)) == [delete(0, 2, 2)]
    assert play(returned(0, 2)) == [delete(0, 1)]


def test_the_end_comes_after_the_last_deletion(play: Script) -> None:
    play.begin(num_to_keep=1)
    play(*saved(0, 1), *saved(0, 2))
    assert play(returned(0)) == []
    assert play(deleted(0, 1)) == [FINISHED]


def test_a_deletion_that_failed_is_tried_again_by_the_next_driver(play: Script) -> None:
    play.begin(num_to_keep=1)
    play(*saved(0, 1), *saved(0, 2), returned(0))
    assert play(delete_failed(0, 1)) == [FINISHED]
    assert play(driver(2, num_trials=1, num_to_keep=1)) == [delete(0, 1)]
    assert play(deleted(0, 1)) == [FINISHED]


def test_nobody_restores_what_could_not_be_deleted(play: Script) -> None:
    play.begin(num_to_keep=1, max_failures=-1)
    play(*saved(0, 1), *saved(0, 2), delete_failed(0, 1), lost(0))
    assert play(restore_failed(0, 2, 2))[1:] == [LaunchTrial(trial=0, attempt=3)]


def test_an_answer_that_was_given_before_is_ignored(play: Script) -> None:
    play.begin(num_to_keep=1)
    play(*saved(0, 1), *saved(0, 2), deleted(0, 1))
    for event in (
        published(0, 1),
        publish_failed(0, 2),
        published(0, 2),
        deleted(0, 1),
        deleted(0, 2),
        delete_failed(0, 2),
    ):
        assert play(event) == []
    assert play.experiment.state.num_stale == 6
    assert list(play.trial(0).checkpoints) == [2]


def test_news_of_a_checkpoint_that_came_before_is_ignored(play: Script) -> None:
    """Even when that checkpoint has been published, given up and deleted meanwhile."""
    play.begin(num_to_keep=1)
    play(*saved(0, 1), *saved(0, 2), deleted(0, 1))
    assert play(staged(0, 1)) == []
    assert play(staged(0, 2)) == []
    assert play.experiment.state.num_stale == 2


def test_answers_of_the_store_are_heard_whatever_the_trial_does(play: Script) -> None:
    play.begin(max_failures=0)
    play(*saved(0, 1), row(0, 2), staged(0, 2))
    assert play(raised(0)) == []
    assert play(published(0, 2)) == [FINISHED]
    assert play.trial(0).checkpoints[2].status is CheckpointStatus.PUBLISHED


# -- a later attempt reaches the same iteration ------------------------------------------------------------------------


def rewound(play: Script) -> None:
    """Bring trial 0 into attempt 2, which does not look at checkpoint 2 and starts again."""
    play.begin(max_failures=-1)
    play(*saved(0, 1), *saved(0, 2), lost(0), started(0, 2, restored_from=2), row(0, 1, 2))


def test_a_later_attempt_replaces_the_checkpoint_of_an_earlier_one(play: Script) -> None:
    rewound(play)
    assert play(staged(0, 1, 2)) == [publish(0, 1, 2)]
    play(published(0, 1, 2))
    assert play.trial(0).checkpoints[1].attempt == 2


def test_after_a_replacement_that_failed_the_old_one_is_not_relied_on(play: Script) -> None:
    """It may be gone, and retention would spare it in the place of another one."""
    rewound(play)
    assert play(staged(0, 1, 2), publish_failed(0, 1, 2)) == [delete(0, 1, 2)]
    assert [entry.iteration for entry in restorable(play.trial(0).checkpoints)] == [2]
    assert play(deleted(0, 1, 2)) == [delete(0, 1)]
    assert play(deleted(0, 1)) == []
    assert list(play.trial(0).checkpoints) == [2]


def test_after_a_replacement_that_failed_the_old_one_is_the_only_hope(play: Script) -> None:
    play.begin(max_failures=-1)
    play(*saved(0, 1), lost(0), row(0, 1, 2))
    assert play(staged(0, 1, 2), publish_failed(0, 1, 2)) == [delete(0, 1, 2)]
    assert [entry.attempt for entry in restorable(play.trial(0).checkpoints)] == [1]
    assert play(deleted(0, 1, 2)) == []
    assert play.trial(0).checkpoints[1].attempt == 1
    assert play.trial(0).checkpoints[1].status is CheckpointStatus.PUBLISHED


def test_what_lies_beneath_a_replacement_that_failed_may_turn_out_damaged(play: Script) -> None:
    play.begin(max_failures=-1)
    play(*saved(0, 1), lost(0), row(0, 1, 2), staged(0, 1, 2), publish_failed(0, 1, 2), lost(0, 2))
    assert play(restore_failed(0, 1, 3)) == [LaunchTrial(trial=0, attempt=4)]
    quarantine = DeleteCheckpoint(trial=0, attempt=1, iteration=1, quarantine=True)
    assert play(deleted(0, 1, 2)) == [quarantine]
    assert play(deleted(0, 1)) == []
    assert play.trial(0).checkpoints == {}


def test_a_second_replacement_after_one_that_failed(play: Script) -> None:
    play.begin(max_failures=-1)
    play(*saved(0, 1), lost(0), row(0, 1, 2), staged(0, 1, 2), publish_failed(0, 1, 2), lost(0, 2))
    play(row(0, 1, 3), staged(0, 1, 3))
    assert restorable(play.trial(0).checkpoints)[0].attempt == 1
    assert play(deleted(0, 1, 2)) == []
    play(published(0, 1, 3))
    assert restorable(play.trial(0).checkpoints)[0].attempt == 3


def test_a_damaged_one_beneath_a_replacement_that_failed_is_not_forgotten(play: Script) -> None:
    play.begin(max_failures=-1)
    play(*saved(0, 1), lost(0), restore_failed(0, 1, 2), delete_failed(0, 1))
    play(row(0, 1, 3), staged(0, 1, 3), publish_failed(0, 1, 3))
    assert play(deleted(0, 1, 3)) == [DeleteCheckpoint(trial=0, attempt=1, iteration=1, quarantine=True)]
    assert play(deleted(0, 1)) == []
    assert play.trial(0).checkpoints == {}


def test_an_answer_about_an_earlier_attempt_says_nothing_of_the_later_one(play: Script) -> None:
    play.begin(max_failures=-1)
    play(*saved(0, 1), lost(0), restore_failed(0, 1, 2), row(0, 1, 3), staged(0, 1, 3))
    assert play(deleted(0, 1)) == []
    assert play.trial(0).checkpoints[1].status is CheckpointStatus.STAGED
    assert play(published(0, 1, 3)) == []
    assert play.trial(0).checkpoints[1].replaces is None


def test_a_trial_that_began_anew_and_ended_earlier_gives_up_what_lies_beyond_its_end(play: Script) -> None:
    """Its rows end at 1; a checkpoint at 2 without a row would be offered as its newest."""
    rewound(play)
    play(staged(0, 1, 2), published(0, 1, 2))
    assert play(returned(0, 2)) == [delete(0, 2)]
    assert newest(play.trial(0).checkpoints) is play.trial(0).checkpoints[1]
    assert play(deleted(0, 2)) == [FINISHED]
    assert list(play.trial(0).checkpoints) == [1]


def test_what_was_restored_before_a_trial_ended_without_a_row_lies_not_beyond_its_end(play: Script) -> None:
    play.begin(max_failures=-1)
    play(*saved(0, 1), *saved(0, 2), row(0, 3), lost(0), started(0, 2, restored_from=2))
    assert play(returned(0, 2)) == [FINISHED]


def test_a_failed_trial_keeps_what_an_earlier_attempt_came_to(play: Script) -> None:
    """As it keeps the rows: it may go on from there one day."""
    rewound(play)
    assert play(raised(0, 2, retryable=False)) == [FINISHED]
    assert list(play.trial(0).checkpoints) == [1, 2]


def test_what_lies_beyond_takes_no_place_of_what_is_saved_now(play: Script) -> None:
    play.begin(max_failures=-1, num_to_keep=1)
    play(*saved(0, 3), lost(0), started(0, 2, restored_from=3))
    assert play(*saved(0, 1, 2)) == []
    assert play(*saved(0, 2, 2)) == [delete(0, 1, 2)]
    assert play(returned(0, 2)) == [delete(0, 3)]


def test_what_comes_back_from_beneath_a_replacement_that_failed_may_lie_beyond_the_end(play: Script) -> None:
    play.begin(max_failures=-1)
    play(*saved(0, 1), *saved(0, 2), lost(0), row(0, 1, 2), row(0, 2, 2), staged(0, 2, 2))
    play(publish_failed(0, 2, 2), lost(0, 2), row(0, 1, 3), returned(0, 3))
    assert play(deleted(0, 2, 2)) == [delete(0, 2)]
    assert play(deleted(0, 2)) == [FINISHED]


def test_restart_errored_gives_up_what_lies_beneath_a_replacement(play: Script) -> None:
    """The one that was to replace it may never have become visible; then the old one still is."""
    rewound(play)
    play(staged(0, 1, 2), raised(0, 2, retryable=False))
    assert play.trial(0).status is TrialStatus.FAILED
    assert play(driver(2, num_trials=1, restart_errored=True)) == [delete(0, 1, 2), delete(0, 2)]
    assert play(deleted(0, 2)) == []
    assert play(deleted(0, 1, 2)) == [delete(0, 1)]
    assert play(deleted(0, 1)) == []
    assert play.trial(0).checkpoints == {}


def test_an_attempt_may_overtake_the_deletion_of_what_it_replaces(play: Script) -> None:
    play.begin()
    play(*saved(0, 1), raised(0))
    play(driver(2, num_trials=1, restart_errored=True), capacity(1), row(0, 1, 2))
    assert play(staged(0, 1, 2)) == [publish(0, 1, 2)]
    assert play(deleted(0, 1)) == []
    assert play(published(0, 1, 2), lost(0, 2, LossCause.PREEMPTED)) == [
        LaunchTrial(trial=0, attempt=3, resume_from=1, time_total_s=1.0)
    ]
