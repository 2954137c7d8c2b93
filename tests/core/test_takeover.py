"""A driver after a driver: what it finds, what it takes over, what it issues again."""

from __future__ import annotations

from tunekit.core.commands import (
    AskSearcher,
    EndExperiment,
    LaunchTrial,
    PublishCheckpoint,
)
from tunekit.core.events import Event
from tunekit.testing.events import (
    Script,
    capacity,
    driver,
    halted,
    interrupted,
    launch_failed,
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
    suggested,
)
from tunekit.types import Outcome, TrialStatus

FINISHED = EndExperiment(outcome=Outcome.FINISHED)


def test_a_finished_experiment_ends_at_once(play: Script) -> None:
    play.begin()
    play(returned(0))
    assert play(driver(2, num_trials=1)) == [FINISHED]


def test_asking_for_more_trials_runs_just_the_rest(play: Script) -> None:
    play.begin(num_trials=2)
    play(returned(0), returned(1))
    assert play(driver(2, num_trials=3)) == []
    assert play(capacity(8)) == [AskSearcher(first=2, count=1)]
    assert play(suggested(1)) == [LaunchTrial(trial=2, attempt=1)]


def test_asking_for_fewer_trials_begins_no_other_and_ends_none_that_has_begun(play: Script) -> None:
    play.begin(num_trials=3, max_live=2)
    assert play(driver(2, num_trials=1), capacity(3)) == [LaunchTrial(trial=i, attempt=2) for i in range(2)]
    assert play(returned(0, attempt=2), returned(1, attempt=2)) == [EndExperiment(outcome=Outcome.FINISHED)]
    assert play(driver(3, num_trials=3), capacity(3)) == [LaunchTrial(trial=2, attempt=1)]


def test_fail_fast_remembers_who_failed(play: Script) -> None:
    play.begin(num_trials=2, fail_fast=True)
    play(raised(1))
    assert play.experiment.state.culprit == 1
    play(driver(2, num_trials=2))
    assert play.experiment.state.culprit is None


def test_a_driver_finds_the_workers_of_the_one_before_gone(play: Script) -> None:
    """In each status that a trial can be in; nobody's budget pays (``max_failures`` is 0)."""
    play.begin(num_trials=8, max_live=7)  # 7 is PENDING
    play(started(1), row(1, 1), staged(1, 1), published(1, 1))  # RUNNING with a checkpoint
    play(returned(2), raised(3))  # COMPLETED, FAILED; 7 takes a place: LAUNCHING
    play(interrupted(), halted(4))  # STOPPING; PAUSED
    before = [trial.status for trial in play.experiment.state.trials]
    assert before == ["stopping", "stopping", "completed", "failed", "paused", "stopping", "stopping", "stopping"]
    play(driver(2, num_trials=8))
    assert play(capacity(9)) == [
        LaunchTrial(trial=0, attempt=2),
        LaunchTrial(trial=1, attempt=2, resume_from=1, time_total_s=1.0),
        *[LaunchTrial(trial=i, attempt=2) for i in (4, 5, 6, 7)],
    ]
    assert [trial.num_failures for trial in play.experiment.state.trials] == [0, 0, 0, 1, 0, 0, 0, 0]


def test_a_restart_in_launching_launches_again(play: Script) -> None:
    play.begin()
    assert play(driver(2, num_trials=1), capacity(1)) == [LaunchTrial(trial=0, attempt=2)]


def test_a_restart_while_the_searcher_thinks_asks_again(play: Script) -> None:
    play(driver(num_trials=1), capacity(1))
    assert play(driver(2, num_trials=1), capacity(1)) == [AskSearcher(first=0, count=1)]


def test_a_restart_in_the_middle_of_a_stop_finishes_the_stop(play: Script) -> None:
    play.begin(asks_every_result=True)
    play(row(0, 1, stop="enough"))
    assert play(driver(2, num_trials=1)) == [FINISHED]
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_a_restart_keeps_the_failures_that_were_charged(play: Script) -> None:
    """S003-12."""
    play.begin(max_failures=1)
    play(raised(0), driver(2, num_trials=1, max_failures=1), capacity(1))
    assert play(raised(0, 3)) == [FINISHED]
    assert (play.trial(0).status, play.trial(0).num_failures) == (TrialStatus.FAILED, 2)


def test_failed_trials_stay_failed(play: Script) -> None:
    play.begin()
    play(raised(0))
    assert play(driver(2, num_trials=1, max_failures=5)) == [FINISHED]
    assert play.trial(0).status is TrialStatus.FAILED


def test_resume_errored_goes_on_from_the_newest_checkpoint_with_a_fresh_budget(play: Script) -> None:
    play.begin()
    play(*saved(0, 1), raised(0))
    assert play(driver(2, num_trials=1, resume_errored=True, max_failures=1)) == []
    assert play(capacity(1)) == [LaunchTrial(trial=0, attempt=2, resume_from=1, time_total_s=1.0)]
    assert play(raised(0, 2)) == [LaunchTrial(trial=0, attempt=3, resume_from=1, time_total_s=1.0)]


def test_restart_errored_starts_over_and_removes_what_there_was(play: Script) -> None:
    play.begin(num_trials=2)
    play(*saved(0, 1), *saved(1, 1), raised(0), returned(1))
    begin = play(driver(2, num_trials=2, restart_errored=True))
    assert [(command.trial, command.iteration) for command in begin] == [(0, 1)]  # type: ignore[union-attr]
    assert play(capacity(1)) == [LaunchTrial(trial=0, attempt=2)]
    assert 1 in play.trial(1).checkpoints


def test_late_words_of_an_earlier_driver_are_ignored(play: Script) -> None:
    words: list[Event] = [row(0, 1), staged(0, 1), raised(0), returned(0), halted(0), lost(0)]
    play.begin(max_failures=0)
    play(started(0), driver(2, num_trials=1))
    for event in (*words, launch_failed(0)):
        assert play(event) == []
    assert play(capacity(1)) == [LaunchTrial(trial=0, attempt=2)]
    for event in (*words, restore_failed(0, 1)):
        assert play(event) == []
    assert play.experiment.state.num_stale == 14
    assert play.trial(0).last is None


def test_open_publications_are_issued_again(play: Script) -> None:
    play.begin()
    play(row(0, 1), staged(0, 1), row(0, 2), staged(0, 2), published(0, 1))
    again = PublishCheckpoint(trial=0, attempt=1, iteration=2, manifest={"iteration": 2, "attempt": 1})
    assert play(driver(2, num_trials=1)) == [again]
    assert play(capacity(1)) == []
    assert play(publish_failed(0, 2))[1:] == [LaunchTrial(trial=0, attempt=2, resume_from=1, time_total_s=1.0)]
