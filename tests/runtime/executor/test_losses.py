"""Who is charged when a worker is lost."""

from __future__ import annotations

import queue
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tunekit.core.commands import KillTrial, StopTrial
from tunekit.core.events import Event, TrialReturned, TrialStarted, WorkerLost
from tunekit.runtime.executor.heads import Held
from tunekit.runtime.executor.losses import Departure, FalseStarts, Losses, is_own_fault, left_open
from tunekit.runtime.executor.pool import Pool
from tunekit.runtime.executor.ray_errors import Loss
from tunekit.runtime.executor.ray_executor import RayExecutor
from tunekit.runtime.line import mailbox as mailbox_module
from tunekit.runtime.line.mailbox import Mailbox
from tunekit.runtime.line.shapes import Node, shape_of
from tunekit.runtime.line.spec import Delivery
from tunekit.runtime.line.wire import Assign, Upload, encode_said
from tunekit.testing.events import row
from tunekit.types import LossCause

CRASH = Loss(LossCause.CRASHED, "bang")


def held(trial: int, *, is_started: bool = False) -> Held:
    return Held(Assign(trial=trial, attempt=1, spec=b""), is_started=is_started)


def causes(losses: Losses, attempts: list[Held], loss: Loss = CRASH) -> list[LossCause]:
    return [event.cause for event in losses.of(attempts, loss)]


@pytest.mark.parametrize(
    "cause", [LossCause.CRASHED, LossCause.OUT_OF_MEMORY, LossCause.NODE_LOST, LossCause.PREEMPTED]
)
def test_the_one_that_ran_is_lost_for_the_cause_and_the_others_for_none(cause: LossCause) -> None:
    found = Losses().of([held(3, is_started=True), held(4), held(5)], Loss(cause, "why"))
    assert [(event.trial, event.cause) for event in found] == [
        (3, cause),
        (4, LossCause.NOT_STARTED),
        (5, LossCause.NOT_STARTED),
    ]
    assert {event.detail for event in found} == {"why"}


def test_of_what_was_not_begun_it_is_said_how_long_the_worker_had_been_at_work_on_it() -> None:
    first, second = held(3), held(4)
    first.head_s = 7.12346
    assert [event.took_s for event in Losses().of([first, second], CRASH)] == [7.1235, 0.0]


def test_a_trial_at_whose_door_workers_keep_dying_is_the_reason() -> None:
    losses = Losses()
    assert causes(losses, [held(1), held(2)]) == [LossCause.NOT_STARTED, LossCause.NOT_STARTED]
    assert causes(losses, [held(2)]) == [LossCause.NOT_STARTED], "it was not at the door the first time"
    assert causes(losses, [held(1)]) == [LossCause.START_FAILED]


def test_a_trial_that_could_be_prepared_is_above_suspicion() -> None:
    losses = Losses()
    causes(losses, [held(1)])
    losses.note_start(1)
    assert causes(losses, [held(1)]) == [LossCause.NOT_STARTED]


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (LossCause.CRASHED, LossCause.PREEMPTED),
        (LossCause.NODE_LOST, LossCause.PREEMPTED),
        (LossCause.OUT_OF_MEMORY, LossCause.OUT_OF_MEMORY),
        (LossCause.KILLED, LossCause.KILLED),
    ],
)
def test_who_was_told_to_end_is_preempted_unless_there_was_another_reason(cause: LossCause, told: LossCause) -> None:
    """S003-10: no failure is charged to it, though its process was killed in the end."""
    (lost,) = Losses().of([held(1, is_started=True)], Loss(cause, "gone", "SIGKILL"), notice="SIGTERM")
    assert (lost.cause, lost.exit) == (told, "SIGKILL")
    assert lost.detail == ("SIGTERM; gone" if told is LossCause.PREEMPTED else "gone")


@pytest.mark.parametrize("cause", [LossCause.CRASHED, LossCause.KILLED, LossCause.OUT_OF_MEMORY])
def test_whatever_becomes_of_a_worker_whose_machine_is_to_go_is_a_preemption(cause: LossCause) -> None:
    """S003-10: the machine may vanish without a word, and its trials are ended for their silence."""
    killed = (1, 1) if cause is LossCause.KILLED else None
    attempts = [held(1, is_started=True), held(2)]
    found = Losses().of(attempts, Loss(cause, "gone"), killed, notice="AWS", is_machine=True)
    assert [(one.cause, one.trial) for one in found] == [(LossCause.PREEMPTED, 1), (LossCause.NOT_STARTED, 2)]
    assert found[0].detail == "AWS; gone"


