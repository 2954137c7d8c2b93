"""Machines that are to go: who is told, in which order, and what is remembered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from announced import SHAPE, World, report, told

from tunekit.core.events import TrialPreempted, TrialReturned
from tunekit.runtime.line.wire import Assign, MachineNotice, Warn
from tunekit.runtime.preemption.drain import DrainWatch
from tunekit.runtime.preemption.plan import AtRisk, NodeNotice, Notices, plan_saves

DRAINED = NodeNotice("Ray", deadline=1060.0)


@pytest.fixture
def world() -> World:
    return World()


def test_those_with_most_work_at_risk_are_told_first(world: World) -> None:
    for worker in (2, 3, 4):
        world.start(worker)
        world.now += 5
    world.save(2, took_s=1.0)
    world.machines.hear("there", DRAINED)
    assert [worker for worker, _ in world.mailbox.orders] == [3, 4, 2]
    assert {order for _, order in world.mailbox.orders} == {Warn(source="Ray", deadline=1060.0)}


def test_saves_that_do_not_fit_into_the_time_that_is_left_are_not_begun(world: World) -> None:
    for worker, took_s in ((2, 30.0), (3, 25.0), (4, 15.0)):
        world.save(worker, took_s)
        world.now += 1
    world.now = 1010.0
    world.machines.hear("there", DRAINED)
    assert [(worker, order.saves) for worker, order in world.mailbox.orders] == [(2, True), (3, False), (4, False)]


@pytest.mark.parametrize(("window_s", "fit"), [(None, [1, 2, 3]), (100.0, [1, 2, 3]), (50.0, [1, 3]), (0.0, [3])])
def test_a_plan_of_saves(window_s: float | None, fit: list[int]) -> None:
    trials = [AtRisk(3, 1.0, 0.0), AtRisk(1, 9.0, 30.0), AtRisk(2, 5.0, 20.0)]
    plan = list(plan_saves(trials, window_s))
    assert [worker for worker, _ in plan] == [1, 2, 3]
    assert [worker for worker, saves in plan if saves] == fit


def test_what_becomes_of_a_machine_that_was_to_go_is_a_preemption_for_ever(world: World) -> None:
    """Whenever it goes: Ray forgets that it was draining a machine that dies before its deadline."""
    world.drains.latest = {"there": DRAINED}
    world.machines.look()
    world.drains.latest = {}
    world.machines.look()
    assert world.workers[2].notice == "Ray: its machine is taken away"
    assert not world.workers[1].notice
    assert world.machines.shunned == ["there"]


def test_a_notice_is_told_once(world: World) -> None:
    world.drains.latest = {"there": DRAINED}
    for _ in range(3):
        world.machines.look()
    assert len(world.mailbox.orders) == 3


def test_nothing_is_placed_on_a_machine_that_is_to_go(world: World) -> None:
    assert world.pool.capacity() == 4
    world.machines.hear("there", DRAINED)
    assert world.pool.capacity() == 1
    for worker in (2, 3, 4):
        world.pool.lost(worker)
    world.pool.submit(Assign(trial=9, attempt=1, spec=b""), SHAPE)
    assert world.pool.plan().start == []


AWS = NodeNotice("AWS", deadline=1120.0)


def test_trials_without_another_place_train_on_until_it_takes_the_rest_to_save_them(world: World) -> None:
    """They are saved at once, whatever happens then, and again as they leave."""
    for worker, took_s in ((2, 4.0), (3, 8.0), (4, 0.0)):
        world.save(worker, took_s)
    world.machines.hear("there", AWS)
    assert sorted(told(world)) == [(2, False), (3, False), (4, False)]
    assert {world.workers[worker].notice for worker in (2, 3, 4)} == {"AWS: its machine is taken away"}
    for world.now in (1010.0, 1020.0):
        for worker in (2, 3, 4):
            report(world, worker, 10.0)
    world.now = 1120 - 15 - 1.25 * 12 - 1.5 * 10.0 - 1
    for worker in (2, 3, 4):
        report(world, worker, 10.0)
    world.machines.look()
    assert told(world) == []
    world.now += 1
    world.machines.look()
    assert sorted(told(world)) == [(2, True), (3, True), (4, True)]
    world.machines.look()
    assert told(world) == []


def test_a_row_that_takes_long_is_begun_in_time(world: World) -> None:
    """How long it takes shows only as it goes on."""
    world.machines.hear("there", AWS)
    told(world)
    world.now = 1041.0
    world.machines.look()
    assert told(world) == [], "15 s and one and a half times 41 s are left"
    world.now = 1043.0
    world.machines.look()
    assert len(told(world)) == 3


def test_who_has_a_place_elsewhere_leaves_for_it_those_with_most_to_lose_first(world: World) -> None:
    for worker in (4, 2, 3):
        world.start(worker)
        world.now += 1
    world.pool.ended((world.trial(1), 1))
    world.machines.hear("there", AWS)
    assert told(world) == [(4, True), (2, False), (3, False)]
    world.machines.look()
    assert told(world) == [], "the one place is that of the one who goes"
    world.pool.lost(4)
    world.pool.submit(Assign(trial=9, attempt=1, spec=b""), SHAPE)
    world.pool.plan()
    world.machines.look()
    assert told(world) == []
    world.pool.ended((9, 1))
    world.machines.look()
    assert told(world) == [(2, True)]


def test_a_worker_whose_trial_is_done_does_not_stay(world: World) -> None:
    world.machines.hear("there", AWS)
    told(world)
    world.pool.ended((world.trial(3), 1))
    world.pool.lost(2)
    world.machines.look()
    assert told(world) == [(3, True)]


def test_a_machine_that_is_gone_soon_is_left_at_once(world: World) -> None:
    world.machines.hear("there", AWS._replace(deadline=1059.0))
    world.machines.hear("here", AWS._replace(deadline=None))
    assert {ends for _, ends in told(world)} == {True}


def test_a_notice_that_is_taken_back_has_its_trials_stay_for_good(world: World) -> None:
    world.machines.hear("there", NodeNotice("Azure", deadline=1120.0))
    told(world)
    world.machines.withdraw("there", "Azure")
    assert not world.workers[2].notice
    calm = Warn(source="Azure", is_withdrawn=True)
    assert world.mailbox.orders == [(2, calm), (3, calm), (4, calm)], "or each trial to come would be saved for nothing"
    assert world.pool.capacity() == 4
    world.now = 1110.0
    world.machines.look()
    assert told(world) == []
    world.pool.ended((world.trial(2), 1))
    world.pool.submit(Assign(trial=9, attempt=1, spec=b""), SHAPE)
    assert [worker for worker, _ in world.pool.plan().assign] == [2]


def test_a_worker_that_comes_up_there_all_the_same_is_told(world: World) -> None:
    world.machines.hear("there", DRAINED)
    world.mailbox.orders.clear()
    world.machines.came_up(world.workers[3])
    world.machines.came_up(world.workers[1])
    assert [worker for worker, _ in world.mailbox.orders] == [3]
    assert world.workers[3].notice


def test_a_machine_that_may_stay_keeps_its_trials_and_gets_more(world: World) -> None:
    world.machines.hear("there", NodeNotice("AWS", ends=False))
    assert [order.ends for _, order in world.mailbox.orders] == [False] * 3
    assert world.pool.capacity() == 4
    assert not world.workers[2].notice


def test_only_who_gave_a_notice_can_take_it_back(world: World) -> None:
    world.machines.hear("there", DRAINED)
    world.machines.withdraw("there", "Azure")
    assert world.machines.shunned == ["there"]
    world.machines.hear("there", NodeNotice("Azure", deadline=1030.0))
    world.machines.withdraw("there", "Ray")
    assert world.machines.shunned == ["there"]
    world.machines.withdraw("there", "Azure")
    assert world.machines.shunned == []
    assert world.pool.capacity() == 4


def test_advice_to_leave_does_not_keep_a_notice_that_is_taken_back(world: World) -> None:
    """The machine may well stay, as it might before."""
    world.machines.hear("there", NodeNotice("AWS rebalance recommendation", ends=False))
    world.machines.hear("there", AWS)
    told(world)
    world.machines.withdraw("there", "AWS")
    assert [order.source for _, order in world.mailbox.orders] == ["AWS rebalance recommendation"] * 3
    assert told(world) == [(2, False), (3, False), (4, False)]
    assert world.machines.shunned == []
    assert not any(record.notice or record.is_leaving for record in world.workers.values())
    world.now = 1110.0
    world.machines.look()
    assert told(world) == []
    for worker in (2, 3, 4):
        world.pool.ended((world.trial(worker), 1))
    world.pool.submit(Assign(trial=9, attempt=1, spec=b""), SHAPE)
    plan = world.pool.plan()
    assert plan.start == []
    assert plan.assign[0][0] in (2, 3, 4)


def test_a_notice_that_is_taken_back_is_that_of_the_machine_alone(world: World) -> None:
    """A process may have been told to end by itself, or is not to be used again for another reason."""
    world.machines.hear("there", AWS)
    world.pool.give_notice(2, "SIGTERM")
    world.pool.leave(world.workers[3])
    world.machines.withdraw("there", "AWS")
    assert world.workers[2].notice == "SIGTERM"
    assert [world.workers[worker].is_leaving for worker in (2, 3, 4)] == [True, True, False]
    assert not world.workers[3].notice


def test_a_machine_that_is_there_long_after_its_time_stays(world: World) -> None:
    """Nobody is left on it to say that its cloud has changed its mind. Ray's word stands."""
    world.machines.hear("there", NodeNotice("Azure", deadline=1030.0))
    world.machines.hear("here", DRAINED)
    world.now = 1330.0
    world.machines._refresh()
    assert world.machines.shunned == ["here", "there"]
    world.now = 2000.0
    world.machines._refresh()
    assert world.machines.shunned == ["here"]


