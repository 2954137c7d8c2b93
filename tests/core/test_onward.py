"""Whatever retention and limits say, the checkpoint that a trial goes on from stays while it may go on.

The newest need not be that: it may be suspect, or hold the training of an attempt that began anew.
"""

from __future__ import annotations

from typing import Any

import pytest

from tunekit.core.commands import DeleteCheckpoint, LaunchTrial
from tunekit.core.events import ErrorInfo, PublishFailed, ResultReported
from tunekit.core.trial import CheckpointStatus
from tunekit.testing.events import (
    Script,
    capacity,
    driver,
    halted,
    lost,
    preempted,
    published,
    raised,
    row,
    saved,
    staged,
    started,
    timer,
)
from tunekit.types import LossCause, TrialStatus

LOSSES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def learnt(amount: int, iteration: int, attempt: int) -> ResultReported:
    """The row of an attempt that has learnt for so many iterations."""
    return row(0, iteration, attempt, metrics={"loss": LOSSES[amount - 1]})


def begun_anew(**settings: Any) -> Script:
    """A trial that was given its checkpoint 4, began anew, saved 5 and failed for that."""
    play = Script()
    play.begin(num_trials=1, metric="loss", max_failures=0, silent_restart="fail", **settings)
    play(started(0), *[learnt(at, at, 1) for at in range(1, 5)], staged(0, 4, size=4), published(0, 4))
    play(learnt(5, 5, 1), lost(0, 1, LossCause.PREEMPTED), started(0, 2, restored_from=4))
    play(learnt(1, 5, 2), staged(0, 5, 2, size=4), published(0, 5, 2), learnt(2, 6, 2), learnt(3, 7, 2), halted(0, 2))
    assert play.trial(0).status is TrialStatus.FAILED
    return play


def tried_again(play: Script, generation: int, **settings: Any) -> list[tuple[int, int | None]]:
    """Start another driver; return attempts that it launches, and from where."""
    given = {"num_trials": 1, "metric": "loss", "max_failures": 0, "silent_restart": "fail", **settings}
    out = play(driver(generation, resume_errored=True, **given), capacity(1))
    return [(command.attempt, command.resume_from) for command in out if isinstance(command, LaunchTrial)]


@pytest.mark.parametrize("room", [{"num_to_keep": 1}, {"max_experiment_bytes": 6}])
def test_what_a_trial_was_given_outlives_any_number_of_failures_after_one_that_began_anew(room: dict[str, Any]) -> None:
    play = begun_anew(**room)
    assert tried_again(play, 2, **room) == [(3, 4)]
    play(started(0, 3, restored_from=4), raised(0, 3))
    assert tried_again(play, 3, **room) == [(4, 4)]
    play(started(0, 4, restored_from=4), preempted(0, 4))
    assert play.trial(0).resume_from == 4
    play.replay()


def test_it_is_there_after_a_wait() -> None:
    play = begun_anew(max_experiment_bytes=6)
    patience = {"max_experiment_bytes": 6, "max_failures": 3, "backoff_s": 50.0}
    assert tried_again(play, 2, **patience) == [(3, 4)]
    assert not [out for out in play(started(0, 3, restored_from=4), raised(0, 3)) if isinstance(out, DeleteCheckpoint)]
    deadline = play.experiment.next_deadline()
    assert deadline is not None
    assert [out.resume_from for out in play(timer(deadline)) if isinstance(out, LaunchTrial)] == [4]
    play.replay()


def test_what_began_anew_goes_first_when_room_is_short() -> None:
    kept = begun_anew(max_experiment_bytes=6).trial(0).checkpoints
    assert {at: entry.status for at, entry in kept.items()} == {
        4: CheckpointStatus.PUBLISHED,
        5: CheckpointStatus.DELETING,
    }


@pytest.mark.parametrize("room", [{"num_to_keep": 1}, {"max_experiment_bytes": 6}])
def test_the_one_before_a_suspect_one_stays_when_the_trial_fails(room: dict[str, Any]) -> None:
    play = Script()
    play.begin(num_trials=1, max_failures=2, **room)
    play(started(0), row(0, 3), staged(0, 3, size=4), published(0, 3), lost(0, 1, LossCause.PREEMPTED))
    play(started(0, 2, restored_from=3), row(0, 5, 2), staged(0, 5, 2, size=1), published(0, 5, 2), raised(0, 2))
    play(started(0, 3, restored_from=5), raised(0, 3), started(0, 4, restored_from=5), raised(0, 4))
    assert play.trial(0).status is TrialStatus.FAILED
    assert play.trial(0).checkpoints[5].is_suspect
    assert play.trial(0).checkpoints[3].status is CheckpointStatus.PUBLISHED
    assert tried_again(play, 2, max_failures=2, metric=None, silent_restart="warn", **room) == [(5, 3)]
    play.replay()


def test_a_save_in_place_of_the_last_own_checkpoint_that_fails_leaves_it_as_the_only_hope() -> None:
    play = begun_anew()
    tried_again(play, 2)
    error = ErrorInfo(type="OSError", message="no answer")
    play(started(0, 3), *saved(0, 4, 3)[:-1], PublishFailed(trial=0, iteration=4, attempt=3, error=error))
    hope = play.trial(0).checkpoints[4].replaces
    assert hope is not None
    assert (hope.status, hope.is_doubted) == (CheckpointStatus.PUBLISHED, True)
    play.replay()