@pytest.mark.parametrize("told", [True, False])
def test_a_trial_that_does_not_stop_as_told_is_ended_for_that(*, told: bool) -> None:
    """Notice or not: the core ends it then. One that is killed for its silence went with its machine."""
    pool = Pool()
    pool.see_nodes([Node("n0", {"CPU": 1.0})])
    pool.submit(Assign(trial=3, attempt=1, spec=b""), shape_of({"CPU": 1}))
    (worker,) = [record.id for record in pool.plan().start]
    pool.came_up(worker, pid=100, node="n0")
    pool.plan()
    pool.started((3, 1))
    pool.give_machine_notice(worker, "AWS")
    events: list[Event] = []
    departures: list[Departure] = []
    executor: Any = SimpleNamespace(
        _pool=pool,
        _crew=SimpleNamespace(end=lambda record: None),
        _mailbox=SimpleNamespace(give_up=lambda *args: [], order=lambda *args: None),
        _losses=Losses(),
        _deliver=lambda letters: None,
        _depart=departures.append,
        _tell=lambda *told: events.extend(told),
    )
    executor._pass_on = partial(RayExecutor._pass_on, executor)
    if told:
        RayExecutor._stop(executor, StopTrial(trial=3, attempt=1))
    RayExecutor._kill(executor, KillTrial(trial=3, attempt=1))
    RayExecutor._finish(executor, *departures)
    (event,) = events
    assert isinstance(event, WorkerLost)
    expected = (
        (LossCause.KILLED, "it did not stop in time") if told else (LossCause.PREEMPTED, "AWS; nothing was heard of it")
    )
    assert (event.cause, event.detail) == expected


def test_machines_that_go_away_raise_no_suspicion() -> None:
    losses = Losses()
    causes(losses, [held(1)])
    assert causes(losses, [held(1)], Loss(LossCause.NODE_LOST, "")) == [LossCause.NOT_STARTED]


@pytest.mark.parametrize("cause", [LossCause.NODE_LOST, LossCause.START_FAILED, LossCause.PREEMPTED])
def test_what_raises_no_suspicion_uses_up_no_benefit_of_the_doubt(cause: LossCause) -> None:
    """S003-10: the first crash at its door spares a trial, however often its machine was taken away before that."""
    losses = Losses()
    causes(losses, [held(1)], Loss(cause, ""))
    losses.of([held(1)], CRASH, notice="AWS", is_machine=True)
    assert causes(losses, [held(1)]) == [LossCause.NOT_STARTED]
    assert causes(losses, [held(1)]) == [LossCause.START_FAILED]


def test_who_is_killed_before_he_started_is_killed() -> None:
    assert causes(Losses(), [held(1), held(2)], Loss(LossCause.KILLED, "")) == [LossCause.KILLED, LossCause.NOT_STARTED]


def test_nobody_pays_for_a_kill_that_was_meant_for_another() -> None:
    killed = Loss(LossCause.KILLED, "")
    found = Losses().of([held(2, is_started=True), held(3)], killed, (1, 1))
    assert [event.cause for event in found] == [LossCause.NOT_STARTED, LossCause.NOT_STARTED]
    found = Losses().of([held(1, is_started=True), held(2)], killed, (1, 1))
    assert [event.cause for event in found] == [LossCause.KILLED, LossCause.NOT_STARTED]


@pytest.mark.parametrize("in_peace", [True, False])
def test_who_is_told_to_end_whenever_it_prepares_a_trial_is_no_accident(*, in_peace: bool) -> None:
    """The core hears of it from the fourth time on, and charges the trial if that goes on: else nobody ever would."""
    losses = Losses()

    def turn_away(one: Held) -> list[LossCause]:
        if in_peace:
            return [lost.cause for lost in losses.of_farewell([one, held(2)], "SIGTERM", "n0")]
        return [lost.cause for lost in losses.of([one], CRASH, node="n0", notice="SIGTERM")]

    spared = [] if in_peace else [LossCause.NOT_STARTED]
    assert [turn_away(held(1)) for _ in range(4)] == [*[spared] * 3, [LossCause.PREEMPTED]]
    losses.note_start(1)
    assert turn_away(held(1)) == spared
    assert losses.of_farewell([held(1)], "", "n0") == [], "it was not told to end"
    for _ in range(9):
        (found,) = losses.of([held(3)], CRASH, node="n0", notice="AWS", is_machine=True)
        assert found.cause is LossCause.NOT_STARTED, "a machine goes only once"


