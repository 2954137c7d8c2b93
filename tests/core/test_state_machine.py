"""The core under everything that can happen to it: random workers, losses, late and repeated words, new drivers.

The machine plays the world, and only what the world can do: it answers commands, or fails to. The judge of the
simulator looks on. A second test says anything whatever to the core, which must neither raise nor contradict itself.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tunekit.core import invariants
from tunekit.core.commands import (
    AskSearcher,
    Command,
    ContinueTrial,
    DeleteCheckpoint,
    KillTrial,
    LaunchTrial,
    PublishCheckpoint,
    StopTrial,
)
from tunekit.core.events import (
    CapacityChanged,
    CheckpointDeleted,
    CheckpointPublished,
    DeleteFailed,
    Draw,
    DriverStarted,
    Event,
    PublishFailed,
    ResultReported,
    SearcherFailed,
    Settings,
    StopRequested,
    TimerFired,
    TrialHalted,
    TrialRaised,
    TrialReturned,
    TrialSaving,
    TrialsSuggested,
    TrialStarted,
    WorkerLost,
)
from tunekit.core.experiment import Experiment
from tunekit.core.policies import Scheduler
from tunekit.testing.events import adopted, launch_failed, missing, restore_failed, save_failed, staged
from tunekit.testing.sim_accounts import check_accounts
from tunekit.testing.sim_judge import Judge
from tunekit.testing.sim_options import SimOptions
from tunekit.testing.strategies import (
    ERROR,
    METRIC,
    experiment_events,
    found_events,
    loss_causes,
    schedulers,
    trial_events,
)
from tunekit.testing.strategies import settings as core_settings
from tunekit.types import LossCause

LAST = 5
"""Iteration at which trials end by themselves."""


class Worker:
    """An attempt as the world sees it."""

    def __init__(self, launch: LaunchTrial) -> None:
        self.trial, self.attempt = launch.trial, launch.attempt
        self.resume_from, self.until = launch.resume_from, launch.until
        self.iteration = launch.resume_from or 0
        self.is_started = self.is_waiting = self.is_final = False
        self.saved_at = self.iteration
        self.saving: int | None = None
        """Iteration of the save in flight."""
        self.stop: StopTrial | None = None
        self.is_killed = False
        self.how: dict[str, Any] = {}

    @property
    def about(self) -> dict[str, Any]:
        return {"trial": self.trial, "attempt": self.attempt}


class World(RuleBasedStateMachine):
    """Plays executor, searcher, store and user."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[tuple[Event, list[Command]]] = []
        self.workers: dict[tuple[int, int], Worker] = {}
        self.orphans: list[Worker] = []
        self.open_io: list[PublishCheckpoint | DeleteCheckpoint] = []
        self.asked: AskSearcher | None = None
        self.generation = 0
        self.now = 0.0

    # -- how it begins, goes on, and ends ------------------------------------------------------------------------------

    @initialize(scheduler=schedulers(), first=core_settings(resume_errored=False))
    def begin(self, scheduler: Scheduler, first: Settings) -> None:
        self.scheduler = scheduler
        self.settings = first
        self.experiment = Experiment(scheduler)
        self.judge = Judge(SimOptions(scheduler=scheduler))
        self.start_driver()
        self.tell(CapacityChanged(max_live=2))

    def tell(self, event: Event) -> None:
        event = msgspec.structs.replace(event, at=self.now)
        note(repr(event))
        commands = self.experiment.handle(event)
        invariants.check(self.experiment)
        self.judge.see(event, commands)
        self.history.append((event, commands))
        for command in commands:
            note(f"  {command!r}")
            self.obey(command)

    def obey(self, command: Command) -> None:
        match command:
            case LaunchTrial():
                self.workers[command.trial, command.attempt] = Worker(command)
            case ContinueTrial():
                worker = self.workers[command.trial, command.attempt]
                worker.until, worker.is_waiting = command.until, False
            case StopTrial():
                self.workers[command.trial, command.attempt].stop = command
            case KillTrial():
                self.workers[command.trial, command.attempt].is_killed = True
            case PublishCheckpoint() | DeleteCheckpoint():
                self.open_io.append(command)
            case AskSearcher():
                self.asked = command
            case _:
                pass

    def start_driver(self) -> None:
        self.orphans += self.workers.values()
        self.workers, self.open_io, self.asked = {}, [], None
        self.generation += 1
        self.tell(DriverStarted(generation=self.generation, settings=self.settings))

    def teardown(self) -> None:
        if not self.history:
            return
        fresh = Experiment(self.scheduler)
        for event, commands in self.history:
            assert fresh.handle(event) == commands
        assert fresh.state.trials == self.experiment.state.trials
        records = [record for event, commands in self.history for record in (event, *commands)]
        assert not list(check_accounts(records, Experiment(self.scheduler)))

    # -- workers -------------------------------------------------------------------------------------------------------

    def pick(self, data: st.DataObject) -> Worker:
        return self.workers[data.draw(st.sampled_from(sorted(self.workers)), label="attempt")]

    def end(self, worker: Worker, event: Event) -> None:
        del self.workers[worker.trial, worker.attempt]
        self.orphans.append(worker)
        self.tell(event)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), value=st.floats(0, 1))
    def worker_goes_on(self, data: st.DataObject, value: float) -> None:
        """Start, report a row, save, or come to an end: whatever is next."""
        worker = self.pick(data)
        if not worker.is_started:
            worker.is_started = True
            self.tell(TrialStarted(**worker.about, restored_from=worker.resume_from))
        elif worker.is_final or worker.stop is not None:
            if worker.saving is not None and not worker.is_final:
                self.tell(TrialSaving(**worker.about))
            self.settle(worker)
            self.end(worker, TrialReturned(**worker.about) if worker.is_final else TrialHalted(**worker.about))
        elif not worker.is_waiting:
            self.report(worker, value)

    def report(self, worker: Worker, value: float) -> None:
        worker.iteration += 1
        worker.is_final = worker.iteration >= LAST
        judged = self.settings.asks_every_result
        asks = judged or (worker.until is not None and worker.iteration >= worker.until)
        worker.is_waiting = asks and not worker.is_final
        stop = "enough" if judged and worker.iteration == LAST - 1 else ""
        row: dict[str, Any] = {
            "iteration": worker.iteration,
            "metrics": {METRIC: value},
            "final": worker.is_final,
            "stop": stop,
        }
        self.tell(ResultReported(**worker.about, **row))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), size=st.integers(1, 9), pinned=st.booleans(), score=st.none() | st.floats(0, 1))
    def worker_saves(self, data: st.DataObject, *, size: int, pinned: bool, score: float | None) -> None:
        """Begin to save; a save in flight is finished first."""
        worker = self.pick(data)
        if worker.iteration > worker.saved_at:
            self.settle(worker)
            worker.saved_at = worker.saving = worker.iteration
            worker.how = {"size": size, "pinned": pinned, "score": score}

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), fails=st.booleans())
    def save_is_finished(self, data: st.DataObject, *, fails: bool) -> None:
        """However far the trial has come meanwhile, and whatever it was told."""
        self.settle(self.pick(data), fails=fails)

    def settle(self, worker: Worker, *, fails: bool = False) -> None:
        iteration, worker.saving = worker.saving, None
        if iteration is not None and fails:
            self.tell(save_failed(worker.trial, iteration, worker.attempt))
        elif iteration is not None:
            self.tell(staged(worker.trial, iteration, worker.attempt, **worker.how))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), cause=loss_causes)
    def worker_is_lost(self, data: st.DataObject, cause: LossCause) -> None:
        worker = self.pick(data)
        self.end(worker, WorkerLost(**worker.about, cause=LossCause.KILLED if worker.is_killed else cause))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), retryable=st.booleans(), saves=st.booleans())
    def worker_raises(self, data: st.DataObject, *, retryable: bool, saves: bool) -> None:
        worker = self.pick(data)
        if worker.is_started:
            self.settle(worker)
            if saves:
                self.tell(staged(worker.trial, worker.iteration, worker.attempt, size=5, exact=False))
            self.end(worker, TrialRaised(**worker.about, error=ERROR, retryable=retryable))

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def worker_cannot_begin(self, data: st.DataObject) -> None:
        worker = self.pick(data)
        if worker.is_started:
            return
        if worker.resume_from is None:
            self.end(worker, launch_failed(worker.trial, worker.attempt))
        else:
            self.end(worker, restore_failed(worker.trial, worker.resume_from, worker.attempt))

    @precondition(lambda self: self.orphans)
    @rule(data=st.data())
    def zombie_speaks(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.orphans), label="zombie")
        event = data.draw(trial_events(worker.trial, worker.attempt))
        if not isinstance(event, CheckpointPublished | PublishFailed | CheckpointDeleted | DeleteFailed):
            self.tell(event)

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def message_comes_again(self, data: st.DataObject) -> None:
        event, _ = data.draw(st.sampled_from(self.history), label="again")
        if not isinstance(event, DriverStarted | SearcherFailed | StopRequested):
            self.tell(event)

    # -- everything else -----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.open_io)
    @rule(data=st.data(), fails=st.booleans())
    def store_answers(self, data: st.DataObject, *, fails: bool) -> None:
        command = self.open_io.pop(0)
        fields = ("trial", "attempt", "iteration", "exact")
        about = {field: getattr(command, field) for field in fields}
        match command, fails:
            case PublishCheckpoint(), False:
                self.tell(CheckpointPublished(**about))
            case PublishCheckpoint(), True:
                self.tell(PublishFailed(**about, error=ERROR))
            case _, False:
                self.tell(CheckpointDeleted(**about))
            case _:
                self.tell(DeleteFailed(**about, error=ERROR))

    @precondition(lambda self: self.asked)
    @rule(missing=st.integers(0, 2), exhausted=st.booleans())
    def searcher_answers(self, missing: int, *, exhausted: bool) -> None:
        assert self.asked is not None
        count = max(0, self.asked.count - missing)
        self.asked = None
        self.tell(TrialsSuggested(draws=[Draw(values={"x": 0})] * count, exhausted=exhausted))

    @precondition(lambda self: self.asked)
    @rule()
    def searcher_raises(self) -> None:
        self.asked = None
        self.tell(SearcherFailed(error=ERROR))

    @rule(max_live=st.integers(0, 4))
    def cluster_changes(self, max_live: int) -> None:
        self.tell(CapacityChanged(max_live=max_live))

    @rule(seconds=st.floats(0.01, 10.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        deadline = self.experiment.next_deadline()
        if deadline is not None and self.now >= deadline:
            self.tell(TimerFired())
            later = self.experiment.next_deadline()
            assert later is None or later > deadline or later > self.now - 1e-9

    @rule()
    def user_interrupts(self) -> None:
        self.tell(StopRequested(reason="Ctrl-C"))

    @rule(data=st.data())
    def driver_dies(self, data: st.DataObject) -> None:
        """Cadence and limits may change with each run of the script; what the sweep is may not.

        Neither do budgets change here: of a smaller one it is not known whether a loss before it still counts.
        """
        names = ("num_trials", "searcher_learns", "asks_every_result", "max_failures", "max_preemption_failures")
        fixed = {name: getattr(self.settings, name) for name in names}
        self.settings = data.draw(core_settings(resume_errored=False, **fixed))
        self.start_driver()
        self.look_around(data)
        self.tell(CapacityChanged(max_live=2))

    def look_around(self, data: st.DataObject) -> None:
        """Find that a checkpoint is gone, or that one that was told to go is still there."""
        trials = [trial for trial in self.experiment.state.trials if trial.checkpoints]
        looks = data.draw(st.booleans(), label="looks")
        if trials and looks:
            trial = data.draw(st.sampled_from(trials), label="trial")
            entry = trial.checkpoints[data.draw(st.sampled_from(sorted(trial.checkpoints)), label="iteration")]
            make = missing if data.draw(st.booleans(), label="is missing") else adopted
            self.tell(make(trial.trial, entry.iteration, entry.attempt))


World.TestCase.settings = settings(stateful_step_count=60, max_examples=60, deadline=None)
TestWorld = World.TestCase


@given(
    scheduler=schedulers(),
    first=core_settings(),
    later=core_settings(),
    data=st.data(),
)
@settings(max_examples=30, deadline=None)
def test_whatever_is_said_the_core_neither_raises_nor_contradicts_itself(
    scheduler: Scheduler, first: Settings, later: Settings, data: st.DataObject
) -> None:
    said: list[Event] = [DriverStarted(generation=1, settings=first), CapacityChanged(max_live=3)]
    one, other = Experiment(scheduler), Experiment(scheduler)
    answers = [one.handle(event) for event in said]
    for _ in range(data.draw(st.integers(5, 40))):
        trials = one.state.trials
        choice = data.draw(st.integers(0, 9 if trials else 1))
        if choice == 0:
            event: Event = DriverStarted(generation=one.state.generation + 1, settings=later)
        elif choice == 1:
            event = data.draw(experiment_events())
        elif choice == 2:
            trial = data.draw(st.sampled_from(trials))
            event = data.draw(found_events(trial.trial, max(1, trial.attempt)))
        else:
            trial = data.draw(st.sampled_from(trials))
            event = data.draw(
                trial_events(trial.trial, max(1, trial.attempt - data.draw(st.sampled_from([0, 0, 0, 1]))))
            )
        event = msgspec.structs.replace(event, at=one.state.now + 1.0)
        said.append(event)
        answers.append(one.handle(event))
        invariants.check(one)
    assert [other.handle(event) for event in said] == answers
