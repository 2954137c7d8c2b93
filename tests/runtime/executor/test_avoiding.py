"""An attempt keeps away from a node, unless there is no other."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tunekit.runtime.executor.avoiding import AVOID_S
from tunekit.runtime.executor.patience import Patience
from tunekit.runtime.executor.pool import Plan, Pool
from tunekit.runtime.line.shapes import Node, shape_of
from tunekit.runtime.line.wire import Assign

ONE = shape_of({"CPU": 1})
TWO = shape_of({"CPU": 2})


class Stage:
    """A pool on machines ``n0``, ``n1`` …, and a clock that stands still."""

    def __init__(self, *cpus: float, **options: Any) -> None:
        self.now = 0.0
        self.pool = Pool(clock=lambda: self.now, **options)
        self.nodes = [Node(f"n{index}", {"CPU": cpu}) for index, cpu in enumerate(cpus)]
        self.pool.see_nodes(self.nodes)

    def submit(self, trial: int, *avoid: str, shape: Any = ONE) -> Plan:
        self.pool.submit(Assign(trial=trial, attempt=1, spec=b"", avoid=list(avoid)), shape)
        return self.pool.plan()

    def come_up(self, worker: int, node: str) -> Plan:
        self.pool.came_up(worker, pid=100 + worker, node=node)
        return self.pool.plan()

    def end(self, trial: int) -> Plan:
        self.pool.ended((trial, 1))
        return self.pool.plan()


def assigned(plan: Plan) -> list[tuple[int, int]]:
    return [(worker, assign.trial) for worker, assign in plan.assign]


def test_a_worker_is_started_elsewhere() -> None:
    stage = Stage(2, 2)
    (record,) = stage.submit(1, "n0").start
    assert list(record.avoid) == ["n0"]
    assert assigned(stage.come_up(record.id, "n1")) == [(record.id, 1)]


def test_an_idle_worker_there_is_not_taken_and_serves_others() -> None:
    stage = Stage(1, 1)
    stage.submit(1)
    stage.come_up(1, "n0")
    stage.end(1)
    plan = stage.submit(2, "n0")
    assert (assigned(plan), [list(record.avoid) for record in plan.start]) == ([], [["n0"]])
    assert assigned(stage.submit(3)) == [(1, 3)]
    assert assigned(stage.come_up(2, "n1")) == [(2, 2)]


def test_it_waits_for_a_place_on_the_other_node_while_others_pass() -> None:
    stage = Stage(1, 1)
    stage.submit(1)
    stage.submit(2)
    stage.come_up(1, "n0")
    stage.come_up(2, "n1")
    stage.submit(3, "n0")
    stage.submit(4)
    assert assigned(stage.end(1)) == [(1, 4)]
    assert assigned(stage.end(2)) == [(2, 3)]


def test_an_idle_worker_there_gives_way_if_no_more_may_be_started() -> None:
    stage = Stage(1, 1, max_workers=1)
    stage.submit(1)
    stage.come_up(1, "n0")
    stage.end(1)
    plan = stage.submit(2, "n0")
    assert plan.retire == [1]
    assert [list(record.avoid) for record in plan.start] == [["n0"]]


@pytest.mark.parametrize(("cpus", "shape"), [((4,), ONE), ((4, 1), TWO)], ids=["the only node", "too small"])
def test_where_no_other_node_could_hold_it_it_runs_there_all_the_same(cpus: tuple[float, ...], shape: Any) -> None:
    stage = Stage(*cpus)
    patience = Patience(stage.pool.avoidance)
    assert patience.complain({}, 0.0, dict) == ""
    plan = stage.submit(1, "n0", shape=shape)
    assert [list(record.avoid) for record in plan.start] == [[]]
    assert assigned(stage.come_up(1, "n0")) == [(1, 1)]
    assert "was to avoid a node" in patience.complain({}, 0.0, dict)
    assert patience.complain({}, 1.0, dict) == "", "it is said once"


def test_it_does_not_wait_for_ever_for_a_node_that_others_keep_busy() -> None:
    stage = Stage(1, 1)
    stage.submit(1)
    stage.submit(2)
    stage.come_up(1, "n0")
    stage.come_up(2, "n1")
    stage.end(1)
    assert assigned(stage.submit(3, "n0")) == []
    stage.now = AVOID_S - 1
    stage.pool.see_nodes(stage.nodes)
    assert assigned(stage.pool.plan()) == []
    stage.now = AVOID_S
    stage.pool.see_nodes(stage.nodes)
    assert assigned(stage.pool.plan()) == [(1, 3)]


def test_a_node_that_goes_away_is_no_alternative_any_more() -> None:
    stage = Stage(1, 1)
    stage.submit(1)
    stage.come_up(1, "n0")
    stage.end(1)
    assert assigned(stage.submit(2, "n0")) == []
    stage.pool.see_nodes(stage.nodes[:1])
    assert assigned(stage.pool.plan()) == [(1, 2)]


def test_nobody_waits_behind_a_busy_worker_on_a_node_that_it_avoids() -> None:
    stage = Stage(1, 1, prefetch=2)
    stage.submit(1)
    stage.come_up(1, "n0")
    stage.pool.started((1, 1))
    stage.end(1)
    stage.submit(2)
    plan = stage.submit(3, "n0")
    assert 3 not in [trial for _, trial in assigned(plan)]
    assert Counter(record.shape for record in plan.start) == {ONE: 1}