def test_workers_that_die_of_themselves_before_their_first_word_are_enough_soon() -> None:
    starts = FalseStarts()
    assert [starts.note() for _ in range(2)] == [False, False]
    starts.note_hello()
    assert [starts.note() for _ in range(3)] == [False, False, True]


def test_machines_that_go_away_are_no_false_starts() -> None:
    for cause in (LossCause.NODE_LOST, LossCause.PREEMPTED, LossCause.OUT_OF_MEMORY):
        assert not is_own_fault(Loss(cause, ""))
    for cause in (LossCause.CRASHED, LossCause.START_FAILED):
        assert is_own_fault(Loss(cause, ""))


def test_a_peaceful_end_loses_only_what_was_begun() -> None:
    assert [event.trial for event in left_open([held(1, is_started=True), held(2)])] == [1]


def test_an_attempt_that_was_said_to_be_prepared_is_lost_when_its_worker_leaves() -> None:
    """Nobody hears of it while it waits for the next worker, which would be taken for a hang."""
    shape = shape_of({"CPU": 1})
    pool = Pool(announces=True)
    pool.see_nodes([Node("n0", {"CPU": 1.0})])
    pool.submit(Assign(trial=3, attempt=1, spec=b""), shape)
    (worker,) = [record.id for record in pool.plan().start]
    pool.came_up(worker, pid=100, node="n0")
    pool.plan()
    assert [event.trial for event in pool.take_assigned()] == [3]
    told: list[Event] = []
    executor = SimpleNamespace(
        _deliver=lambda letters: None,
        _mailbox=SimpleNamespace(give_up=lambda *args: []),
        _losses=Losses(),
        _pool=pool,
        _tell=lambda *events: told.extend(events),
    )
    RayExecutor._finish(executor, Departure(worker, None))  # type: ignore[arg-type]
    (event,) = told
    assert isinstance(event, WorkerLost)
    assert (event.trial, event.cause, event.node) == (3, LossCause.NOT_STARTED, "n0")
    assert pool.take_waiting() == []


def test_all_that_a_worker_has_said_counts_however_much_lies_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain ends where it is large, and what comes behind that has been answered: the trial has returned."""
    monkeypatch.setattr(mailbox_module, "MAX_DRAIN_BYTES", 1)
    pool, mailbox, driver = Pool(), Mailbox(), queue.SimpleQueue[Delivery]()
    pool.see_nodes([Node("n0", {"CPU": 1.0})])
    pool.submit(Assign(trial=3, attempt=1, spec=b""), shape_of({"CPU": 1}))
    (worker,) = [record.id for record in pool.plan().start]
    pool.came_up(worker, pid=100, node="n0")
    pool.plan()
    executor: Any = SimpleNamespace(
        _pool=pool,
        _mailbox=mailbox,
        _driver=driver,
        _losses=Losses(),
        _sweep=SimpleNamespace(fresh_process=False),
        _machines=SimpleNamespace(follow=lambda event: None),
        _refresh=lambda: None,
        _dispatch=lambda: None,
    )
    for name in ("_deliver", "_follow", "_finish", "_tell"):
        setattr(executor, name, partial(getattr(RayExecutor, name), executor))
    mailbox.open(worker)
    said: list[Event] = [TrialStarted(trial=3, attempt=1), row(3, 1), TrialReturned(trial=3, attempt=1)]
    messages = [encode_said([each]) for each in said]
    mailbox.exchange(msgspec.msgpack.encode(Upload(worker, 1, messages, 0, 0.0)))
    RayExecutor._take(executor, mailbox.drain(0.0), [Departure(worker, CRASH)])
    heard: list[Event] = []
    while not driver.empty():
        heard += driver.get().events
    assert [type(event) for event in heard] == [type(event) for event in said]
