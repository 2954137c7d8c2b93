"""A week on spot instances in virtual time: the production core and driver, on machines that are taken away.

::

    SpotWeek(SpotPlan(market=MARKETS["typical"], every_s=600.0), seed=1).run()

The searcher has no end of trials, so every place is always taken; the week ends with the time budget, which pauses what
runs. What is *wasted* is what was leased and is in no result that counts, as the ledger of production says
(``tunekit.core.accounts``): work that was computed again, saves that kept a trial waiting, restores. A place is leased
from the launch of a trial to the end of its attempt, which for one that was lost is when the driver hears of it.

The other simulator (``tunekit.testing.simulator``) is about what may never happen; this one is about what it costs.
"""

from __future__ import annotations

import queue
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunekit.config import CheckpointConfig
from tunekit.core.accounts import Accounts
from tunekit.core.books import Spent
from tunekit.core.codec import Record
from tunekit.core.commands import DeleteCheckpoint, LaunchTrial, PublishCheckpoint, StopTrial, TellOutlook
from tunekit.core.events import (
    CapacityChanged,
    CheckpointDeleted,
    CheckpointPublished,
    DriverStarted,
    Event,
    Settings,
    WorkerLost,
)
from tunekit.core.experiment import Experiment
from tunekit.core.policies import Scheduler
from tunekit.errors import InvariantViolationError
from tunekit.runtime.driver.commits import Recorder
from tunekit.runtime.driver.driver import Driver, Observer
from tunekit.runtime.driver.publisher import StoreCommand
from tunekit.runtime.line.spec import Delivery, ExecutorCommand
from tunekit.runtime.preemption.plan import AtRisk, plan_saves
from tunekit.schedulers import FIFO
from tunekit.testing.sim_options import METRIC
from tunekit.testing.sim_spot import HOUR_S, Instance, SpotMarket, make_trace
from tunekit.testing.sim_spot_workers import SpotAttempt, SpotTotals, SpotWorld, Workload
from tunekit.testing.sim_world import SimClock, SimSearcher, Timeline
from tunekit.types import LossCause, Mode, TrialId

WEEK_S = 168 * HOUR_S
_TURN_S = 0.01
_PUBLISH_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotReport:
    """What a week cost."""

    spent: Spent
    """Where its seconds went, as production's ledger has it from the journal."""
    leased_s: float
    """How long places were taken, as the world itself knows."""
    useful_s: float
    """How much work there is at the end, as the core knows: that of the newest rows, some of which are not saved."""
    num_saves: int
    num_lost: int
    """Attempts that ended with their machine."""
    num_left: int
    """Attempts that left a machine before its end."""
    num_rows: int

    @property
    def wasted(self) -> float:
        """The part of the leased time that was of no use."""
        return 1.0 - (self.spent.useful + self.spent.pruned) / self.spent.leased


class _Bookkeeper:
    """A journal that keeps the accounts and passes its records on."""

    patience_s = 0.0

    def __init__(self, journal: Recorder | None) -> None:
        self.accounts = Accounts()
        self._journal = journal

    def append(self, records: Sequence[Record]) -> None:
        """Take records, in their order."""
        for record in records:
            self.accounts.apply(record)
        if self._journal is not None:
            self._journal.append(records)

    def commit(self) -> None:
        """Have them written."""
        if self._journal is not None:
            self._journal.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotPlan:
    """What a week is like."""

    market: SpotMarket
    """How instances come and go."""
    workload: Workload = field(default_factory=Workload)
    every_s: float | str | None = "auto"
    """What ``CheckpointConfig.checkpoint_every_s`` says."""
    num_nodes: int = 8
    slots: int = 2
    """How many trials a machine holds."""
    length_s: float = WEEK_S
    scheduler: Scheduler = field(default_factory=FIFO)


