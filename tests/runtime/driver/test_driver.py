"""The order of a turn: stamp, journal, commit, decide, act. No Ray, no disk."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from typing import Any

import pytest

from tunekit.core.commands import Command, ContinueTrial, LaunchTrial, StopTrial
from tunekit.core.events import (
    CapacityChanged,
    Draw,
    DriverStarted,
    Event,
    ResultReported,
    SearcherFailed,
    Settings,
    StopCriterionFailed,
    TimerFired,
    TrialHalted,
    TrialReturned,
    TrialStarted,
)
from tunekit.core.experiment import Experiment
from tunekit.core.state import State
from tunekit.errors import ExperimentExistsError
from tunekit.runtime.driver.driver import Driver
from tunekit.runtime.line.spec import Delivery, ExecutorCommand
from tunekit.schedulers import FIFO
from tunekit.types import Metrics, Outcome, TrialStatus


class Log(list[tuple[str, Any]]):
    """Everything that the driver's neighbours were asked, in one order."""


class FakeJournal:
    def __init__(self, log: Log) -> None:
        self.log = log
        self.patience_s = 0.0
        self.fails = False

    def append(self, records: Sequence[Event | Command]) -> None:
        self.log.append(("append", list(records)))

    def commit(self) -> None:
        if self.fails:
            raise OSError("disk full")
        self.log.append(("commit", None))


class FakeSearcher:
    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.told: list[Any] = []

    def ask(self, first: int, count: int) -> tuple[list[Draw], bool]:
        if self.fails:
            raise RuntimeError("no ideas")
        return [Draw(values={"x": first + i}) for i in range(count)], False

    def tell(self, trial: int, draw: Draw, metrics: Metrics | None, failed: bool) -> None:  # noqa: FBT001
        self.told.append((trial, draw.values, metrics, failed))


class FakeExecutor:
    def __init__(self, log: Log) -> None:
        self.log = log

    def execute(self, commands: list[ExecutorCommand]) -> None:
        self.log.append(("execute", list(commands)))

    def acknowledge(self, tokens: list[object]) -> None:
        self.log.append(("acknowledge", list(tokens)))

    def close(self) -> None:
        pass


class NoPublisher:
    def submit(self, commands: Sequence[Any]) -> list[Event]:
        assert not commands
        return []

    def close(self, *, finish: bool = True) -> None:
        pass


class FakeClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


class World:
    """A driver with fakes around it."""

    def __init__(self, searcher: FakeSearcher | None = None, **driver: Any) -> None:
        self.log = Log()
        self.inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self.clock = FakeClock()
        self.journal = FakeJournal(self.log)
        self.searcher = searcher or FakeSearcher()
        self.driver = Driver(
            experiment=Experiment(FIFO()),
            journal=self.journal,
            searcher=self.searcher,
            publisher=NoPublisher(),
            inbox=self.inbox,
            clock=self.clock,  # type: ignore[arg-type]
            **driver,
        )

    def start(self, **settings: Any) -> None:
        self.driver.turn([DriverStarted(generation=1, settings=Settings(**settings))])
        self.driver.attach(FakeExecutor(self.log))
        self.driver.take([Delivery([CapacityChanged(max_live=1)])])

    @property
    def state(self) -> State:
        return self.driver.state

    def journalled(self) -> list[Any]:
        return [record for kind, records in self.log if kind == "append" for record in records]

    def executed(self) -> list[Any]:
        return [command for kind, commands in self.log if kind == "execute" for command in commands]

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.log]


def result(iteration: int, **metrics: float) -> ResultReported:
    return ResultReported(trial=0, attempt=1, iteration=iteration, metrics=metrics)


def test_nothing_is_carried_out_before_it_is_durable() -> None:
    world = World()
    world.start(num_trials=1)
    launched = next(i for i, (kind, _) in enumerate(world.log) if kind == "execute")
    assert isinstance(world.log[launched][1][0], LaunchTrial)
    before = world.kinds()[:launched]
    suggestion = max(i for i, (kind, _) in enumerate(world.log[:launched]) if kind == "commit")
    assert "append" in before[:suggestion]
    assert before[suggestion:].count("append") == 1, "only the commands themselves follow the commit"


def test_a_journal_that_fails_stops_the_driver_before_it_acts() -> None:
    world = World()
    world.driver.turn([DriverStarted(generation=1, settings=Settings(num_trials=1))])
    world.driver.attach(FakeExecutor(world.log))
    world.journal.fails = True
    with pytest.raises(OSError, match="disk full"):
        world.driver.take([Delivery([CapacityChanged(max_live=1)], token="t")])
    assert "execute" not in world.kinds()
    assert "acknowledge" not in world.kinds()


