"""A trial whose last checkpoint cannot be used fails and says what to do; it does not start over unasked."""

from __future__ import annotations

import pytest

from tunekit.core.commands import Command, DeleteCheckpoint, LaunchTrial
from tunekit.core.trial import CheckpointStatus
from tunekit.testing.events import (
    Script,
    capacity,
    deleted,
    driver,
    interrupted,
    lost,
    publish_failed,
    restore_failed,
    row,
    saved,
    staged,
    started,
)
from tunekit.types import LossCause, TrialStatus


@pytest.fixture
def play() -> Script:
    script = Script()
    script.begin(num_trials=1, max_failures=-1, fails_without_checkpoint=True)
    return script


def launches(commands: list[Command]) -> list[int | None]:
    return [command.resume_from for command in commands if isinstance(command, LaunchTrial)]


def test_one_after_the_other_is_put_aside_and_the_last_one_stays(play: Script) -> None:
    """S003-12: somebody may have a copy to put in its place."""
    play(*saved(0, 1), *saved(0, 2), lost(0))
    commands = play(restore_failed(0, 2, 2))
    assert launches(commands) == [1]
    assert DeleteCheckpoint(trial=0, attempt=1, iteration=2, quarantine=True) in commands
    play(deleted(0, 2))
    commands = play(restore_failed(0, 1, 3))
    assert not [command for command in commands if isinstance(command, LaunchTrial | DeleteCheckpoint)]
    trial = play.trial(0)
    assert (trial.status, trial.cause, trial.num_failures) == (TrialStatus.FAILED, LossCause.RESTORE_FAILED, 1)
    assert trial.losses == {"crashed": 1, "restore failed": 2}
    assert trial.error is not None
    assert trial.error.message == "bad; the trial has no other checkpoint to go on from"
    assert "resume_errored=True" in trial.error.hint
    assert "restart_errored=True" in trial.error.hint
    assert trial.checkpoints[1].status is CheckpointStatus.PUBLISHED


@pytest.mark.parametrize(("wish", "start"), [("resume_errored", 1), ("restart_errored", None)])
def test_the_user_says_how_it_goes_on(play: Script, wish: str, start: int | None) -> None:
    play(*saved(0, 1), lost(0), restore_failed(0, 1, 2))
    play(driver(2, num_trials=1, fails_without_checkpoint=True, **{wish: True}))
    assert launches(play(capacity(1))) == [start]


def test_in_a_journal_of_an_earlier_version_it_started_over() -> None:
    play = Script()
    play.begin(num_trials=1, max_failures=-1)
    play(*saved(0, 1), lost(0))
    assert launches(play(restore_failed(0, 1, 2))) == [None]


def test_what_a_replacement_that_failed_has_cost_is_nobodys_loss(play: Script) -> None:
    """The trial had begun anew; its old checkpoint may have gone when the new one was to take its place."""
    play(*saved(0, 1), lost(0), row(0, 1, 2), staged(0, 1, 2), publish_failed(0, 1, 2), lost(0, 2))
    assert launches(play(restore_failed(0, 1, 3))) == [None]


def test_who_never_had_one_starts_over(play: Script) -> None:
    play(started(0), row(0, 1), row(0, 2))
    assert launches(play(lost(0))) == [None]


def test_a_trial_that_is_being_paused_fails_when_it_is_to_go_on(play: Script) -> None:
    play(*saved(0, 1), lost(0), interrupted(), restore_failed(0, 1, 2))
    assert play.trial(0).status is TrialStatus.PENDING
    play(driver(2, num_trials=1, fails_without_checkpoint=True))
    assert launches(play(capacity(1))) == [1]
    play(restore_failed(0, 1, 3))
    assert play.trial(0).status is TrialStatus.FAILED
