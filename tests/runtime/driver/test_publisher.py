"""Every command to the store is answered by one event, whatever happens."""

from __future__ import annotations

import queue
import threading
from typing import Any

from tunekit.core.commands import DeleteCheckpoint, PublishCheckpoint
from tunekit.core.events import CheckpointDeleted, CheckpointPublished, DeleteFailed, PublishFailed
from tunekit.errors import ExperimentExistsError, StorageError
from tunekit.runtime.driver.publisher import DirectPublisher, StoreCommand, ThreadedPublisher
from tunekit.runtime.line.spec import Delivery


class FakeIO:
    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.calls: list[tuple[Any, ...]] = []

    def _note(self, *call: Any) -> None:
        if self.fails:
            raise StorageError("no space left")
        self.calls.append(call)

    def publish(self, name: str, iteration: int, attempt: int, manifest: Any, *, exact: bool) -> None:
        self._note("publish", name, iteration, attempt, manifest, exact)

    def delete(self, name: str, iteration: int, attempt: int, *, exact: bool) -> None:
        self._note("delete", name, iteration, attempt, exact)

    def quarantine(self, name: str, iteration: int, attempt: int, *, exact: bool) -> None:
        self._note("quarantine", name, iteration, attempt, exact)


COMMANDS: list[StoreCommand] = [
    PublishCheckpoint(trial=3, attempt=2, iteration=5, manifest={"files": []}),
    DeleteCheckpoint(trial=3, attempt=1, iteration=4),
    DeleteCheckpoint(trial=3, attempt=1, iteration=2, quarantine=True),
]


def direct(io: FakeIO) -> DirectPublisher:
    return DirectPublisher(io, "t_{:05d}".format)  # type: ignore[arg-type]


def test_commands_are_carried_out_in_order_and_answered() -> None:
    io = FakeIO()
    answers = direct(io).submit(COMMANDS)
    assert io.calls == [
        ("publish", "t_00003", 5, 2, {"files": []}, True),
        ("delete", "t_00003", 4, 1, True),
        ("quarantine", "t_00003", 2, 1, True),
    ]
    assert answers == [
        CheckpointPublished(trial=3, attempt=2, iteration=5),
        CheckpointDeleted(trial=3, attempt=1, iteration=4),
        CheckpointDeleted(trial=3, attempt=1, iteration=2),
    ]


def test_a_driver_that_was_replaced_changes_nothing() -> None:
    """What it was told to do is left to the driver that has taken over, which is told the same."""

    def replaced() -> None:
        raise ExperimentExistsError("another driver has taken over")

    io = FakeIO()
    answers = DirectPublisher(io, str, allowed=replaced).submit(COMMANDS)  # type: ignore[arg-type]
    assert io.calls == []
    assert [type(answer) for answer in answers] == [PublishFailed, DeleteFailed, DeleteFailed]


def test_failure_checkpoints_are_told_apart() -> None:
    io = FakeIO()
    publish = PublishCheckpoint(trial=3, attempt=2, iteration=5, manifest={}, exact=False)
    delete = DeleteCheckpoint(trial=3, attempt=2, iteration=5, exact=False)
    answers = direct(io).submit([publish, delete])
    assert io.calls == [("publish", "t_00003", 5, 2, {}, False), ("delete", "t_00003", 5, 2, False)]
    assert answers == [
        CheckpointPublished(trial=3, attempt=2, iteration=5, exact=False),
        CheckpointDeleted(trial=3, attempt=2, iteration=5, exact=False),
    ]
    [failed] = direct(FakeIO(fails=True)).submit([publish])
    assert isinstance(failed, PublishFailed)
    assert not failed.exact


def test_bad_news_is_an_answer() -> None:
    published, deleted, _ = direct(FakeIO(fails=True)).submit(COMMANDS)
    assert isinstance(published, PublishFailed)
    assert isinstance(deleted, DeleteFailed)
    assert (published.trial, published.attempt, published.iteration) == (3, 2, 5)
    assert published.error.type == "tunekit.errors.StorageError"
    assert "no space left" in published.error.message
    assert "Traceback" in published.error.traceback


def test_the_thread_answers_into_the_inbox_in_order() -> None:
    io = FakeIO()
    inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    publisher = ThreadedPublisher(direct(io), inbox)
    assert publisher.submit(COMMANDS[:1]) == []
    assert publisher.submit([]) == []
    publisher.submit(COMMANDS[1:])
    publisher.close()
    answered = [event for _ in range(inbox.qsize()) for event in inbox.get_nowait().events]
    assert [type(event) for event in answered] == [CheckpointPublished, CheckpointDeleted, CheckpointDeleted]
    assert [call[0] for call in io.calls] == ["publish", "delete", "quarantine"]


class SlowIO(FakeIO):
    """Stands still at the first command until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.stands, self.goes_on = threading.Event(), threading.Event()

    def _note(self, *call: Any) -> None:
        self.stands.set()
        assert self.goes_on.wait(120)
        super()._note(*call)


def publish(trial: int, iteration: int, attempt: int = 1) -> PublishCheckpoint:
    return PublishCheckpoint(trial=trial, attempt=attempt, iteration=iteration, manifest={})


def test_publications_do_not_wait_for_deletions_unless_they_are_about_the_same_place() -> None:
    io = SlowIO()
    publisher = ThreadedPublisher(direct(io), queue.SimpleQueue())
    publisher.submit([publish(0, 9)])
    assert io.stands.wait(120)
    delete = [DeleteCheckpoint(trial=0, attempt=1, iteration=iteration) for iteration in (1, 2, 3)]
    publisher.submit([*delete, publish(0, 8), publish(0, 2, 2)])
    publisher.submit([publish(1, 1)])
    io.goes_on.set()
    publisher.close()
    assert [(call[0], call[2]) for call in io.calls] == [
        ("publish", 9),
        ("publish", 8),
        ("delete", 2),
        ("publish", 2),
        ("publish", 1),
        ("delete", 1),
        ("delete", 3),
    ]


def test_trials_take_their_own_ways_and_each_keeps_its_order() -> None:
    io = FakeIO()
    inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    publisher = ThreadedPublisher(direct(io), inbox, num_threads=3)
    for iteration in range(1, 21):
        publisher.submit([publish(trial, iteration) for trial in range(7)])
    publisher.close()
    for trial in range(7):
        assert [call[2] for call in io.calls if call[1] == f"t_{trial:05d}"] == list(range(1, 21))
    assert sum(len(inbox.get_nowait().events) for _ in range(inbox.qsize())) == 140


def test_a_driver_that_has_failed_leaves_what_it_has_not_begun_to_the_next_one() -> None:
    """It may have been replaced, and must then touch nothing; or its storage is gone, and each try takes minutes."""
    io = SlowIO()
    publisher = ThreadedPublisher(direct(io), queue.SimpleQueue(), num_threads=2)
    publisher.submit([publish(0, 9), publish(0, 10)])
    publisher.submit([publish(0, 11), DeleteCheckpoint(trial=0, attempt=1, iteration=1)])
    assert io.stands.wait(120)
    closing = threading.Thread(target=publisher.close, kwargs={"finish": False})
    closing.start()
    while not all(lane.is_given_up for lane in publisher._lanes):
        pass
    io.goes_on.set()
    closing.join()
    assert [(call[0], call[2]) for call in io.calls] == [("publish", 9)]
    assert not any(lane.thread.is_alive() for lane in publisher._lanes)
