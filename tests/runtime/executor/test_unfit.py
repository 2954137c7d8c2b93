"""A machine that joins a running sweep and cannot run its trials is passed over for a while, and ends nothing."""

from __future__ import annotations

import pytest
from announced import SHAPE, World

from tunekit.core.events import TrialStarted
from tunekit.runtime.executor.unfit import PASS_OVER_S, Unfit
from tunekit.runtime.line.shapes import Node
from tunekit.runtime.line.wire import Assign

STARTED = TrialStarted(trial=0, attempt=1)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_passed_over_and_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    unfit = Unfit(clock)
    unfit.see(["head"])
    unfit.note_start()
    unfit.see(["head", "late"])
    assert unfit.pass_over("late", "/data holds no experiment")
    assert unfit.nodes == ["late"]
    clock.now += PASS_OVER_S
    assert unfit.nodes == []
    assert unfit.pass_over("late", "/data holds no experiment")
    assert unfit.nodes == ["late"]
    assert capsys.readouterr().err.count("on node late, tried again in 60 s: /data holds no experiment\n") == 1
    unfit.see(["head"])
    assert unfit.nodes == [], "it is gone"


def test_what_was_there_from_the_start_ends_the_run() -> None:
    """That the storage is a folder of the driver's machine alone, say: better told at once than half a sweep later."""
    unfit = Unfit()
    unfit.see(["head", "there"])
    unfit.note_start()
    assert not unfit.pass_over("there", "no module named train")
    assert unfit.nodes == []


def test_nothing_is_passed_over_before_anything_has_run() -> None:
    """Where all machines come later, as in a cluster that grows from nothing, what none can do would never be told."""
    unfit = Unfit()
    unfit.see(["head"])
    unfit.see(["head", "late"])
    assert not unfit.pass_over("late", "no module named train")


def test_no_worker_is_started_there() -> None:
    world = World()
    world.cluster.machines.append(Node("late", {"CPU": 1.0}))
    world.machines.follow(STARTED)
    world.machines.see()
    assert world.pool.capacity() == 5
    assert world.machines.pass_over("late", "no disk")
    assert world.pool.capacity() == 4
    assert world.machines.shunned == ["late"]
    world.pool.submit(Assign(trial=9, attempt=1, spec=b""), SHAPE)
    assert world.pool.plan().start == []