def test_a_notice_that_was_just_heard_is_not_forgotten_whatever_the_clocks_say(world: World) -> None:
    """That of the driver may be far ahead of the cloud's: the machine goes, and its workers went with it."""
    late = NodeNotice("AWS", deadline=world.now - 1000.0)
    world.machines.hear("there", late)
    assert {ends for _, ends in told(world)} == {True}
    for world.now in (1290.0, 1580.0):
        world.machines._refresh()
        assert world.machines.shunned == ["there"]
        world.machines.hear("there", late)
    world.now = 1881.0
    world.machines._refresh()
    assert world.machines.shunned == []


def test_a_time_that_is_over_when_it_is_heard_is_soon(world: World) -> None:
    """One clock is wrong, since the machine still speaks; so there is time to save."""
    for worker in (2, 3, 4):
        world.save(worker, took_s=5.0)
    world.machines.told(world.workers[2], MachineNotice(source="AWS", deadline=world.now - 60.0))
    assert {(order.deadline, order.saves) for _, order in world.mailbox.orders} == {(1030.0, True)}


def test_what_a_worker_has_heard_is_about_its_own_machine(world: World) -> None:
    world.machines.told(world.workers[2], MachineNotice(source="Azure"))
    assert world.machines.shunned == ["there"]
    assert {order.deadline for _, order in world.mailbox.orders} == {1030.0}, "without a time, it is soon"
    world.machines.told(None, MachineNotice(source="Azure"))
    world.machines.told(world.workers[3], MachineNotice(source="Azure", is_withdrawn=True))
    assert world.machines.shunned == []


