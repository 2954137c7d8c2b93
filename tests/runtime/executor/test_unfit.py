"""A machine that joins a running sweep and cannot run its trials is passed over for a while, and ends nothing."""

from __future__ import annotations

import queue
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from announced import SHAPE, World

from tunekit.core.events import ErrorInfo, Event, LaunchFailed, Place, TrialStarted, WorkerLost
from tunekit.runtime.executor.losses import Losses
from tunekit.runtime.executor.patience import Patience
from tunekit.runtime.executor.pool import Pool
from tunekit.runtime.executor.ray_executor import RayExecutor
from tunekit.runtime.executor.unfit import PASS_OVER_S, Unfit
from tunekit.runtime.line.mailbox import Mailbox
from tunekit.runtime.line.shapes import Node, shape_of
from tunekit.runtime.line.spec import Delivery
from tunekit.runtime.line.wire import Assign, Leave, Upload, encode_said
from tunekit.types import LossCause

HEAD, LATE, LATER = (Node(name, {"CPU": 4.0}) for name in ("head", "late", "later"))
SMALL = Node("small", {})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def seen(unfit: Unfit, *nodes: Node, proven: int = 0) -> list[tuple[str, int | None]]:
    """Look at these machines, and return on which workers may be, and how many at most."""
    return [(node.id, node.max_workers) for node in unfit.see(nodes, SHAPE, {"late": proven})]


@pytest.fixture
def unfit(clock: Clock) -> Unfit:
    """A sweep that runs on one machine, after which another one has come."""
    unfit = Unfit(clock=clock)
    seen(unfit, HEAD)
    unfit.note_start("head", proves=True)
    seen(unfit, HEAD, LATE)
    return unfit


def test_it_is_passed_over_and_tried_again_with_one_worker(unfit: Unfit, clock: Clock) -> None:
    assert unfit.blame("late", "/data holds no experiment", is_sure=True)
    assert list(unfit.passed_over) == ["late"]
    assert seen(unfit, HEAD, LATE) == [("head", None)]
    clock.now += PASS_OVER_S
    assert seen(unfit, HEAD, LATE) == [("head", None), ("late", 1)]
    assert unfit.blame("late", "/data holds no experiment", is_sure=True)
    assert seen(unfit, HEAD, LATE) == [("head", None)]
    clock.now += PASS_OVER_S
    unfit.note_start("late", proves=True)
    assert seen(unfit, HEAD, LATE) == [("head", None), ("late", None)]


def test_who_runs_trials_there_goes_on_and_proves_nothing_for_others(unfit: Unfit, clock: Clock) -> None:
    """Its disk may have gone since; what it has loaded, it has."""
    unfit.blame("late", "no disk", is_sure=True)
    unfit.note_start("late", proves=False)
    assert seen(unfit, HEAD, LATE, proven=2) == [("head", None), ("late", 2)]
    clock.now += PASS_OVER_S
    assert seen(unfit, HEAD, LATE, proven=2) == [("head", None), ("late", 3)]


