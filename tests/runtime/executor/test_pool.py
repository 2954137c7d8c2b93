"""Who runs what: spreading, starting, retiring, prefetching, without any process."""

from __future__ import annotations

from typing import Any

import pytest

from tunekit.errors import ResourcesError
from tunekit.runtime.executor.heads import Held
from tunekit.runtime.executor.patience import Patience, say
from tunekit.runtime.executor.pool import Plan, Pool
from tunekit.runtime.line.shapes import Node, Offers, check_shape, shape_of
from tunekit.runtime.line.wire import Assign

ONE = shape_of({"CPU": 1})
TWO = shape_of({"CPU": 2})


class Stage:
    """A pool, a clock that stands still, and workers that do as they are told."""

    def __init__(self, *cpus: float, **options: Any) -> None:
        self.now = 0.0
        self.pool = Pool(clock=lambda: self.now, **options)
        self.pool.see_nodes([Node(f"n{index}", {"CPU": cpu, "memory": 1.0}) for index, cpu in enumerate(cpus)])

    def submit(self, *trials: int, shape: Any = ONE) -> Plan:
        for trial in trials:
            self.pool.submit(Assign(trial=trial, attempt=1, spec=b""), shape)
        return self.pool.plan()

    def come_up(self, *workers: int, node: str = "n0") -> Plan:
        for worker in workers:
            self.pool.came_up(worker, pid=100 + worker, node=node)
        return self.pool.plan()

    def run(self, trial: int, seconds: float = 0.0) -> Plan:
        self.pool.started((trial, 1))
        self.now += seconds
        self.pool.ended((trial, 1))
        return self.pool.plan()

    def make_brief(self, num_workers: int) -> None:
        """Have it start workers, and learn that trials are brief."""
        trials = range(1000, 1000 + num_workers)
        self.submit(*trials)
        self.come_up(*range(1, num_workers + 1))
        for trial in trials:
            self.run(trial)


def assigned(plan: Plan) -> list[tuple[int, int]]:
    return [(worker, assign.trial) for worker, assign in plan.assign]


def started(plan: Plan) -> list[int]:
    return [record.id for record in plan.start]


def test_workers_are_started_as_far_as_there_is_room_and_work() -> None:
    stage = Stage(2, 1)
    assert started(stage.submit(0)) == [1]
    assert started(stage.submit(1, 2, 3, 4)) == [2, 3]
    assert stage.pool.capacity() == 3
    assert assigned(stage.come_up(2)) == [(2, 0)]
    assert assigned(stage.come_up(1)) == [(1, 1)]
    assert assigned(stage.run(0)) == [(2, 2)]


def test_how_long_a_worker_keeps_us_waiting() -> None:
    stage = Stage(2)
    assert stage.pool.longest_coming_s() == 0
    stage.submit(0)
    stage.now = 3.0
    stage.submit(1)
    stage.now = 5.0
    assert stage.pool.longest_coming_s() == 5.0
    stage.come_up(1)
    assert stage.pool.longest_coming_s() == 2.0
    stage.come_up(2)
    assert stage.pool.longest_coming_s() == 0


def test_no_more_workers_than_trials_may_run_at_a_time() -> None:
    stage = Stage(8, max_workers=2)
    assert started(stage.submit(*range(5))) == [1, 2]
    assert stage.pool.capacity() == 2


def test_a_lost_worker_leaves_what_it_had_and_room_for_another() -> None:
    stage = Stage(1)
    stage.submit(0, 1)
    stage.come_up(1)
    held = stage.pool.lost(1)
    assert [one.assign.trial for one in held] == [0]
    assert stage.pool.holder((0, 1)) is None
    assert started(stage.pool.plan()) == [2]


def test_a_leaving_worker_gets_nothing_and_makes_room_at_once() -> None:
    stage = Stage(1)
    stage.submit(0)
    stage.come_up(1)
    stage.pool.leave(stage.pool.workers[1])
    stage.run(0)
    assert started(stage.submit(1)) == [2]


