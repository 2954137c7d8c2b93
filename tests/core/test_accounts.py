"""What seconds go into: each kind by itself, and all of them together against the core's own count."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.accounts import Accounts
from tunekit.core.books import BEGAN_ANEW, NO_LOSS, PAUSED, REFUSED
from tunekit.core.codec import Record
from tunekit.core.events import Event, Place, TrialPreempted, WorkerLost
from tunekit.core.experiment import Experiment
from tunekit.schedulers import ASHA
from tunekit.testing.events import (
    Script,
    assigned,
    capacity,
    driver,
    halted,
    interrupted,
    launch_failed,
    lost,
    preempted,
    published,
    raised,
    restore_failed,
    returned,
    row,
    staged,
    started,
    timer,
)
from tunekit.testing.sim_accounts import check_accounts
from tunekit.types import LossCause, TrialStatus

CRASHED, HUNG, PREEMPTED = str(LossCause.CRASHED), str(LossCause.HUNG), str(LossCause.PREEMPTED)
S = 1_000_000


def at(seconds: float, event: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(event, at=seconds, **fields)


def saved(seconds: float, iteration: int, attempt: int = 1) -> list[Event]:
    return [at(seconds, make(0, iteration, attempt)) for make in (row, staged, published)]


def records(play: Script) -> list[Record]:
    return [record for event, commands in play.history for record in (event, *commands)]


def spent(play: Script, trial: int = 0) -> dict[str, dict[str, float]]:
    """Return the seconds of a trial that are not zero, by cause; they are what the core says too."""
    assert not list(check_accounts(records(play), Experiment(play._scheduler)))
    trials = play.experiment.state.trials
    found = Accounts(records(play), trials).spent(trials)[trial]
    plain = {cause: {kind: us / S for kind, us in each.by_kind().items() if us} for cause, each in found.items()}
    return {cause: each for cause, each in plain.items() if each}


@pytest.fixture
def play(play: Script) -> Script:
    """A sweep of one trial whose first attempt was launched at 0."""
    play.begin(max_failures=9, hang_timeout_s=50.0)
    return play


# -- one kind at a time ------------------------------------------------------------------------------------------------


def test_before_a_worker_comes_an_attempt_is_queued_and_then_it_is_restored(play: Script) -> None:
    play(at(5, started(0), took_s=2.0), at(15, row(0, 1)), at(16, returned(0)))
    assert spent(play) == {NO_LOSS: {"queued": 3.0, "restoring": 2.0, "useful": 11.0}}


def test_when_the_worker_does_not_say_the_driver_may_know_when_it_came(play: Script) -> None:
    play(at(1, assigned(0)), at(5, started(0)), at(15, row(0, 1)))
    assert spent(play) == {NO_LOSS: {"queued": 1.0, "restoring": 4.0, "useful": 10.0}}


@pytest.mark.parametrize("said", [{}, {"took_s": 99.0}])
def test_no_worker_can_have_prepared_for_longer_than_the_attempt_was_there(play: Script, said: dict[str, Any]) -> None:
    """Journals of earlier versions do not say it at all."""
    play(at(5, started(0), **said))
    assert spent(play) == {NO_LOSS: {"restoring" if said else "queued": 5.0}}


def test_loading_a_checkpoint_is_restoring_and_waiting_for_a_save_is_checkpointing(play: Script) -> None:
    play(at(0, started(0)), at(10, row(0, 1), loaded_s=3.0), at(20, row(0, 2), blocked_s=4.0))
    play(at(25, returned(0), blocked_s=2.0))
    assert spent(play) == {NO_LOSS: {"restoring": 3.0, "checkpointing": 6.0, "useful": 16.0}}


def test_no_more_was_waited_than_time_has_passed(play: Script) -> None:
    """A message may have been on its way for a while: then less lies between its arrival and that of the next one."""
    play(at(0, started(0)), at(10, row(0, 1), blocked_s=7.0, loaded_s=7.0), at(11, returned(0), blocked_s=9.0))
    assert spent(play) == {NO_LOSS: {"checkpointing": 8.0, "restoring": 3.0}}


def test_training_beyond_the_checkpoint_is_recomputed_under_the_loss(play: Script) -> None:
    play(at(0, started(0)), *saved(10, 1), at(20, row(0, 2)), at(30, row(0, 3)), at(33, preempted(0), blocked_s=1.0))
    play(at(35, started(0, 2), took_s=1.5), at(45, row(0, 2, 2), loaded_s=4.0), at(46, returned(0, 2)))
    assert spent(play) == {
        NO_LOSS: {"useful": 10.0 + 7.0, "checkpointing": 1.0},
        PREEMPTED: {"recomputed": 20.0 + 2.0, "queued": 0.5, "restoring": 1.5 + 4.0},
    }


def test_rows_that_came_together_share_the_time_as_they_took_it(play: Script) -> None:
    play(at(0, started(0)))
    play(*[at(12, row(0, k), time_this_iter_s=t) for k, t in enumerate([1.0, 4.0, 1.0], start=1)])
    play(at(12, staged(0, 2)), at(12, published(0, 2)), at(12, lost(0)), at(12, started(0, 2)))
    assert spent(play) == {NO_LOSS: {"useful": 10.0}, CRASHED: {"recomputed": 2.0}}


def test_a_checkpoint_that_cannot_be_read_costs_what_led_to_it(play: Script) -> None:
    play(at(0, started(0)), *saved(10, 1), *saved(20, 2), at(25, lost(0)))
    play(at(30, restore_failed(0, 2, 2), took_s=4.0), at(31, started(0, 3)))
    assert spent(play) == {
        NO_LOSS: {"useful": 10.0},
        CRASHED: {"recomputed": 5.0, "queued": 1.0, "restoring": 4.0},
        str(LossCause.RESTORE_FAILED): {"recomputed": 10.0, "queued": 1.0},
    }


def test_a_function_that_counts_from_1_again_has_lost_what_it_had(play: Script) -> None:
    play(at(0, started(0)), *saved(10, 1), *saved(20, 2), at(20, lost(0)))
    play(at(20, started(0, 2)), at(30, row(0, 1, 2)))
    assert spent(play) == {NO_LOSS: {"useful": 10.0}, CRASHED: {"recomputed": 20.0}}


def test_what_a_dead_driver_did_not_live_to_see_belongs_to_nobody(play: Script) -> None:
    play(at(0, started(0)), *saved(10, 1), at(20, row(0, 2)), at(26, timer(26)))
    play(at(90, driver(2, num_trials=1, max_failures=9)))
    assert spent(play) == {NO_LOSS: {"useful": 20.0}, str(LossCause.DRIVER_LOST): {"recomputed": 6.0}}


def test_a_silent_trial_is_hung_and_one_that_was_told_to_stop_is_not(play: Script) -> None:
    play(at(0, started(0)), *saved(10, 1), timer(61), timer(112))
    play(at(113, lost(0, cause=LossCause.KILLED)))
    assert spent(play) == {NO_LOSS: {"useful": 10.0}, HUNG: {"recomputed": 103.0}}


def test_a_silent_trial_that_is_told_to_stop_before_it_is_killed_was_hung(play: Script) -> None:
    """It is killed twice then: for its silence, and because it did not stop."""
    play(at(0, started(0)), *saved(10, 1), timer(61), timer(112), at(113, interrupted()))
    for _ in range(3):
        play(timer(play.experiment.next_deadline() or 0.0))
    play(at(900, lost(0, cause=LossCause.KILLED)))
    assert play.trial(0).losses == {HUNG: 1}
    assert set(spent(play)) == {NO_LOSS, HUNG}


def test_who_is_told_to_end_again_and_again_by_its_own_doing_has_crashed(play: Script) -> None:
    """The core's verdict stands. Without the core, as on the command line, the accounts come to the same."""
    play(at(1, driver(2, num_trials=1, max_failures=9, max_futile_preemptions=1)))
    play(at(1, msgspec.structs.replace(play.history[1][0])))
    for attempt in (2, 3):
        play(at(attempt, started(0, attempt), place=Place(node="n1")), at(attempt + 1, preempted(0, attempt)))
    play(at(4, started(0, 4)))
    assert play.trial(0).losses == {str(LossCause.DRIVER_LOST): 1, PREEMPTED: 1, "crashed: SIGTERM": 1}
    lost_s = {cause: spent(play)[cause] for cause in (PREEMPTED, CRASHED)}
    assert lost_s == {PREEMPTED: {"recomputed": 1.0}, CRASHED: {"recomputed": 1.0}}
    assert Accounts(records(play)).losses(0) == Accounts(records(play), play.experiment.state.trials).losses(0)