def test_a_reason_is_told_once_and_again_if_there_is_another(unfit: Unfit, capsys: pytest.CaptureFixture[str]) -> None:
    for why in ("no disk", "no disk", "no\nmodule", "no disk"):
        unfit.blame("late", why, is_sure=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["no disk", "no module", "no disk"]
    assert lines[0] == "tunekit: node late can run no trial, and is tried again in 60 s: no disk"
    seen(unfit, HEAD)
    assert not unfit.passed_over, "it is gone"


def test_a_worker_that_dies_there_is_no_proof_and_three_in_a_row_are(unfit: Unfit) -> None:
    for _ in range(2):
        assert unfit.blame("late", "no module named tunekit", is_sure=False)
    unfit.note_start("late", proves=True)
    for _ in range(2):
        assert unfit.blame("late", "no module named tunekit", is_sure=False)
        assert not unfit.passed_over
    assert unfit.blame("late", "no module named tunekit", is_sure=False)
    assert list(unfit.passed_over) == ["late"]


def test_what_was_there_from_the_start_ends_the_run() -> None:
    """That the storage is a folder of the driver's machine alone, say: better told at once than half a sweep later."""
    unfit = Unfit()
    seen(unfit, HEAD, LATE)
    unfit.note_start("head", proves=True)
    assert not unfit.blame("late", "no module named train", is_sure=True)
    assert not unfit.blame("", "who knows where", is_sure=True)
    assert not unfit.passed_over


def test_nothing_is_passed_over_before_anything_has_run() -> None:
    """Where all machines come later, as in a cluster that grows from nothing, what none can do would never be told."""
    unfit = Unfit()
    seen(unfit, HEAD)
    seen(unfit, HEAD, LATE)
    assert not unfit.blame("late", "no module named train", is_sure=True)


def test_after_a_rerun_it_is_still_one_bad_machine_among_others(clock: Clock) -> None:
    """The next driver finds it there from the start. Once none is left that might do, the run ends as ever."""
    unfit = Unfit(is_rerun=True, clock=clock)
    seen(unfit, SMALL, LATE, LATER)
    assert unfit.blame("late", "no disk", is_sure=True)
    assert not unfit.blame("later", "no disk", is_sure=True), "no other is large enough for a trial"
    clock.now += 2 * PASS_OVER_S
    seen(unfit, SMALL, LATE, LATER)
    assert not unfit.blame("later", "no disk", is_sure=True), "the other has not shown yet that it can"
    unfit.note_start("later", proves=True)
    assert unfit.blame("late", "no disk", is_sure=True)
    seen(unfit, SMALL, LATE, LATER)
    assert not unfit.blame("later", "its module is gone", is_sure=True), "nothing would be left"


def test_after_a_rerun_the_only_machine_is_never_passed_over() -> None:
    unfit = Unfit(is_rerun=True)
    seen(unfit, HEAD)
    unfit.note_start("head", proves=True)
    assert not unfit.blame("head", "a module was edited", is_sure=True)


def test_no_worker_is_started_there_and_those_that_come_up_there_are_sent_off() -> None:
    world = World()
    world.cluster.machines.append(Node("late", {"CPU": 3.0}))
    world.machines.follow(TrialStarted(trial=0, attempt=1, place=Place(node="here")))
    world.machines._refresh()
    assert world.pool.capacity() == 7
    first, second = (start_on_late(world, trial) for trial in (7, 8))
    world.workers[first].has_run = True
    third = start_on_late(world, 9, comes_up=False)
    assert world.machines.blame("late", "no disk", is_sure=True)
    assert world.machines.shunned == ["late"]
    assert world.mailbox.orders == [(second, Leave())], "not the one that runs trials there"
    world.pool.came_up(third, pid=third, node="late")
    world.machines.came_up(world.workers[third])
    assert world.mailbox.orders[1:] == [(third, Leave())]
    world.pool.submit(Assign(trial=10, attempt=1, spec=b""), SHAPE)
    assert world.pool.plan().start == []
    assert world.pool.capacity() == 5, "four elsewhere, and the one that runs trials there"


def test_a_trial_of_another_shape_is_what_it_is_tried_again_with() -> None:
    """What a machine offers then does not depend on what the newest attempt asks for."""
    large = shape_of({"CPU": 2.0, "GPU": 1.0})
    pool = Pool()
    pool.see_nodes([Node("late", {"CPU": 4.0, "GPU": 2.0}, 1)])
    pool.submit(Assign(trial=1, attempt=1, spec=b""), large)
    pool.submit(Assign(trial=2, attempt=1, spec=b""), SHAPE)
    assert [record.shape for record in pool.plan().start] == [large]
    assert pool.plan().start == []


def test_a_worker_that_ray_keeps_from_a_machine_takes_no_place_there_and_is_asked_for_anew() -> None:
    """Ray is told once where it must not be; by the time the machine is tried again, nothing else may have room."""
    pool = Pool()
    pool.see_nodes([LATER])
    pool.submit(Assign(trial=1, attempt=1, spec=b""), SHAPE)
    (hired,) = pool.plan().start
    hired.shuns = ["late"]
    pool.see_nodes([Node("late", {"CPU": 4.0}, 1)])
    pool.submit(Assign(trial=2, attempt=1, spec=b""), SHAPE)
    assert pool.outdated(["late"]) == []
    assert pool.outdated([]) == [hired]
    pool.lost(hired.id)
    (again,) = pool.plan().start
    assert pool.outdated([]) == []
    pool.came_up(again.id, pid=7, node="late")
    assert [worker for worker, _ in pool.plan().assign] == [again.id]


def start_on_late(world: World, trial: int, *, comes_up: bool = True) -> int:
    """Start a worker on the late machine."""
    world.pool.submit(Assign(trial=trial, attempt=1, spec=b""), SHAPE)
    (record,) = world.pool.plan().start
    if comes_up:
        world.pool.came_up(record.id, pid=record.id, node="late")
        world.machines.came_up(record)
        world.pool.plan()
    return record.id


def test_who_waits_for_a_place_there_is_told_why_it_is_not_taken() -> None:
    patience = Patience()
    arguments: tuple[Any, ...] = ({SHAPE: 1}, lambda: {"CPU": 8.0}, {"late": "no disk"})
    assert not patience.complain(arguments[0], 0.0, *arguments[1:])
    line = patience.complain(arguments[0], 11.0, *arguments[1:])
    assert line.endswith("free in the cluster: CPU=8; passed over: node late (no disk)\n")


@pytest.fixture(params=["late", "there from the start"])
def came(request: pytest.FixtureRequest) -> str:
    """When the machine has come, of which a trial thinks ill."""
    return str(request.param)


@pytest.fixture
def pool() -> Pool:
    """One worker, on a machine of its own, which holds an attempt."""
    pool = Pool()
    pool.see_nodes([LATE])
    pool.submit(Assign(trial=3, attempt=1, spec=b""), SHAPE)
    pool.plan()
    pool.came_up(1, pid=100, node="late")
    pool.plan()
    return pool


@dataclass
class Bench:
    """The executor's part: it delivers a failure as its worker says it, and returns what the driver hears."""

    pool: Pool
    is_late: bool
    blamed: list[bool] = field(default_factory=list)
    """How sure it was, each time."""
    sent_off: list[int] = field(default_factory=list)

    def blame(self, node: str, why: str, *, is_sure: bool) -> bool:
        assert (node, why) == ("late", "no disk hint: mount it")
        self.blamed.append(is_sure)
        return self.is_late

    def judge(self, failed: LaunchFailed) -> Event:
        mailbox, driver = Mailbox(), queue.SimpleQueue[Delivery]()
        machines = SimpleNamespace(
            follow=lambda event: None, blame=self.blame, send_off=lambda record: self.sent_off.append(record.id)
        )
        sweep = SimpleNamespace(fresh_process=False)
        executor: Any = SimpleNamespace(
            _pool=self.pool, _mailbox=mailbox, _driver=driver, _losses=Losses(), _sweep=sweep, _machines=machines
        )
        for name in ("_deliver", "_follow", "_judged"):
            setattr(executor, name, partial(getattr(RayExecutor, name), executor))
        mailbox.open(1)
        mailbox.exchange(msgspec.msgpack.encode(Upload(1, 1, [encode_said([failed])], 0, 0.0)))
        executor._deliver(mailbox.drain(0.0))
        (event,) = driver.get().events
        assert isinstance(event, LaunchFailed | WorkerLost)
        assert self.pool.holder((3, 1)) is None
        return event


@pytest.fixture
def bench(pool: Pool, came: str) -> Bench:
    return Bench(pool, is_late=came == "late")


FAILED = LaunchFailed(
    trial=3,
    attempt=1,
    error=ErrorInfo(type="X", message="no disk", hint="mount it"),
    fatal=True,
    node="late",
    took_s=0.5,
)


def test_an_attempt_that_was_turned_down_there_is_lost_at_no_cost(bench: Bench) -> None:
    event = bench.judge(FAILED)
    assert bench.blamed == [True]
    if bench.is_late:
        assert isinstance(event, WorkerLost)
        assert (event.cause, event.node, event.took_s) == (LossCause.NOT_STARTED, "late", 0.5)
        assert bench.sent_off == [1]
    else:
        assert event == FAILED
        assert bench.sent_off == []


@pytest.mark.parametrize("worker", ["new", "has run trials"])
def test_a_storage_that_cannot_be_read_is_charged_as_ever(bench: Bench, worker: str) -> None:
    """It may be the fault of the one checkpoint that was to be read: then the trial would be tried for ever."""
    bench.pool.workers[1].has_run = worker != "new"
    failed = msgspec.structs.replace(FAILED, fatal=False, cause=LossCause.STORAGE)
    assert bench.judge(failed) == failed
    assert bench.blamed == ([False] if worker == "new" else []), "one that has run trials has what it needs"
    assert bench.sent_off == ([1] if bench.is_late and worker == "new" else [])
