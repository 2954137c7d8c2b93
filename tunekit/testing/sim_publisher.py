"""The store's thread of a simulated driver: carries commands out one after the other, and dies with its driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunekit.core.commands import PublishCheckpoint
from tunekit.core.events import CheckpointDeleted, CheckpointPublished, DeleteFailed, Event, PublishFailed
from tunekit.runtime.driver.publisher import StoreCommand
from tunekit.runtime.line.spec import Delivery
from tunekit.testing.sim_journal import DriverDiedError
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.testing.sim_training import ERROR
from tunekit.types import TrialId


class SimPublisher:
    """The publisher of one driver.

    Args:
        around: The world.
        fate: True when the driver dies before it can hand a command over.
    """

    def __init__(self, around: Surroundings, fate: Callable[[], bool]) -> None:
        """Begin with nothing to do."""
        self._around = around
        self._fate = fate
        self._free_at = 0.0
        self._is_dead = False

    def submit(self, commands: Sequence[StoreCommand]) -> list[Event]:
        """Carry the commands out, in a while."""
        timeline = self._around.timeline
        for command in commands:
            if self._fate():
                raise DriverDiedError
            self._free_at = max(self._free_at, timeline.now) + 0.05 + 0.5 * self._around.rng.random()
            timeline.after(self._free_at - timeline.now, self._carry_out, command)
        return []

    def close(self, *, finish: bool = False) -> None:
        """Die: what was not carried out will not be, what was not answered stays without an answer."""
        del finish
        self._is_dead = True

    def _carry_out(self, command: StoreCommand) -> None:
        if self._is_dead:
            return
        act = self._publish if isinstance(command, PublishCheckpoint) else self._delete
        answer = act(command.trial, command.iteration, command.attempt, command.exact)
        self._around.timeline.after(0.01 + 0.2 * self._around.rng.random(), self._answer, answer)

    def _publish(self, trial: TrialId, iteration: int, attempt: int, exact: bool) -> Event:  # noqa: FBT001 - as in the command
        fails = self._fails()
        is_halfway = fails and self._around.rng.random() < 0.3  # noqa: PLR2004 - it fails after it has taken effect
        store = self._around.store
        done = (not fails or is_halfway) and store.publish(trial, iteration, attempt, exact=exact)
        if fails or not done:
            return PublishFailed(trial=trial, iteration=iteration, attempt=attempt, error=ERROR, exact=exact)
        if exact and self._around.coin(self._around.options.faults.damage):
            self._around.timeline.after(10.0 * self._around.rng.random(), self._damage, trial, iteration)
        return CheckpointPublished(trial=trial, iteration=iteration, attempt=attempt, exact=exact)

    def _delete(self, trial: TrialId, iteration: int, attempt: int, exact: bool) -> Event:  # noqa: FBT001 - as in the command
        if self._fails():
            return DeleteFailed(trial=trial, iteration=iteration, attempt=attempt, error=ERROR, exact=exact)
        self._around.store.delete(trial, iteration, attempt, exact=exact)
        return CheckpointDeleted(trial=trial, iteration=iteration, attempt=attempt, exact=exact)

    def _fails(self) -> bool:
        return self._around.coin(self._around.options.faults.store)

    def _answer(self, event: Event) -> None:
        if not self._is_dead:
            self._around.deliver(Delivery([event]))

    def _damage(self, trial: TrialId, iteration: int) -> None:
        there = self._around.store.visible.get((trial, iteration))
        if there is not None:
            there.is_damaged = True