def test_a_pause_is_a_cause_of_its_own(play: Script) -> None:
    play(at(0, started(0)), at(10, interrupted()), *saved(12, 1), at(13, halted(0), blocked_s=1.0))
    play(at(13, driver(2, num_trials=1)), at(13, msgspec.structs.replace(play.history[1][0])))
    play(at(17, started(0, 2), took_s=3.0))
    assert spent(play) == {
        NO_LOSS: {"useful": 12.0, "checkpointing": 1.0},
        PAUSED: {"queued": 1.0, "restoring": 3.0},
    }


def test_an_attempt_that_was_paused_before_its_first_row_trained_for_nothing(play: Script) -> None:
    play(at(0, started(0)), at(10, interrupted()), at(12, halted(0)))
    assert spent(play) == {NO_LOSS: {"useful": 12.0}}, "nobody knows yet"
    play(at(12, driver(2, num_trials=1)), at(12, msgspec.structs.replace(play.history[1][0])))
    assert spent(play) == {PAUSED: {"recomputed": 12.0}}


@pytest.mark.parametrize("ending", [halted(0, 2), returned(0, 2)], ids=["halted", "returned"])
def test_an_attempt_that_is_stopped_because_it_began_anew_is_a_cause_of_its_own(ending: Event) -> None:
    """Nobody has paused it. Before that it was: this stays a pause, also where to begin anew is no failure."""
    play = Script()
    play.begin(metric="loss", silent_restart="fail")
    play(at(0, started(0)))
    for i in range(1, 4):
        play(at(10 * i, row(0, i, metrics={"loss": 1 / i})))
    play(staged(0, 3), published(0, 3), at(31, interrupted()), at(32, row(0, 4)), at(33, halted(0)))
    again = {"num_trials": 1, "metric": "loss", "silent_restart": "fail", "resume_errored": True}
    play(at(33, driver(2, **again)), at(35, capacity(1)), at(37, started(0, 2, restored_from=3), took_s=1.0))
    for i in range(1, 4):
        play(at(37 + 10 * i, row(0, 3 + i, 2, metrics={"loss": 1 / i})))
    play(at(68, ending))
    assert play.trial(0).status is TrialStatus.FAILED
    paused = {"recomputed": 3.0, "queued": 1.0, "restoring": 1.0}
    assert spent(play) == {NO_LOSS: {"useful": 61.0}, PAUSED: paused}, "what a failed trial did may still be of use"
    play(at(70, driver(3, **again)), at(71, capacity(1)), at(72, started(0, 3, restored_from=3)))
    assert spent(play) == {NO_LOSS: {"useful": 30.0}, PAUSED: paused, BEGAN_ANEW: {"recomputed": 31.0, "queued": 1.0}}


