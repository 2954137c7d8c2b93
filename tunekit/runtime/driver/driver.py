"""The shell around the core: journal, decide, act, in this order.

One *turn* takes whatever has happened since the last one: stamp it, append it to the journal, one fsync, hand it to the
core, carry the answers out. (Where a commit is dear, what has no consequence waits for what has one: see ``commits``.)
Everything that a turn needs to know came in as an event, and everything that it does is a command of the core; so a
driver that dies between two statements has lost nothing: the next one replays the journal, reaches the same state, and
issues again whatever was open.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import Protocol

from tunekit.core.commands import (
    AskSearcher,
    Command,
    ContinueTrial,
    DeleteCheckpoint,
    EndExperiment,
    InterruptTrial,
    KillTrial,
    LaunchTrial,
    PublishCheckpoint,
    StopTrial,
    TellOutlook,
    TellSearcher,
)
from tunekit.core.events import (
    Event,
    ResultReported,
    SearcherFailed,
    StopCriterionFailed,
    TimerFired,
    TrialsSuggested,
    judge,
    stamp,
)
from tunekit.core.experiment import Experiment
from tunekit.core.state import State
from tunekit.logs import logger_of
from tunekit.runtime.driver.clock import Clock
from tunekit.runtime.driver.commits import Commits, Recorder
from tunekit.runtime.driver.publisher import Publisher, StoreCommand
from tunekit.runtime.line.children import ending_children
from tunekit.runtime.line.failure import error_info
from tunekit.runtime.line.spec import Delivery, Executor, ExecutorCommand
from tunekit.search.base import SearcherState

logger = logger_of(__name__)

_MAX_DELIVERIES = 10_000
"""So many deliveries at most share one fsync: enough to batch, few enough to bound a turn."""
_IDLE_S = 60.0
"""Longest sleep without a deadline, so that signals are seen on every platform."""
_LOOK_S = 5.0
"""Longest sleep of a driver that can be replaced, so that it soon sees that it was."""

StopCriterion = Callable[[ResultReported], str]
"""Judges a row in the driver: the reason to end its trial here, or an empty string."""

Witness = Callable[[Event, State], None]
"""Is shown an event, and the state that it led to."""


class Observer(Protocol):
    """Sees what is in the journal, and can change nothing."""

    def observe(self, events: Sequence[Event], state: State) -> None:
        """Look at new events and at the state that they led to."""
        ...


class Driver:
    """Runs one experiment.

    Args:
        experiment: The core, replayed up to the end of the journal.
        journal: Where events become durable.
        searcher: Suggests configurations.
        publisher: Carries commands to the store out.
        inbox: Where executor and publisher put what has happened.
        clock: Stamps events.
        stop: Judges each row; None: nobody does.
        observers: See every journalled event.
    """

    def __init__(
        self,
        *,
        experiment: Experiment,
        journal: Recorder,
        searcher: SearcherState,
        publisher: Publisher,
        inbox: queue.SimpleQueue[Delivery],
        clock: Clock,
        stop: StopCriterion | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Keep the parts; nothing happens before the first turn."""
        self.experiment = experiment
        self.witness: Witness | None = None
        """Is shown each event as soon as the core has handled it, durable or not."""
        self._commits = Commits(journal, clock.now)
        self._unseen: list[Event] = []
        self._unconfirmed: list[object] = []
        self._searcher = searcher
        self._publisher = publisher
        self._inbox = inbox
        self._clock = clock
        self._stop = stop
        self._observers = list(observers)
        self._allowed: Callable[[], None] | None = None
        self._executor: Executor | None = None
        self._waiting: list[ExecutorCommand] = []

    @property
    def state(self) -> State:
        """The experiment's state, to be read only."""
        return self.experiment.state

    def attach(self, executor: Executor) -> None:
        """Give the driver its executor, and hand over the commands that waited for one."""
        self._executor = executor
        waiting, self._waiting = self._waiting, []
        if waiting:
            executor.execute(waiting)

    def look_out(self, allowed: Callable[[], None]) -> None:
        """Ask whether this is still the driver whenever nothing has happened for a while.

        Args:
            allowed: Raises if another one has taken over.
        """
        self._allowed = allowed

    def run(self) -> None:
        """Take turns until the experiment ends."""
        while not self.state.ended:
            self.wait()

    def wait(self) -> None:
        """Wait until something happens or a deadline comes, and take a turn."""
        deliveries = self._gather(block=True)
        if not deliveries and self._allowed is not None:
            self._allowed()
        self.take(deliveries)

    def take_pending(self) -> None:
        """Take a turn with what lies in the inbox, if anything does."""
        deliveries = self._gather(block=False)
        if deliveries:
            self.take(deliveries)

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Take a turn with these deliveries, and let their senders forget them."""
        events = [event for delivery in deliveries for event in delivery.events]
        deadline = self.experiment.next_deadline()
        if deadline is not None and self._clock.now() >= deadline:
            events.append(TimerFired())
        self._unconfirmed += [delivery.token for delivery in deliveries if delivery.token is not None]
        self.turn(events)
        if self._commits.left_s == 0:
            self._commits.flush()
        self._confirm()

    def turn(self, events: list[Event]) -> None:
        """Journal events, decide, act; then the same with what acting brought about at once."""
        while events:
            if self._stop is not None:
                events = self._judged(events, self._stop)
            at = self._clock.now()
            for event in events:
                stamp(event, at)
            self._commits.record(events)
            commands = self._decide(events)
            self._commits.answer(commands)
            self._unseen += events
            self._show()
            events = self._act(commands)

    def _decide(self, events: list[Event]) -> list[Command]:
        handle, witness = self.experiment.handle, self.witness
        if witness is None:
            return [command for event in events for command in handle(event)]
        commands = []
        for event in events:
            commands += handle(event)
            witness(event, self.state)
        return commands

    def _judged(self, events: list[Event], stop: StopCriterion) -> list[Event]:
        """Return the events with the user's verdict on every row that counts and does not end its trial anyway."""
        judged: list[Event] = []
        for event in events:
            if isinstance(event, ResultReported) and self._counts(event):
                try:
                    with ending_children():
                        reason = stop(event)
                    judge(event, reason)
                except Exception as error:  # noqa: BLE001 - user code; its failure is an event
                    # Before the row, so that its trial is already being stopped and is not told to go on.
                    judged.append(StopCriterionFailed(error=error_info(error)))
            judged.append(event)
        return judged

    def _counts(self, row: ResultReported) -> bool:
        return not row.final and row.attempt == self.state.trials[row.trial].attempt

    def _confirm(self) -> None:
        """Tell observers and senders of what is durable now."""
        self._show()
        if self._unconfirmed and self._executor is not None and self._commits.left_s is None:
            tokens, self._unconfirmed = self._unconfirmed, []
            self._executor.acknowledge(tokens)

    def _show(self) -> None:
        """Let observers look. One that raises is not asked again: it must not harm the sweep."""
        if not self._unseen or self._commits.left_s is not None:
            return
        events, self._unseen = self._unseen, []
        for observer in tuple(self._observers):
            try:
                observer.observe(events, self.state)
            except Exception:
                self._observers.remove(observer)
                logger.exception("%s raised, and is not shown anything any more", type(observer).__name__)

    def _gather(self, *, block: bool) -> list[Delivery]:
        """Return everything that is there; if asked to, wait for the first of it, or for the next deadline."""
        deliveries: list[Delivery] = []
        try:
            deliveries.append(self._inbox.get(block=block, timeout=self._patience() if block else None))
            while len(deliveries) < _MAX_DELIVERIES:
                deliveries.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return deliveries

    def _patience(self) -> float:
        deadline, left_s = self.experiment.next_deadline(), self._commits.left_s
        idle_s = _IDLE_S if self._allowed is None else _LOOK_S
        longest_s = idle_s if left_s is None else left_s
        return longest_s if deadline is None else max(0.0, min(longest_s, deadline - self._clock.now()))

    def _act(self, commands: Sequence[Command]) -> list[Event]:
        """Carry commands out, and return the answers that are there at once."""
        for_executor: list[ExecutorCommand] = []
        for_store: list[StoreCommand] = []
        answers: list[Event] = []
        for command in commands:
            match command:
                case LaunchTrial() | ContinueTrial() | TellOutlook() | StopTrial() | InterruptTrial() | KillTrial():
                    for_executor.append(command)
                case PublishCheckpoint() | DeleteCheckpoint():
                    for_store.append(command)
                case AskSearcher():
                    answers.append(self._ask(command))
                case TellSearcher():
                    answers.extend(self._tell(command))
                case EndExperiment():
                    pass
        if for_executor and self._executor is None:
            self._waiting += for_executor
        elif for_executor and self._executor is not None:
            self._executor.execute(for_executor)
        return answers + self._publisher.submit(for_store)

    def _ask(self, command: AskSearcher) -> Event:
        try:
            with ending_children():
                draws, exhausted = self._searcher.ask(command.first, command.count)
        except Exception as error:  # noqa: BLE001 - a searcher is foreign code; its failure is an event
            return SearcherFailed(error=error_info(error))
        return TrialsSuggested(draws=draws, exhausted=exhausted)

    def _tell(self, command: TellSearcher) -> list[Event]:
        draw = self.state.trials[command.trial].draw
        try:
            with ending_children():
                self._searcher.tell(command.trial, draw, command.metrics, command.failed)
        except Exception as error:  # noqa: BLE001 - a searcher is foreign code; its failure is an event
            return [SearcherFailed(error=error_info(error))]
        return []