def test_a_guess_does_not_put_off_what_is_known(world: World) -> None:
    """An event that has begun has no time any more; and another process may come to ask the cloud."""
    world.machines.told(world.workers[2], MachineNotice(source="Azure", deadline=1090.0))
    world.machines.told(world.workers[3], MachineNotice(source="GCP"))
    world.mailbox.orders.clear()
    world.now = 1020.0
    world.machines.told(world.workers[3], MachineNotice(source="GCP"))
    assert told(world) == []
    world.machines.told(world.workers[2], MachineNotice(source="Azure"))
    assert world.machines._notices.known("there", "Azure") == NodeNotice("Azure", 1050.0), (
        "it has begun before its time"
    )
    world.now = 1040.0
    world.mailbox.orders.clear()
    world.machines.told(world.workers[2], MachineNotice(source="Azure"))
    assert told(world) == []


def test_a_second_notice_does_not_forget_how_long_rows_take(world: World) -> None:
    world.machines.hear("there", AWS)
    for worker in (2, 3, 4):
        report(world, worker, 40.0)
    world.machines.hear("there", NodeNotice("Ray", deadline=1110.0))
    told(world)
    world.now = 1110.0 - 15 - 1.5 * 40.0
    for worker in (2, 3, 4):
        report(world, worker, 1.0)
    world.machines.look()
    assert len(told(world)) == 3


