"""One warning for each checkpoint that could not be restored: which file, and what the trial does now."""

from __future__ import annotations

import msgspec
import pytest

from tunekit.callbacks.alarm import Alarm
from tunekit.core.events import ErrorInfo, Event
from tunekit.testing.events import (
    Script,
    launch_failed,
    lost,
    raised,
    restore_failed,
    returned,
    row,
    saved,
    started,
    started_over,
)

ERROR = ErrorInfo(type="CheckpointCorruptError", message="the checkpoint x is damaged: model.pt: it is missing")


@pytest.mark.parametrize(("iterations", "follows"), [((2, 4), "goes on from iteration 2"), ((4,), "has no other")])
def test_it_names_the_file_and_what_follows(
    iterations: tuple[int, ...], follows: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S003-12: whoever wonders why a trial went back finds it in one line."""
    play = Script()
    play.begin(num_trials=1, max_failures=1)
    play(started(0), *(event for iteration in iterations for event in saved(0, iteration)), lost(0))
    failed = msgspec.structs.replace(restore_failed(0, 4, 2), error=ERROR)
    play(failed)
    Alarm("t_{:05d}".format).observe([failed], play.experiment.state)
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "tunekit")
    assert record.getMessage().startswith(f"t_00000 could not go on from iteration 4: {ERROR.message}; ")
    assert follows in record.getMessage()


def test_it_names_the_checkpoint_that_the_next_attempt_is_given(caplog: pytest.LogCaptureFixture) -> None:
    """Not the newest, if what goes on from that fails again and again."""
    play = Script()
    play.begin(num_trials=1, max_failures=-1)
    play(started(0), *(event for iteration in (1, 2, 3) for event in saved(0, iteration)), raised(0))
    play(started(0, 2), raised(0, 2), started(0, 3), raised(0, 3))
    assert play.trial(0).resume_from == 2
    failed = restore_failed(0, 2, 4)
    play(failed)
    Alarm("t_{:05d}".format).observe([failed], play.experiment.state)
    assert play.trial(0).resume_from == 1
    assert caplog.records[0].getMessage().endswith("the trial goes on from iteration 1")


def test_damage_that_ends_a_trial_is_told_as_well(caplog: pytest.LogCaptureFixture) -> None:
    play = Script()
    play.begin(num_trials=1, max_failures=1)
    play(started(0), *saved(0, 4), lost(0))
    error = ErrorInfo(type="tunekit.errors.CheckpointCorruptError", message=ERROR.message)
    failed = msgspec.structs.replace(launch_failed(0, 2), error=error, retryable=False)
    play(failed)
    Alarm("t_{:05d}".format).observe([failed, launch_failed(0, 2)], play.experiment.state)
    (record,) = caplog.records
    assert record.getMessage() == f"t_00000 could not go on from iteration 4: {ERROR.message}; so it failed"


def test_all_else_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    play = Script()
    play.begin(num_trials=1)
    events: list[Event] = [started(0), row(0, 1), returned(0)]
    play(*events)
    Alarm("t_{:05d}".format).observe(events, play.experiment.state)
    assert not caplog.records


def test_who_began_anew_is_named_once_with_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    play, alarm = Script(), Alarm("t_{:05d}".format)
    play.begin(num_trials=1, max_failures=9)
    play(started(0), *saved(0, 4), lost(0))
    for attempt in (2, 3):
        event = started_over(0, attempt, 4)
        play(started(0, attempt, restored_from=4), event)
        alarm.observe([event], play.experiment.state)
        play(lost(0, attempt))
    (record,) = caplog.records
    assert record.getMessage() == (
        "t_00000: attempt 2 was to go on from iteration 4 but did not open its checkpoint, so it starts again at "
        "iteration 1: what was learned up to iteration 4 is thrown away; call get_checkpoint() or restore(saver) "
        "before the first report"
    )