class SpotWeek:
    """One sweep on a pool of spot instances.

    Args:
        plan: What it is like.
        seed: Decides everything. The trace depends on nothing else but the market, so that two plans can be compared.
        journal: Where the driver's records go; None: nowhere.
        observers: Are shown what was recorded.
    """

    def __init__(
        self, plan: SpotPlan, seed: int, *, journal: Recorder | None = None, observers: Sequence[Observer] = ()
    ) -> None:
        """Make the trace, and plan the coming and going of its machines."""
        self._plan = plan
        self._seed = seed
        self._timeline = Timeline()
        self._totals = SpotTotals()
        self._books = _Bookkeeper(journal)
        self._world = SpotWorld(
            workload=plan.workload,
            rng=random.Random(seed),  # noqa: S311 - the whole point is to be repeatable
            timeline=self._timeline,
            deliver=self._deliver,
            checkpoints=CheckpointConfig(checkpoint_every_s=plan.every_s),
            seed=seed,
        )
        self._up: dict[int, list[SpotAttempt]] = {}
        """What runs on each node that is there."""
        self._leaving: set[int] = set()
        self._attempts: dict[tuple[TrialId, int], SpotAttempt] = {}
        self._published: set[tuple[TrialId, int]] = set()
        self._inbox: list[Delivery] = []
        self._rung_at = -1.0
        searcher = SimSearcher(
            num_trials=10**9, coin=lambda _: False, failure=0.0, learns=False, in_flight=lambda: False
        )
        self.experiment = Experiment(plan.scheduler, Mode.MIN)
        self._driver = Driver(
            experiment=self.experiment,
            journal=self._books,
            searcher=searcher,
            publisher=self,
            inbox=queue.SimpleQueue(),
            clock=SimClock(self._timeline, 0.0),
            observers=observers,
        )
        for instance in make_trace(plan.market, num_nodes=plan.num_nodes, length_s=plan.length_s, seed=seed):
            self._expect(instance)

    def run(self) -> SpotReport:
        """Run it to its end."""
        settings = Settings(
            metric=METRIC,
            seed=self._seed,
            num_trials=None,
            ask_batch=1,
            tells_outlook=self._world.checkpoints.is_auto,
            time_budget_s=self._plan.length_s,
            stop_grace_s=HOUR_S,
            save_grace_s=HOUR_S,
        )
        self._driver.turn([DriverStarted(generation=1, settings=settings)])
        self._driver.attach(self)
        self._wind_alarm()
        while not self._driver.state.ended:
            if not self._timeline.step():
                raise InvariantViolationError(f"the week has stalled after {self._timeline.now} s")
        return self._report()

    def _report(self) -> SpotReport:
        trials = self._driver.state.trials
        return SpotReport(
            spent=self._books.accounts.total(trials),
            leased_s=self._totals.leased_s,
            useful_s=sum(trial.last.time_total_s for trial in trials if trial.last is not None),
            num_saves=self._totals.num_saves,
            num_lost=self._totals.num_lost,
            num_left=self._totals.num_left,
            num_rows=sum(trial.iteration for trial in trials),
        )

    # -- machines ------------------------------------------------------------------------------------------------------

    def _expect(self, instance: Instance) -> None:
        after = self._timeline.after
        after(instance.since, self._come, instance.node)
        if instance.until == float("inf"):
            return
        if notice_s := self._plan.market.notice_s:
            told = max(instance.since, instance.until - notice_s)
            after(told, self._announce, instance.node, instance.until)
        after(instance.until, self._go, instance.node)

    def _come(self, node: int) -> None:
        self._up[node] = []
        self._tell_capacity()

    def _announce(self, node: int, until: float) -> None:
        """Let production's plan say which trials save before the machine is gone."""
        self._leaving.add(node)
        self._tell_capacity()
        running = [attempt for attempt in self._up[node] if not attempt.is_over]
        at_risk = [AtRisk(place, attempt.risk_s, attempt.save_s) for place, attempt in enumerate(running)]
        for place, fits in plan_saves(at_risk, until - self._timeline.now):
            running[place].leave(saves=fits)

    def _go(self, node: int) -> None:
        for attempt in self._up.pop(node):
            attempt.die(LossCause.PREEMPTED)
        self._leaving.discard(node)
        self._tell_capacity()

    def _tell_capacity(self) -> None:
        self._deliver([CapacityChanged(max_live=self._plan.slots * (len(self._up) - len(self._leaving)))])

    def _find_place(self) -> int | None:
        for node, attempts in self._up.items():
            attempts[:] = [attempt for attempt in attempts if not attempt.is_over]
            if node not in self._leaving and len(attempts) < self._plan.slots:
                return node
        return None

    # -- the driver's executor -----------------------------------------------------------------------------------------

    def execute(self, commands: list[ExecutorCommand]) -> None:
        """Launch and stop trials."""
        for command in commands:
            if isinstance(command, LaunchTrial):
                self._launch(command)
            elif (attempt := self._attempts.get((command.trial, command.attempt))) is None:
                continue
            elif isinstance(command, StopTrial):
                attempt.stop(command)
            elif isinstance(command, TellOutlook):
                attempt.heed(command.outlook)

    def _launch(self, command: LaunchTrial) -> None:
        if command.resume_from is not None and (command.trial, command.resume_from) not in self._published:
            raise InvariantViolationError(f"{command!r} goes on from a checkpoint that is not there")
        node = self._find_place()
        if node is None:  # It went at the very moment of the decision.
            lost = WorkerLost(trial=command.trial, attempt=command.attempt, cause=LossCause.NOT_STARTED)
            self._deliver([lost])
            return
        attempt = SpotAttempt(self._world, self._totals, command, node)
        self._attempts[command.trial, command.attempt] = attempt
        self._up[node].append(attempt)

    def acknowledge(self, tokens: list[object]) -> None:
        """Note that messages are durable, which nobody here waits for."""

    # -- the driver's publisher ----------------------------------------------------------------------------------------

    def submit(self, commands: Sequence[StoreCommand]) -> list[Event]:
        """Carry commands to the store out, in a moment."""
        for command in commands:
            self._timeline.after(_PUBLISH_S, self._carry_out, command)
        return []

    def close(self, *, finish: bool = False) -> None:
        """End, with nothing to be ended."""

    def _carry_out(self, command: StoreCommand) -> None:
        trial, attempt, iteration = command.trial, command.attempt, command.iteration
        match command:
            case PublishCheckpoint():
                self._published.add((trial, iteration))
                self._deliver([CheckpointPublished(trial=trial, attempt=attempt, iteration=iteration)])
            case DeleteCheckpoint():
                self._published.discard((trial, iteration))
                self._deliver([CheckpointDeleted(trial=trial, attempt=attempt, iteration=iteration)])

    # -- turns ---------------------------------------------------------------------------------------------------------

    def _deliver(self, events: list[Event]) -> None:
        if not self._inbox:
            self._timeline.after(_TURN_S, self._turn)
        self._inbox.append(Delivery(events))

    def _turn(self) -> None:
        inbox, self._inbox = self._inbox, []
        self._driver.take(inbox)
        self._wind_alarm()

    def _wind_alarm(self) -> None:
        deadline = self.experiment.next_deadline()
        if deadline is not None and deadline != self._rung_at:
            self._rung_at = deadline
            self._timeline.after(max(0.0, deadline - self._timeline.now) + 1e-6, self._turn)