def test_senders_are_told_after_the_commit() -> None:
    world = World()
    world.start(num_trials=1)
    world.log.clear()
    world.driver.take([Delivery([TrialStarted(trial=0, attempt=1), result(1, loss=1.0)], token=7)])
    assert world.kinds() == ["append", "commit", "acknowledge"]
    assert world.log[-1] == ("acknowledge", [7])


class Seen:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, events: Sequence[Event], state: State) -> None:
        self.events += events


def patient() -> tuple[World, Seen]:
    """A driver in the middle of its first trial, whose journal is dear."""
    seen = Seen()
    world = World(observers=[seen])
    world.journal.patience_s = 1.0
    world.start(num_trials=1)
    world.driver.take([Delivery([TrialStarted(trial=0, attempt=1)], token=1)])
    world.clock.time = 10.0
    world.driver.take([])
    assert world.log[-1] == ("acknowledge", [1])
    world.log.clear()
    seen.events.clear()
    return world, seen


def test_what_nothing_follows_from_waits_for_company_but_not_for_long() -> None:
    """Where a commit is dear, rows wait for a second at most, and nobody hears of them before they are durable."""
    world, seen = patient()
    rows = [result(1, loss=1.0), result(2, loss=1.0), result(3, loss=1.0)]
    for number, row in enumerate(rows[:2]):
        world.clock.time += 0.4
        world.driver.take([Delivery([row], token=number)])
    assert (world.kinds(), seen.events) == (["append", "append"], [])
    assert world.driver._patience() == pytest.approx(0.6)
    world.clock.time += 0.7
    world.driver.take([])
    assert (world.kinds(), seen.events) == (["append", "append", "commit", "acknowledge"], rows[:2])
    assert world.log[-1] == ("acknowledge", [0, 1])
    assert world.driver._patience() > 10


def test_what_something_follows_from_is_durable_with_all_before_it_when_that_is_done() -> None:
    world, seen = patient()
    world.driver.take([Delivery([result(1, loss=1.0)], token=1)])
    world.driver.take([Delivery([TrialReturned(trial=0, attempt=1)], token=2)])
    assert world.kinds() == ["append", "append", "append", "commit", "acknowledge"]
    assert world.log[-1] == ("acknowledge", [1, 2])
    assert len(seen.events) == 2
    assert world.state.ended


def test_a_dear_journal_that_fails_stops_the_driver_before_it_acts() -> None:
    world = World()
    world.journal.patience_s = 1.0
    world.driver.turn([DriverStarted(generation=1, settings=Settings(num_trials=1))])
    world.driver.attach(FakeExecutor(world.log))
    world.journal.fails = True
    with pytest.raises(OSError, match="disk full"):
        world.driver.take([Delivery([CapacityChanged(max_live=1)], token="t")])
    assert {"execute", "acknowledge"}.isdisjoint(world.kinds())


def test_commands_wait_for_an_executor() -> None:
    world = World()
    world.driver.turn([DriverStarted(generation=1, settings=Settings(num_trials=1)), CapacityChanged(max_live=1)])
    assert "execute" not in world.kinds()
    world.driver.attach(FakeExecutor(world.log))
    assert world.log[-1] == ("execute", [LaunchTrial(trial=0, attempt=1)])


def test_events_are_stamped_with_experiment_time() -> None:
    world = World()
    world.start(num_trials=1)
    world.clock.time = 4.5
    row = result(1, loss=1.0)
    world.driver.take([Delivery([row])])
    assert row.at == 4.5
    assert world.state.now == 4.5


def test_a_stop_function_is_asked_once_and_its_verdict_is_recorded() -> None:
    asked: list[int] = []

    def judge(row: ResultReported) -> str:
        asked.append(row.iteration)
        return "enough" if row.iteration == 2 else ""

    world = World(stop=judge)
    world.start(num_trials=1, asks_every_result=True)
    world.driver.take([Delivery([TrialStarted(trial=0, attempt=1), result(1)])])
    assert world.executed()[-1] == ContinueTrial(trial=0, attempt=1, until=2)
    row = result(2)
    world.driver.take([Delivery([row])])
    assert row.stop == "enough"
    assert world.executed()[-1] == StopTrial(trial=0, attempt=1, reason="enough")
    world.driver.take([Delivery([TrialHalted(trial=0, attempt=1)])])
    assert world.state.trials[0].status is TrialStatus.COMPLETED
    assert asked == [1, 2]


def test_a_stop_function_is_not_asked_about_a_row_that_ends_its_trial() -> None:
    world = World(stop=lambda row: pytest.fail(f"asked about {row}"))
    world.start(num_trials=1, asks_every_result=True)
    row = ResultReported(trial=0, attempt=1, iteration=1, metrics={}, final=True)
    world.driver.take([Delivery([TrialStarted(trial=0, attempt=1), row, TrialReturned(trial=0, attempt=1)])])
    assert world.state.outcome is Outcome.FINISHED