def test_idle_workers_of_another_shape_make_room() -> None:
    stage = Stage(2)
    stage.submit(0, 1)
    stage.come_up(1, 2)
    stage.run(0)
    plan = stage.submit(2, shape=TWO)
    assert len(plan.retire) == 1
    assert started(plan) == [], "the other worker is busy"
    plan = stage.run(1)
    assert len(plan.retire) == 1
    assert started(plan) == [3]


def test_workers_with_work_are_not_retired() -> None:
    stage = Stage(2)
    stage.submit(0, 1)
    stage.come_up(1, 2)
    plan = stage.submit(2, shape=TWO)
    assert (plan.retire, started(plan)) == ([], [])


def test_demand_is_shown_by_one_worker_without_a_place() -> None:
    stage = Stage(1, shows_demand=True)
    assert stage.pool.capacity() == 2
    assert started(stage.submit(0, 1, 2, 3)) == [1, 2]
    assert started(stage.come_up(1)) == []
    stage.pool.see_nodes([Node("n0", {"CPU": 1.0}), Node("n1", {"CPU": 1.0})])
    assert started(stage.pool.plan()) == [3], "the one that waited has a place now"


def test_a_worker_that_shows_demand_does_not_keep_others_from_retiring() -> None:
    stage = Stage(2, shows_demand=True)
    stage.submit(0, shape=TWO)
    stage.come_up(1)
    assert started(stage.submit(1)) == [2]
    assert stage.run(0).retire == [1]


def test_trials_that_ask_for_nothing_are_bounded_by_the_processors() -> None:
    stage = Stage(2)
    assert started(stage.submit(*range(5), shape=shape_of({"CPU": 0}))) == [1, 2]


def test_nothing_is_prefetched_before_trials_are_known_to_be_brief() -> None:
    stage = Stage(1, prefetch=2)
    stage.submit(0, 1, 2)
    assert assigned(stage.come_up(1)) == [(1, 0)]
    assert stage.pool.capacity() == 1
    assert assigned(stage.run(0, seconds=0.01)) == [(1, 1), (1, 2)]
    assert stage.pool.capacity() == 3


def test_long_trials_are_not_prefetched() -> None:
    stage = Stage(1, prefetch=2)
    stage.submit(0, 1, 2)
    stage.come_up(1)
    assert assigned(stage.run(0, seconds=5.0)) == [(1, 1)]
    assert stage.pool.capacity() == 1


def test_prefetched_trials_are_spread_and_few() -> None:
    stage = Stage(2, prefetch=2)
    stage.make_brief(2)
    stage.submit(0, 1)
    plan = stage.submit(*range(2, 10))
    assert sorted(worker for worker, _ in plan.assign) == [1, 1, 2, 2]
    assert [worker for worker, _ in plan.assign][:2] in ([1, 2], [2, 1])


def test_nothing_is_queued_behind_a_long_trial() -> None:
    stage = Stage(1, prefetch=2)
    stage.make_brief(1)
    stage.submit(0)
    stage.now += 1.0
    assert assigned(stage.submit(1)) == []


def test_what_waits_behind_a_long_trial_is_recalled_for_an_idle_worker() -> None:
    stage = Stage(2, prefetch=2)
    stage.make_brief(2)
    stage.submit(0, 1, 2, 3)
    long, other = stage.pool.workers.values()
    for trial, _ in list(other.held):
        assert stage.run(trial).recall == [], "the other trial has not lasted long"
    stage.now += 1.0
    behind = list(long.held)[1]
    assert stage.pool.plan().recall == [(long.id, behind)]
    assert stage.pool.plan().recall == [], "it is asked for once"
    stage.pool.returned(behind)
    assert assigned(stage.pool.plan()) == [(other.id, behind[0])]


def test_what_is_told_to_stop_while_it_is_recalled_is_given_to_nobody() -> None:
    stage = Stage(1)
    stage.submit(0)
    stage.come_up(1)
    (key,) = stage.pool.workers[1].held
    stage.pool.workers[1].held[key].is_told_to_stop = True
    assert stage.pool.returned(key)
    assert assigned(stage.pool.plan()) == []