@pytest.mark.parametrize(
    ("ending", "cause"),
    [
        (raised(0), LossCause.RAISED),
        (lost(0, cause=LossCause.NODE_LOST), LossCause.NODE_LOST),
        (lost(0, cause=LossCause.KILLED), LossCause.KILLED),
        (TrialPreempted(trial=0, attempt=1), LossCause.PREEMPTED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_dead_time_is_entered_under_the_loss(play: Script, ending: Event, cause: LossCause) -> None:
    play(at(0, started(0)), at(10, row(0, 1)), at(14, ending))
    assert spent(play)[str(cause)] == {"recomputed": 4.0 + 10.0}, "there is no checkpoint: the row is lost as well"


@pytest.mark.parametrize("ending", [raised(0, fatal=True), msgspec.structs.replace(launch_failed(0), fatal=True)])
def test_an_attempt_that_ends_the_run_has_lost_nothing_and_is_entered_as_refused(play: Script, ending: Event) -> None:
    """A setting that its first report contradicts: no trial is charged with it."""
    play(at(0, started(0)), at(3, ending))
    accounts = Accounts(records(play))
    assert (spent(play), dict(accounts.losses(0))) == ({REFUSED: {"recomputed": 3.0}}, {})


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (launch_failed(0), "queued"),
        (at(0, launch_failed(0), took_s=9.0), "restoring"),
        (lost(0, cause=LossCause.NOT_STARTED), "queued"),
        (WorkerLost(trial=0, attempt=1, cause=LossCause.NOT_STARTED, took_s=9.0), "restoring"),
    ],
)
def test_of_an_attempt_that_never_started_the_worker_is_known_or_it_was_queued(
    play: Script, ending: Event, kind: str
) -> None:
    play(at(9, ending))
    assert spent(play) == {NO_LOSS: {kind: 9.0}}


def test_what_is_said_of_an_earlier_attempt_or_twice_costs_nothing(play: Script) -> None:
    play(at(0, started(0)), at(10, row(0, 1)), at(11, lost(0)), at(12, started(0, 2)))
    play(at(13, row(0, 2)), at(14, returned(0)), at(15, row(0, 1, 2)), at(16, row(0, 1, 2)), at(17, row(0, 3)))
    play(at(18, raised(0, 2, retryable=False)))
    assert spent(play) == {
        NO_LOSS: {"useful": 3.0},
        CRASHED: {"recomputed": 11.0, "queued": 1.0},
        str(LossCause.RAISED): {"recomputed": 3.0},
    }


def test_a_failed_trial_keeps_its_rows_until_it_is_tried_again(play: Script) -> None:
    play(at(0, started(0)), *saved(10, 1), at(20, row(0, 2)), at(25, raised(0, retryable=False)))
    raised_s = {"recomputed": 5.0}
    assert spent(play) == {NO_LOSS: {"useful": 20.0}, str(LossCause.RAISED): raised_s}
    play(driver(2, num_trials=1, resume_errored=True), msgspec.structs.replace(play.history[1][0]))
    assert spent(play) == {NO_LOSS: {"useful": 10.0}, str(LossCause.RAISED): {"recomputed": 15.0}}


def test_a_trial_at_its_horizon_waits_for_a_decision_and_is_pruned_if_it_is_stopped_there() -> None:
    """In deterministic mode, where it is decided in the order of trials."""
    play = Script(ASHA(max_t=16, grace_period=1, reduction_factor=2))
    play.begin(num_trials=2, logical_slots=2, metric="loss")
    play(at(0, started(0)), at(0, started(1)), at(10, row(1, 1, metrics={"loss": 2.0})), at(20, timer(20)))
    assert spent(play, 1) == {NO_LOSS: {"useful": 10.0, "waiting": 10.0}}
    play(at(30, row(0, 1, metrics={"loss": 1.0})), at(32, halted(1)))
    assert play.trial(1).status is TrialStatus.STOPPED
    assert spent(play, 1) == {NO_LOSS: {"pruned": 12.0, "waiting": 20.0}}
    play(at(40, row(0, 2, metrics={"loss": 1.0})), at(50, row(0, 3, metrics={"loss": 1.0})))
    assert spent(play) == {NO_LOSS: {"useful": 50.0}}, "its next horizon is at 4"


@pytest.mark.parametrize("logical_slots", [None, 2])
def test_a_trial_that_the_scheduler_lets_run_to_its_end_is_not_pruned(logical_slots: int | None) -> None:
    """Also if it dies while it waits to hear that; one that is stopped before is."""
    play = Script(ASHA(max_t=2, grace_period=1, reduction_factor=2))
    play.begin(num_trials=2, logical_slots=logical_slots, metric="loss", max_failures=1)
    play(at(0, started(0)), at(0, started(1)), at(10, row(0, 1, metrics={"loss": 1.0})))
    play(at(10, row(1, 1, metrics={"loss": 2.0})), at(10, halted(1)))
    play(at(20, row(0, 2, metrics={"loss": 1.0})), at(20, halted(0)))
    assert [play.trial(trial).status for trial in (0, 1)] == [TrialStatus.STOPPED] * 2
    assert play.trial(0).reason == "max_t 2 reached"
    assert spent(play, 0) == {NO_LOSS: {"useful": 20.0}}
    assert spent(play, 1) == {NO_LOSS: {"pruned": 10.0}}


def test_a_trial_that_dies_before_it_hears_of_its_end_is_not_pruned() -> None:
    play = Script(ASHA(max_t=2, grace_period=2, reduction_factor=2))
    play.begin(num_trials=2, logical_slots=2, metric="loss", max_failures=1)
    play(at(0, started(0)), at(0, started(1)), at(10, row(1, 1)), at(20, row(1, 2)), at(20, staged(1, 2)))
    play(at(20, published(1, 2)), at(21, lost(1)), at(30, row(0, 1)), at(40, row(0, 2)))
    play(at(40, halted(0)))
    assert play.trial(1).status is TrialStatus.STOPPED
    assert spent(play, 1)[NO_LOSS]["useful"] == 20.0
    assert "pruned" not in spent(play, 1)[NO_LOSS]


def test_a_trial_that_is_lost_at_its_horizon_has_lost_no_training_by_waiting() -> None:
    play = Script(ASHA(max_t=4, grace_period=1, reduction_factor=2))
    play.begin(num_trials=2, logical_slots=2, metric="loss")
    play(at(0, started(1)), *[at(10, make(1, 1)) for make in (row, staged, published)])
    play(at(25, preempted(1), blocked_s=2.0))
    assert spent(play, 1) == {NO_LOSS: {"useful": 10.0, "waiting": 13.0, "checkpointing": 2.0}}


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (halted(0), {NO_LOSS: {"useful": 14.0}}),
        (lost(0), {NO_LOSS: {"useful": 10.0}, CRASHED: {"recomputed": 4.0}}),
    ],
    ids=["halted", "lost"],
)
def test_who_is_told_to_stop_waits_for_no_decision_at_its_horizon(
    ending: Event, expected: dict[str, dict[str, float]]
) -> None:
    """No answer comes: it cleans up, or saves until it is lost."""
    play = Script(ASHA(max_t=4, grace_period=1, reduction_factor=2))
    play.begin(metric="loss", max_failures=9)
    play(at(0, started(0)), at(5, interrupted()), *saved(10, 1), at(14, ending))
    assert spent(play) == expected


