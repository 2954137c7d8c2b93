"""A worker that does not find the experiment's folder ends the run only if nobody finds it."""

from __future__ import annotations

import pytest
from msgspec import structs

from tunekit.core.events import ErrorInfo, Event, LaunchFailed
from tunekit.runtime.executor.heads import Held
from tunekit.runtime.executor.records import WorkerRecord
from tunekit.runtime.executor.sight import Sight
from tunekit.runtime.line.wire import Assign
from tunekit.testing.events import started
from tunekit.types import LossCause

ERROR = ErrorInfo(type="tunekit.errors.StorageError", message="/data/e holds no experiment on n1")
ABSENT = LaunchFailed(trial=0, attempt=1, error=ERROR, fatal=True, cause=LossCause.STORAGE, node="n1")
SPARED = structs.replace(ABSENT, fatal=False, local=True)


def workers(**held: bool | None) -> list[WorkerRecord]:
    """Return workers 1, 2, …, with an attempt each that has begun or has not; None: without one."""
    records = []
    for number, is_started in enumerate(held.values(), start=1):
        record = WorkerRecord(number, (("CPU", 1.0),), pid=100 + number)
        if is_started is not None:
            record.held[number, 1] = Held(Assign(trial=number, attempt=1, spec=b""), is_started=is_started)
        records.append(record)
    return records


def test_a_folder_that_nobody_finds_ends_the_run() -> None:
    sight = Sight()
    assert sight.judged(ABSENT, 1, workers(one=None)) == ABSENT
    assert sight.judged(ABSENT, 1, workers(one=False, two=None)) == ABSENT, "it looks again, in vain"


def test_a_machine_whose_mount_is_late_is_left_to_itself() -> None:
    """One trial has started elsewhere, whatever has become of it."""
    sight = Sight()
    assert sight.judged(started(7), 2, workers(one=None, two=True)) == started(7)
    assert sight.judged(ABSENT, 1, workers(one=None)) == SPARED


def test_while_others_are_about_to_look_nothing_is_known() -> None:
    """On a cluster whose machines all lack it, the last one that looks ends the run, though the first looks again."""
    sight = Sight()
    assert sight.judged(ABSENT, 1, workers(one=None, two=False, three=False)) == SPARED
    assert sight.judged(ABSENT, 2, workers(one=False, two=None, three=False)) == SPARED
    assert sight.judged(ABSENT, 3, workers(one=False, two=False, three=None)) == ABSENT


@pytest.mark.parametrize(
    "event",
    [
        structs.replace(ABSENT, cause=LossCause.START_FAILED),
        structs.replace(ABSENT, fatal=False),
        structs.replace(ABSENT, fatal=False, cause=LossCause.START_FAILED),
    ],
    ids=["code that no worker can load", "a folder that cannot be read", "one worker's own failure"],
)
def test_what_else_fails_is_as_it_was_said(event: Event) -> None:
    sight = Sight()
    sight.judged(started(7), 2, workers(one=None, two=True))
    assert sight.judged(event, 1, workers(one=None, two=True)) == event