def test_what_waits_can_be_withdrawn() -> None:
    stage = Stage(1)
    stage.submit(0)
    assert stage.pool.withdraw((0, 1))
    assert not stage.pool.withdraw((0, 1))
    assert assigned(stage.come_up(1)) == []


def test_all_that_wait_can_be_taken_back() -> None:
    stage = Stage(1)
    stage.submit(0, 1)
    stage.submit(2, shape=TWO)
    assert [assign.trial for assign in stage.pool.take_waiting(TWO)] == [2]
    assert [assign.trial for assign in stage.pool.take_waiting()] == [0, 1]
    assert assigned(stage.come_up(1)) == []


def test_attempts_that_are_put_back_come_first_and_in_order() -> None:
    stage = Stage(1)
    stage.submit(0, 1)
    held = [Held(Assign(trial=trial, attempt=1, spec=b""), is_started=trial == 7) for trial in (7, 8, 9)]
    assert stage.pool.put_back(ONE, held) == []
    assert assigned(stage.come_up(1)) == [(1, 8)]
    assert assigned(stage.run(8)) == [(1, 9)]
    assert assigned(stage.run(9)) == [(1, 0)]


def test_what_was_told_to_stop_is_not_given_to_a_worker_that_does_not_know_of_it() -> None:
    stage = Stage(1)
    told = Held(Assign(trial=8, attempt=1, spec=b""), is_told_to_stop=True)
    assert stage.pool.put_back(ONE, [told, Held(Assign(trial=9, attempt=1, spec=b""))]) == [(8, 1)]
    assert [assign.trial for assign in stage.pool.take_waiting()] == [9]


def test_tiny_amounts_are_counted_at_once() -> None:
    stage = Stage(2)
    stage.submit(0, shape=shape_of({"CPU": 1e-9}))
    assert stage.pool.capacity() == pytest.approx(2e9, rel=0.01)


def test_amounts_that_do_not_add_up_exactly_in_binary_fill_a_machine() -> None:
    stage = Stage(1)
    stage.submit(0, shape=shape_of({"CPU": 0.1}))
    assert stage.pool.capacity() == 10


def test_a_machine_that_went_away_is_waited_for() -> None:
    shape = shape_of({"CPU": 1, "x": 1})
    small, special = Node("n0", {"CPU": 1.0}), Node("n1", {"CPU": 1.0, "x": 1.0})
    offers = Offers([])
    offers.see([small, special])
    offers.see([small])
    offers.check(shape)
    with pytest.raises(ResourcesError, match="x=2"):
        offers.check(shape_of({"x": 2}))
    stage = Stage(1)
    stage.submit(0)
    stage.come_up(1)
    stage.run(0)
    plan = stage.submit(1, shape=shape)
    assert (started(plan), plan.retire) == ([], []), "no worker makes room for what fits nowhere"
    assert stage.pool.starving() == {shape: 1}
    stage.pool.see_nodes([small, special])
    assert started(stage.pool.plan()) == [2]
    assert stage.pool.starving() == {shape: 1}
    assert assigned(stage.come_up(2, node="n1")) == [(2, 1)]
    assert stage.pool.starving() == {}


def test_who_waits_for_our_own_workers_is_not_starving() -> None:
    stage = Stage(1)
    stage.submit(0, 1)
    stage.come_up(1)
    assert stage.pool.starving() == {}
    stage.submit(2, shape=shape_of({"CPU": 0.5}))
    assert stage.pool.starving() == {}