# -- all of them -------------------------------------------------------------------------------------------------------

SECONDS = st.floats(0, 9, allow_nan=False)
STEPS = st.lists(st.tuples(st.sampled_from("srrrrclhpfxokdwz"), st.integers(0, 1), SECONDS, SECONDS), max_size=40)


def happening(play: Script, what: str, trial: int, said_s: float) -> Event:
    """Return something that may be said of a trial, whether it makes sense or not."""
    state = play.trial(trial)
    attempt = max(1, state.attempt - (what == "z"))
    iteration = state.iteration + 1 if what != "o" else 1
    make: dict[str, Any] = {
        "s": lambda: at(0, started(trial, attempt), took_s=said_s),
        "c": lambda: at(0, staged(trial, max(1, state.iteration), attempt)),
        "l": lambda: at(0, lost(trial, attempt), took_s=said_s),
        "h": lambda: at(0, halted(trial, attempt), blocked_s=said_s),
        "p": lambda: at(0, preempted(trial, attempt), blocked_s=said_s),
        "f": lambda: at(0, launch_failed(trial, attempt), took_s=said_s),
        "x": lambda: at(0, raised(trial, attempt), blocked_s=said_s),
        "k": lambda: assigned(trial, attempt),
        "d": lambda: driver(play.experiment.state.generation + 1, num_trials=2, max_failures=-1, resume_errored=True),
        "w": lambda: msgspec.structs.replace(play.history[1][0]),
    }
    rows = at(0, row(trial, iteration, attempt), time_this_iter_s=said_s, blocked_s=said_s / 3, loaded_s=said_s / 5)
    found: Event = make.get(what, lambda: rows)()
    return found


@given(steps=STEPS)
def test_whatever_happens_each_leased_second_is_in_one_account(steps: list[tuple[str, int, float, float]]) -> None:
    play = Script()
    play.begin(num_trials=2, max_failures=-1)
    for what, trial, passed_s, said_s in steps:
        event = happening(play, what, trial, said_s)
        play(at(play.experiment.state.now + passed_s, event))
        if what == "c":
            iteration, attempt = event.iteration, event.attempt  # type: ignore[union-attr]
            play(published(trial, iteration, attempt))
    assert not list(check_accounts(records(play), Experiment(play._scheduler)))


def test_a_fold_that_goes_on_comes_to_the_same_as_one_that_begins_anew(play: Script) -> None:
    play(
        at(0, started(0)),
        *saved(10, 1),
        at(20, row(0, 2)),
        at(21, lost(0)),
        at(25, started(0, 2)),
        at(30, row(0, 2, 2)),
    )
    growing, all_records = Accounts(), records(play)
    for position, record in enumerate(all_records, start=1):
        growing.apply(record)
        assert growing.spent() == Accounts(all_records[:position]).spent()
