"""A trial that says nothing for too long is killed and tried again; one that has run for long enough is stopped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.alarms import LISTEN_S, Alarms
from tunekit.core.commands import Command, ContinueTrial, InterruptTrial, KillTrial, LaunchTrial, StopTrial
from tunekit.core.decisions import Decision, Pause
from tunekit.schedulers import ASHA
from tunekit.testing.events import (
    Script,
    assigned,
    driver,
    halted,
    interrupted,
    lost,
    published,
    raised,
    row,
    save_failed,
    saved,
    saving,
    staged,
    started,
    timer,
)
from tunekit.types import LossCause, TrialStatus

KILL = KillTrial(trial=0, attempt=1)


def at(event: Any, moment: float) -> Any:
    return type(event)(**{**{name: getattr(event, name) for name in event.__struct_fields__}, "at": moment})


def listen(play: Script) -> list[Command]:
    """Ring at the deadline, and again when the trial had time to be heard."""
    first = play.experiment.next_deadline()
    assert first is not None
    assert play(timer(first)) == []
    second = play.experiment.next_deadline()
    assert second is not None
    assert 0 < second - first <= LISTEN_S
    return play(timer(second))


def test_silence_from_the_start_of_user_code_is_a_hang(play: Script) -> None:
    play.begin(hang_timeout_s=10.0, max_failures=1)
    assert play.experiment.next_deadline() is None, "it is queued, as far as anybody knows"
    play(at(started(0), 3.0))
    assert play.experiment.next_deadline() == 13.0
    assert listen(play) == [KILL]
    assert play.experiment.next_deadline() is None
    assert play(lost(0, cause=LossCause.KILLED)) == [LaunchTrial(trial=0, attempt=2)]
    error = play.trial(0).error
    assert error is not None
    assert (error.type, error.message) == ("hung", "no report within hang_timeout_s=10")
    assert play.trial(0).num_failures == 1
    play.replay()


def test_silence_before_user_code_is_a_hang_too(play: Script) -> None:
    """Loading the trainable, or what it imports, hangs; a wait for a worker does not count."""
    play.begin(hang_timeout_s=10.0, max_failures=1)
    play(at(assigned(0, node="n"), 100.0))
    assert play.experiment.next_deadline() == 110.0
    assert listen(play) == [KILL]
    assert play.experiment.next_deadline() is None
    assert play(lost(0, cause=LossCause.KILLED)) == [LaunchTrial(trial=0, attempt=2)]
    trial = play.trial(0)
    assert trial.error is not None
    assert (trial.error.type, trial.error.message) == ("hung", "not begun within hang_timeout_s=10")
    assert (trial.losses, trial.num_failures) == ({"hung": 1}, 1)
    assert play.experiment.next_deadline() is None, "the next attempt waits for a worker again"
    play.replay()


def test_whose_worker_left_before_it_began_is_not_listened_for(play: Script) -> None:
    """S003-10, promise 6: the next machine may be minutes away."""
    play.begin(hang_timeout_s=10.0, max_failures=0)
    play(assigned(0))
    assert play(lost(0, cause=LossCause.NOT_STARTED)) == [LaunchTrial(trial=0, attempt=2)]
    assert (play.trial(0).num_failures, play.experiment.next_deadline()) == (0, None)


def test_a_checkpoint_that_is_read_for_long_is_no_hang(play: Script) -> None:
    play.begin(hang_timeout_s=6.0)
    play(assigned(0))
    for moment in range(2, 100, 2):
        assert play(at(saving(0), float(moment))) == []
    play(at(started(0, restored_from=1), 99.0))
    assert play.experiment.next_deadline() == 105.0


def test_one_that_begins_after_all_is_left_alone(play: Script) -> None:
    play.begin(hang_timeout_s=10.0)
    play(assigned(0), timer(10.0))
    assert play.trial(0).suspected_at == 10.0
    play(at(started(0), 11.0))
    assert (play.trial(0).suspected_at, play.experiment.next_deadline()) == (None, 21.0)


def test_one_that_is_told_to_stop_before_it_begins_gets_its_grace(play: Script) -> None:
    play.begin(hang_timeout_s=10.0, stop_grace_s=50.0)
    play(assigned(0), at(interrupted(), 5.0))
    assert play.experiment.next_deadline() == 55.0


def test_each_row_begins_the_wait_anew(play: Script) -> None:
    play.begin(hang_timeout_s=10.0)
    play(at(started(0), 0.0), at(row(0, 1), 9.0))
    assert play.experiment.next_deadline() == 19.0
    assert play(timer(10.5)) == [], "a bell that was set before the row"
    play(at(row(0, 2), 18.0))
    assert play.experiment.next_deadline() == 28.0
    assert listen(play) == [KILL]


def test_a_word_after_the_first_look_saves_it(play: Script) -> None:
    """A driver that was stopped itself finds everybody silent, and their words at its door."""
    play.begin(hang_timeout_s=10.0)
    play(started(0), timer(500.0))
    assert play.experiment.next_deadline() == 500.0 + LISTEN_S
    play(at(row(0, 1), 500.5))
    assert play.experiment.next_deadline() == 510.5
    assert listen(play) == [KILL]


def test_what_is_said_while_it_is_being_killed_still_counts(play: Script) -> None:
    play.begin(hang_timeout_s=1.0, max_failures=1)
    play(started(0))
    assert listen(play) == [KILL]
    play(row(0, 1), staged(0, 1))
    assert play.experiment.next_deadline() is None, "it is not killed twice"
    play(published(0, 1))
    assert play(lost(0, cause=LossCause.KILLED)) == [LaunchTrial(trial=0, attempt=2, resume_from=1, time_total_s=1.0)]


def test_one_that_ends_before_it_is_killed_has_ended(play: Script) -> None:
    play.begin(hang_timeout_s=1.0, max_failures=1)
    play(started(0))
    assert listen(play) == [KILL]
    play(raised(0))
    trial = play.trial(0)
    assert trial.error is not None
    assert trial.error.type == "ValueError"
    play(lost(0, cause=LossCause.KILLED))
    assert (trial.num_failures, trial.attempt, trial.is_hung) == (1, 2, False)


def test_it_goes_on_from_its_newest_checkpoint(play: Script) -> None:
    play.begin(hang_timeout_s=5.0, max_failures=-1)
    play(started(0), *saved(0, 3))
    assert listen(play) == [KILL]
    play(lost(0, cause=LossCause.KILLED))
    assert play.history[-1][1] == [LaunchTrial(trial=0, attempt=2, resume_from=3, time_total_s=3.0)]


def test_a_save_that_is_under_way_is_no_hang(play: Script) -> None:
    """The worker says so, for as long as the trial waits for it."""
    play.begin(hang_timeout_s=6.0)
    play(started(0), at(row(0, 1, saves=True), 1.0))
    for moment in range(3, 103, 2):
        assert play(at(saving(0), float(moment))) == []
    assert play.experiment.next_deadline() == 101.0 + 6.0
    play(at(staged(0, 1), 102.0))
    assert play.experiment.next_deadline() == 108.0, "it is back to its steps"
    play(at(row(0, 2, saves=True), 105.0), at(save_failed(0, 2), 106.0))
    assert play.experiment.next_deadline() == 112.0


def test_to_owe_a_save_excuses_no_silence(play: Script) -> None:
    """S003-12: a process that is stopped with a save in flight is found like any other."""
    play.begin(hang_timeout_s=5.0)
    play(started(0), at(row(0, 1, saves=True), 1.0))
    assert play.experiment.next_deadline() == 6.0
    assert listen(play) == [KILL]


class Pauses:
    """Pauses each trial at its first row."""

    needs_metric = False

    def begin(self, mode: object) -> Pauses:
        return self

    def identity(self) -> dict[str, object]:
        return {}

    def horizon(self, trial: int, iteration: int) -> int | None:
        return iteration + 1

    def decide(self, trial: int, iteration: int, value: float | None) -> Decision:
        return Pause(reason="others first")


def test_who_is_paused_or_queued_or_stopping_is_not_hung() -> None:
    play = Script(Pauses())
    play.begin(num_trials=2, max_live=1, hang_timeout_s=5.0, stop_grace_s=50.0)
    play(started(0), row(0, 1))
    assert play.experiment.next_deadline() == 50.0, "it was told to pause, and has a grace of its own"
    assert play(halted(0)) == [LaunchTrial(trial=1, attempt=1, until=1)]
    assert play.trial(0).status is TrialStatus.PAUSED
    assert play.experiment.next_deadline() is None


def test_a_new_driver_forgets_the_silence(play: Script) -> None:
    play.begin(hang_timeout_s=5.0)
    play(started(0), timer(6.0))
    play(driver(2, num_trials=1, hang_timeout_s=5.0))
    assert (play.trial(0).suspected_at, play.experiment.next_deadline()) == (None, None)


def test_whoever_interrupts_a_hung_trial_pauses_it_free_of_charge(play: Script) -> None:
    play.begin(hang_timeout_s=5.0)
    play(started(0), timer(6.0), timer(9.0), interrupted(), lost(0, cause=LossCause.KILLED))
    assert (play.trial(0).status, play.trial(0).num_failures) == (TrialStatus.PENDING, 0)


def test_without_a_timeout_nobody_is_ever_hung(play: Script) -> None:
    play.begin()
    play(started(0), at(row(0, 1), 10.0))
    assert play.experiment.next_deadline() is None


# -- the limit of a trial's time ---------------------------------------------------------------------------------------


def test_a_trial_that_has_run_for_long_enough_ends_like_by_a_stop_condition(play: Script) -> None:
    play.begin(time_limit_s=20.0, stop_grace_s=5.0)
    play(at(started(0), 2.0), at(row(0, 1), 10.0))
    assert play.experiment.next_deadline() == 22.0
    assert play(timer(22.0)) == [StopTrial(trial=0, attempt=1, reason="time_limit_s=20 is used up")]
    play(row(0, 2), halted(0))
    trial = play.trial(0)
    assert (trial.status, trial.reason) == (TrialStatus.COMPLETED, "time_limit_s=20 is used up")


def test_one_that_does_not_hear_of_it_is_interrupted_and_killed_and_has_completed(play: Script) -> None:
    play.begin(time_limit_s=20.0, stop_grace_s=5.0)
    play(started(0), row(0, 1), timer(20.0))
    assert play(timer(25.0)) == [InterruptTrial(trial=0, attempt=1)]
    assert play(timer(30.0)) == [KILL]
    play(lost(0, cause=LossCause.KILLED))
    assert play.trial(0).status is TrialStatus.COMPLETED


def test_time_is_counted_over_all_attempts_and_only_while_it_runs(play: Script) -> None:
    play.begin(time_limit_s=20.0, max_failures=-1)
    play(at(started(0), 5.0), at(lost(0), 12.0), at(started(0, 2), 50.0))
    assert play.experiment.next_deadline() == 63.0
    play(at(interrupted(), 55.0), at(halted(0, 2), 56.0))
    play(at(driver(2, num_trials=1, time_limit_s=20.0), 60.0))
    assert play.trial(0).run_s == 13.0


def test_one_that_owes_a_checkpoint_and_dies_runs_again_and_is_stopped_at_once(play: Script) -> None:
    play.begin(time_limit_s=20.0, saves_at_end=True, max_failures=1)
    play(started(0), row(0, 1), timer(20.0))
    assert play(lost(0)) == [LaunchTrial(trial=0, attempt=2)]
    play(at(started(0, 2), 30.0))
    assert play.experiment.next_deadline() == 30.0
    assert play(timer(30.0)) == [StopTrial(trial=0, attempt=2, reason="time_limit_s=20 is used up")]


def test_the_earlier_of_two_moments_comes_first(play: Script) -> None:
    play.begin(time_limit_s=20.0, hang_timeout_s=15.0)
    play(started(0))
    assert play.experiment.next_deadline() == 15.0
    play(at(row(0, 1), 10.0))
    assert play.experiment.next_deadline() == 20.0


def test_a_trial_that_waits_for_its_decision_goes_on_from_there(play: Script) -> None:
    """Each row of a judged sweep is answered, and the answer begins the wait."""
    play.begin(hang_timeout_s=5.0, asks_every_result=True)
    assert play(started(0), at(row(0, 1), 3.0)) == [ContinueTrial(trial=0, attempt=1, until=2)]
    assert play.experiment.next_deadline() == 8.0


@pytest.mark.parametrize("is_decided_first", [True, False], ids=["decided while it runs", "decided at its row"])
def test_one_that_its_clock_has_ended_is_not_stopped_by_the_scheduler_as_well(*, is_decided_first: bool) -> None:
    """In deterministic mode: what follows depends on the clock, whatever its last row would have led to, and is said.

    The row at which the scheduler stops the trial was on its way when its time was up.
    """
    play = Script(ASHA(max_t=16, grace_period=1, reduction_factor=2))
    play.begin(num_trials=2, logical_slots=2, metric="loss", time_limit_s=20.0)
    play(at(started(0), 0.0), at(started(1), 5.0))
    better, worse = row(0, 1, metrics={"loss": 1.0}), row(1, 1, metrics={"loss": 2.0})
    if is_decided_first:
        play(at(better, 10.0))
    assert play(timer(25.0))[-1] == StopTrial(trial=1, attempt=1, reason="time_limit_s=20 is used up")
    play(worse, *(() if is_decided_first else (better,)), halted(0), halted(1))
    trial = play.trial(1)
    assert (trial.status, trial.reason) == (TrialStatus.COMPLETED, "time_limit_s=20 is used up")
    assert play.experiment.state.order is not None
    assert "was ended by time_limit_s" in play.experiment.state.order.depends_on
    play.replay()


# -- alarms ------------------------------------------------------------------------------------------------------------


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 5), st.none() | st.integers(0, 20), st.sampled_from(["later", "watch", "look", "pop"])
        ),
        max_size=60,
    )
)
def test_alarms_ring_for_the_earliest_whatever_is_put_off(steps: list[tuple[int, int | None, str]]) -> None:
    """The lazy heap says what a search through all would say, in an order that does not depend on who looked when."""
    due: dict[int, float] = {}
    alarms = Alarms(due.get)
    for trial, moment, what in steps:
        if what == "watch" and moment is not None:
            due[trial] = moment
            alarms.watch(trial)
        elif what == "later" and trial in due:
            if moment is None:
                del due[trial]
            else:
                due[trial] += moment
        elif what == "look":
            assert alarms.next() == min(due.values(), default=None)
        elif what == "pop" and moment is not None:
            expected = min(((when, trial) for trial, when in due.items() if when <= moment), default=None)
            assert alarms.pop(moment) == (None if expected is None else expected[1])
            if expected is not None:
                del due[expected[1]]
        assert all(alarms.is_watched(trial) for trial in due)


@pytest.mark.parametrize("num_trials", [100, 1000])
def test_rows_of_many_trials_look_at_none_of_the_others(num_trials: int) -> None:
    """So many rows correct so many entries at most, and not so many squared."""
    play = Script()
    asked: list[int] = []
    play.begin(num_trials=num_trials, hang_timeout_s=10.0)
    experiment = play.experiment
    for trial in range(num_trials):
        experiment.handle(at(started(trial), 0.0))
    due = experiment.state.deadlines._due

    def ask(trial: int) -> float | None:
        asked.append(trial)
        return due(trial)

    experiment.state.deadlines._due = ask
    for iteration in range(1, 6):
        for trial in range(num_trials):
            experiment.handle(at(row(trial, iteration), 8.0 * iteration))
            experiment.next_deadline()
    assert len(asked) <= 4 * 5 * num_trials