def test_it_is_said_once_a_minute_what_is_waited_for() -> None:
    patience = Patience()

    def complain(now: float, **starving: int) -> str:
        shapes = {shape_of({name: 1}): count for name, count in starving.items()}
        return patience.complain(shapes, now, lambda: {"CPU": 0.5, "memory": 1e9, "node:1.2.3.4": 1.0})

    assert complain(0.0, CPU=2) == ""
    assert complain(9.0, CPU=2) == ""
    said = "tunekit: trials have waited 11 s without a worker: 3 for CPU=1; free in the cluster: CPU=0.5\n"
    assert complain(11.0, CPU=3) == said
    assert complain(60.0, CPU=3) == ""
    assert "72 s" in complain(72.0, CPU=3)
    assert complain(140.0) == ""
    assert complain(141.0, CPU=1) == "", "it begins anew"


def test_a_shape_that_fits_nowhere_is_refused_with_what_there_is() -> None:
    offers = [{"CPU": 4.0, "memory": 1e9, "node:10.0.0.1": 1.0}, {"CPU": 2.0, "GPU": 1.0}]
    check_shape(shape_of({"CPU": 4}), offers)
    check_shape(shape_of({"CPU": 1, "GPU": 0.5}), offers)
    with pytest.raises(ResourcesError, match=r"CPU=4 GPU=1, but no node .* the biggest offers CPU=4\n"):
        check_shape(shape_of({"CPU": 4, "GPU": 1}), offers)
    with pytest.raises(ResourcesError, match="no node is alive"):
        check_shape(ONE, [])


# -- who is at the head ------------------------------------------------------------------------------------------------


def heads(stage: Stage) -> list[tuple[int, str]]:
    return [(event.trial, event.node) for event in stage.pool.take_assigned()]


def test_what_comes_to_the_head_of_a_worker_that_is_up_is_told_once() -> None:
    stage = Stage(1, announces=True)
    stage.submit(1)
    assert heads(stage) == [], "its worker is not up, and may be long in coming"
    stage.come_up(1)
    assert heads(stage) == [(1, "n0")]
    assert heads(stage) == []


def test_what_waits_behind_another_one_is_not_at_the_head_before_that_has_ended() -> None:
    stage = Stage(1, announces=True, prefetch=2)
    stage.make_brief(1)
    heads(stage)
    stage.submit(1, 2, 3)
    assert heads(stage) == [(1, "n0")]
    stage.run(1)
    assert heads(stage) == [(2, "n0")]
    stage.pool.ended((2, 1))
    stage.pool.started((3, 1))
    assert heads(stage) == [], "it has begun meanwhile"


def test_what_was_said_to_be_at_work_on_does_not_wait_in_silence() -> None:
    """S003-10, promise 6: its worker left before it began, and a wait for the next machine is no hang."""
    stage = Stage(1, announces=True, prefetch=2)
    stage.make_brief(1)
    heads(stage)
    stage.submit(1, 2, 3)
    assert heads(stage) == [(1, "n0")]
    held = stage.pool.lost(1)
    assert stage.pool.put_back(ONE, held) == [(1, 1)], "so the core is to hear of it"
    assert [assign.trial for assign in stage.pool.take_waiting()] == [2, 3]


def test_nothing_is_told_where_nobody_asks() -> None:
    stage = Stage(1)
    stage.submit(1)
    stage.come_up(1)
    assert heads(stage) == []


def test_a_worker_that_is_gone_had_been_at_work_on_the_first_of_what_it_had() -> None:
    stage = Stage(1)
    stage.submit(0)
    stage.come_up(1)
    stage.now += 7.0
    [first] = stage.pool.lost(1)
    assert first.head_s == 7.0
    stage.submit(1)
    stage.come_up(2)
    stage.pool.started((1, 1))
    stage.now += 5.0
    [begun] = stage.pool.lost(2)
    assert begun.head_s == 0.0, "how long it ran is in its rows"


def test_a_terminal_that_has_gone_takes_no_sweep_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say("trials have waited\n")
    assert capsys.readouterr().err == "trials have waited\n"

    class Gone:
        def write(self, text: str) -> None:
            raise OSError(9, "Bad file descriptor", text)

    monkeypatch.setattr("sys.stderr", Gone())
    say("trials have waited\n")