def test_a_stop_function_that_raises_ends_the_experiment_and_charges_nobody() -> None:
    def judge(row: ResultReported) -> str:
        raise KeyError(row.iteration)

    world = World(stop=judge)
    world.start(num_trials=1, asks_every_result=True)
    world.driver.take([Delivery([TrialStarted(trial=0, attempt=1), result(1)])])
    assert world.state.outcome is Outcome.ERROR
    assert "KeyError: 1" in world.state.error
    assert world.state.trials[0].num_failures == 0
    assert world.state.trials[0].status is TrialStatus.STOPPING, "it is saved and paused"
    assert world.log[-1] == ("execute", [StopTrial(trial=0, attempt=1, reason=world.state.error, pause=True)])
    assert any(isinstance(record, StopCriterionFailed) for record in world.journalled())


def test_a_searcher_that_raises_ends_the_sweep_in_words() -> None:
    world = World(searcher=FakeSearcher(fails=True))
    world.start(num_trials=3)
    assert world.state.ended
    assert world.state.outcome is Outcome.ERROR
    assert "no ideas" in world.state.error
    assert any(isinstance(record, SearcherFailed) for record in world.journalled())


def test_a_searcher_that_learns_is_told_how_trials_end() -> None:
    world = World()
    world.start(num_trials=1, searcher_learns=True)
    events: list[Event] = [TrialStarted(trial=0, attempt=1), result(1, loss=0.5), TrialReturned(trial=0, attempt=1)]
    world.driver.take([Delivery(events)])
    assert world.searcher.told == [(0, {"x": 0}, {"loss": 0.5}, False)]


def test_a_deadline_that_has_passed_fires_with_the_next_turn() -> None:
    world = World()
    world.start(num_trials=1, time_budget_s=10.0)
    world.driver.take([Delivery([TrialStarted(trial=0, attempt=1)])])
    world.clock.time = 10.5
    world.driver.take([])
    assert any(isinstance(record, TimerFired) for record in world.journalled())
    assert world.state.outcome is Outcome.TIME_BUDGET


def test_run_gathers_what_has_piled_up_into_one_commit() -> None:
    world = World()
    world.start(num_trials=1)
    world.log.clear()
    world.inbox.put(Delivery([TrialStarted(trial=0, attempt=1)], token=1))
    world.inbox.put(Delivery([result(1), TrialReturned(trial=0, attempt=1)], token=2))
    world.driver.run()
    assert world.kinds().count("commit") == 1
    assert ("acknowledge", [1, 2]) in world.log
    assert world.state.outcome is Outcome.FINISHED


def test_a_driver_to_which_nothing_happens_sees_that_it_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would otherwise learn that with its next commit, and its trials may be silent for hours."""

    def replaced() -> None:
        raise ExperimentExistsError("another driver has taken over")

    monkeypatch.setattr("tunekit.runtime.driver.driver._LOOK_S", 0.01)
    world = World()
    world.start(num_trials=1)
    world.driver.look_out(replaced)
    world.inbox.put(Delivery([CapacityChanged(max_live=2)]))
    world.driver.wait()
    assert world.journalled()[-1].max_live == 2, "while something happens, it is the commit that tells"
    with pytest.raises(ExperimentExistsError):
        world.driver.wait()


def test_an_observer_that_raises_harms_nothing_and_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    class Raising:
        def observe(self, events: Sequence[Event], state: State) -> None:
            seen.append(len(events))
            raise BrokenPipeError

    world = World(observers=[Raising()])
    world.start(num_trials=1)
    assert seen == [1]
    assert "Raising raised" in caplog.text
    assert world.state.trials[0].status is TrialStatus.LAUNCHING


def test_a_stop_function_is_not_asked_about_what_does_not_count() -> None:
    world = World(stop=lambda row: pytest.fail(f"asked about {row}"))
    world.start(num_trials=1, asks_every_result=True)
    world.driver.take([Delivery([ResultReported(trial=0, attempt=0, iteration=1, metrics={})])])
    assert world.state.num_stale == 1


def test_observers_see_events_after_they_are_durable() -> None:
    seen: list[tuple[int, int]] = []

    class Watcher:
        def observe(self, events: Sequence[Event], state: State) -> None:
            commits = world.kinds().count("commit")
            seen.append((len(events), commits))
            assert state is world.state

    world = World(observers=[Watcher()])
    world.start(num_trials=1)
    assert seen == [(1, 1), (1, 2), (1, 3)]
