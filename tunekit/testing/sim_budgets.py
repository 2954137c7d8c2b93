"""What the judge of a simulated sweep knows of who pays for lost attempts: budgets, rules of the user, nodes to avoid.

Reckoned from the journal's events alone, and in another way than the core reckons: of a failure while a trial is being
stopped, or after its last row, the journal does not say whether anybody pays for it. So everything is a pair: what was
surely paid, and what perhaps was, besides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tunekit.core.events import (
    Event,
    LaunchFailed,
    Rule,
    Settings,
    TrialAssigned,
    TrialPreempted,
    TrialRaised,
    TrialStarted,
    WorkerLost,
)
from tunekit.types import LossCause, TrialStatus

_PREEMPTIONS = {LossCause.PREEMPTED, LossCause.NODE_LOST}
_NOBODYS_FAULT = {LossCause.DRIVER_LOST, LossCause.NOT_STARTED, LossCause.RESTORE_FAILED, LossCause.STORAGE}
_MAX_STORAGE_FAULTS = 8


@dataclass(slots=True)
class Count:
    """How often something was paid for."""

    surely: int = 0
    perhaps: int = 0

    def add(self, *, is_sure: bool) -> None:
        """Count once more."""
        self.surely += is_sure
        self.perhaps += not is_sure

    def holds(self, budget: int) -> bool:
        """Return whether no more was surely paid than there is."""
        return budget < 0 or self.surely <= budget

    def may_be_used_up(self, budget: int) -> bool:
        """Return whether perhaps nothing is left."""
        return 0 <= budget <= self.surely + self.perhaps

    def may_be_over(self, budget: int) -> bool:
        """Return whether more was perhaps paid than there is."""
        return 0 <= budget < self.surely + self.perhaps


@dataclass(slots=True)
class Budgets:
    """Those of one trial."""

    charged: Count = field(default_factory=Count)
    preempted: Count = field(default_factory=Count)
    ruled: dict[str, Count] = field(default_factory=dict)
    """How often a rule has answered for a failure, by pattern."""
    num_storage_faults: int = 0
    """How often in a row the storage could not be read."""
    must_fail: bool = False
    """Whether it has surely failed for good."""
    may_fail: bool = False
    futile: tuple[str, int, int] = ("", 0, 0)
    """Of the newest preemptions: where, at which row, and how many there and with no newer one in between."""
    node: str = ""
    """Where its newest attempt is known to be."""
    avoided: set[str] = field(default_factory=set)
    """Where it must not run any more."""
    perhaps_avoided: set[str] = field(default_factory=set)
    doubtful: Count | None = None
    """What the newest payment was made from that perhaps was made."""
    wait_s: float = 0.0
    """How long it must wait after the newest failure, at the least."""

    def locate(self, event: Event) -> None:
        """Take note of where an attempt is."""
        if isinstance(event, TrialStarted):
            self.node = event.place.node
            self.num_storage_faults = 0
        elif isinstance(event, TrialAssigned):
            self.node = event.node
        elif isinstance(event, WorkerLost | LaunchFailed):
            self.node = event.node or self.node

    def pay(
        self, settings: Settings, event: Event, iteration: int, *, is_sure: bool, is_hung: bool, is_spared: bool = False
    ) -> Event | None:
        """Enter how an attempt ended, and return that if the checkpoint which it started from may be to blame.

        Args:
            settings: The rules and budgets.
            event: Its end.
            iteration: The newest row of the trial.
            is_sure: Whether it ended in the middle of its work.
            is_hung: Whether it was killed for its silence.
            is_spared: Whether surely nobody pays.
        """
        self.wait_s, self.doubtful = 0.0, None
        is_own_doing = self._is_own_doing(settings, event, iteration)
        if is_spared:
            return None
        if is_own_doing:
            told = event.reason if isinstance(event, TrialPreempted) else getattr(event, "detail", "")
            crash = WorkerLost(trial=0, attempt=0, cause=LossCause.CRASHED, detail=told)
            self._charge(settings, crash, is_sure=is_sure, is_hung=False)
            return crash if is_sure else None
        if isinstance(event, TrialPreempted) or (isinstance(event, WorkerLost) and event.cause in _PREEMPTIONS):
            self._add(self.preempted, is_sure=is_sure)
        elif isinstance(event, LaunchFailed) and event.cause is LossCause.STORAGE:
            self._pay_for_storage(settings, event, is_sure=is_sure)
        elif isinstance(event, TrialRaised | LaunchFailed) and not event.retryable:
            self.must_fail |= is_sure
            self.may_fail = True
            if not is_sure:
                self.charged.add(is_sure=False)
        elif isinstance(event, TrialRaised | LaunchFailed) or (
            isinstance(event, WorkerLost) and event.cause not in _NOBODYS_FAULT
        ):
            self._charge(settings, event, is_sure=is_sure, is_hung=is_hung)
            return event if is_sure else None
        return None

    def confirm(self) -> None:
        """Take note that the newest payment, which perhaps was made, was."""
        if self.doubtful is not None:
            self.doubtful.perhaps -= 1
            self.doubtful.surely += 1

    def end(self, settings: Settings, status: TrialStatus) -> str:
        """Return what is wrong with how a trial ended; empty if nothing is."""
        accounts = ((self.charged, settings.max_failures), (self.preempted, settings.max_preemption_failures))
        if status is TrialStatus.FAILED:
            is_right = self.must_fail or self.may_fail or any(count.may_be_over(budget) for count, budget in accounts)
        else:
            is_right = not self.must_fail and all(count.holds(budget) for count, budget in accounts)
        return "" if is_right else f"it is {status}, but its budgets are {self}"

    def is_over(self, settings: Settings) -> bool:
        """Return whether it surely may not be launched again."""
        within = self.charged.holds(settings.max_failures) and self.preempted.holds(settings.max_preemption_failures)
        return self.must_fail or not within

    def _is_own_doing(self, settings: Settings, event: Event, iteration: int) -> bool:
        """Count a preemption, and return whether it is one too many on one node, with no new row in between."""
        is_told = isinstance(event, TrialPreempted)
        if not (is_told or (isinstance(event, WorkerLost) and event.cause is LossCause.PREEMPTED)):
            return False
        node, reached, times = self.futile
        is_futile = times > 0 and node == self.node != "" and iteration <= reached
        self.futile = self.node, iteration, times + 1 if is_futile else 1
        limit = settings.max_futile_preemptions
        return limit is not None and self.futile[2] > limit

    def _pay_for_storage(self, settings: Settings, event: LaunchFailed, *, is_sure: bool) -> None:
        if not is_sure:
            return
        self.num_storage_faults += 1
        self.wait_s = 0.5 * 2.0 ** (self.num_storage_faults - 1)
        rule = self._rule(settings, event, is_hung=False)
        if rule is not None:
            self._avoid(rule, is_sure=True)
        is_given_up = rule is not None and rule.action == "give_up"
        self.must_fail = self.must_fail or is_given_up or self.num_storage_faults > _MAX_STORAGE_FAULTS
        self.may_fail |= self.must_fail

    def _charge(self, settings: Settings, event: Event, *, is_sure: bool, is_hung: bool) -> None:
        rule = self._rule(settings, event, is_hung=is_hung)
        count = self.charged
        if rule is not None:
            self._avoid(rule, is_sure=is_sure)
            if rule.action == "give_up":
                self.must_fail |= is_sure
                self.may_fail = True
            else:
                used = self.ruled.setdefault(rule.pattern, Count())
                if not used.may_be_used_up(rule.max_times):
                    count = used
                elif used.surely < rule.max_times:  # Either of the two.
                    used.add(is_sure=False)
                    is_sure = False
        self._add(count, is_sure=is_sure)
        self.wait_s = settings.backoff_s * 2.0 ** min(max(0, count.surely - 1), 5) if is_sure else 0.0

    def _add(self, count: Count, *, is_sure: bool) -> None:
        count.add(is_sure=is_sure)
        self.doubtful = None if is_sure else count

    def _avoid(self, rule: Rule, *, is_sure: bool) -> None:
        if rule.action == "avoid_node" and self.node:
            (self.avoided if is_sure else self.perhaps_avoided).add(self.node)

    def _rule(self, settings: Settings, event: Any, *, is_hung: bool) -> Rule | None:
        if not isinstance(event, WorkerLost):
            text = f"{event.error.type}: {event.error.message}"
        else:
            is_hung = is_hung and event.cause is LossCause.KILLED
            text = "hung: " if is_hung else f"{event.cause}: {event.detail}"
        return next((rule for rule in settings.rules if re.search(rule.pattern, text)), None)