@pytest.mark.parametrize("deadline", [1110.0, 1200.0])
def test_a_second_notice_does_not_have_those_stay_that_were_told_to_leave(world: World, deadline: float) -> None:
    """Their process ends after the next row whatever it is told: the one with the place, and one that got SIGTERM."""
    world.pool.ended((world.trial(1), 1))
    world.pool.give_notice(4, "SIGTERM")
    world.machines.hear("there", AWS)
    world.pool.submit(Assign(trial=9, attempt=1, spec=b""), SHAPE)
    world.pool.plan()
    assert told(world) == [(2, False), (3, False)], "the place is that of the one who got SIGTERM"
    world.pool.ended((9, 1))
    world.pool.lost(4)
    world.machines.look()
    assert told(world) == [(2, True)]
    world.pool.submit(Assign(trial=10, attempt=1, spec=b""), SHAPE)
    world.pool.plan()
    world.machines.hear("there", NodeNotice("Ray", deadline=deadline))
    assert sorted(told(world)) == [(2, True), (3, False)]
    assert world.machines._stays.keys() == {3}


def test_advice_takes_no_notice_back(world: World) -> None:
    world.machines.hear("there", AWS._replace(deadline=1030.0))
    assert {ends for _, ends in told(world)} == {True}
    world.machines.withdraw("there", "AWS")
    assert world.mailbox.orders == []
    world.machines.hear("there", NodeNotice("AWS rebalance recommendation", ends=False))
    assert told(world) == [], "they leave all the same"
    for worker in (2, 3, 4):
        world.pool.lost(worker)
    world.machines.look()
    assert world.machines._going == set()


def test_nothing_is_remembered_of_trials_that_have_ended(world: World) -> None:
    """But for those that go on: how long a save took is known at once on the next machine."""
    for worker in (2, 3, 4):
        world.save(worker, 5.0)
    world.machines.follow(TrialReturned(trial=world.trial(2), attempt=1))
    world.machines.follow(TrialPreempted(trial=world.trial(3), attempt=1, reason="AWS"))
    assert world.machines._saved.keys() == {world.trial(3), world.trial(4)}


def test_the_gravest_notice_counts() -> None:
    notices = Notices()
    notices.hear("n", NodeNotice("rebalance", deadline=1.0, ends=False), 0.0)
    notices.hear("n", NodeNotice("Ray"), 0.0)
    notices.hear("n", NodeNotice("AWS", deadline=9.0), 0.0)
    assert notices.of("n") == NodeNotice("AWS", deadline=9.0)


def test_a_ray_that_cannot_be_asked_costs_notices_and_nothing_else() -> None:
    asked, was_seen = 0, threading.Event()

    def ask() -> dict[str, NodeNotice]:
        nonlocal asked
        asked += 1
        if asked > 1:
            was_seen.wait(120)
            raise AttributeError("get_draining_nodes")
        return {"n": DRAINED}

    watch = DrainWatch(ask)
    eventually(lambda: watch.latest == {"n": DRAINED})
    was_seen.set()
    eventually(lambda: watch.latest == {})
    watch.close()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
