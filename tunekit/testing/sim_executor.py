"""The simulated executor of one driver: what it is told reaches simulated workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from tunekit.core.commands import ContinueTrial, InterruptTrial, KillTrial, LaunchTrial, StopTrial, TellOutlook
from tunekit.core.events import CapacityChanged, Event
from tunekit.runtime.line.spec import Delivery, ExecutorCommand
from tunekit.testing.sim_journal import DriverDiedError
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.testing.sim_workers import SimAttempt
from tunekit.types import TrialId


class SimExecutor:
    """The executor of one driver.

    Args:
        around: The world.
        acknowledged: Told what the driver says is durable.
        fate: True when the driver dies between two commands.
    """

    def __init__(
        self, around: Surroundings, acknowledged: Callable[[Sequence[Event]], None], fate: Callable[[], bool]
    ) -> None:
        """Tell the driver how much room there is."""
        self.attempts: dict[tuple[TrialId, int], SimAttempt] = {}
        self._around = around
        self._acknowledged = acknowledged
        self._fate = fate
        around.timeline.after(0.1, self.announce, around.options.max_live)

    def announce(self, max_live: int) -> None:
        """Tell the driver how much room there is."""
        self._around.deliver(Delivery([CapacityChanged(max_live=max_live)]))

    def execute(self, commands: list[ExecutorCommand]) -> None:
        """Carry the commands out, unless the driver dies in the middle."""
        for command in commands:
            if self._fate():
                raise DriverDiedError
            self._execute(command)

    def acknowledge(self, tokens: list[object]) -> None:
        """Note that messages are durable, and need not be kept by their senders."""
        for token in tokens:
            self._acknowledged(cast("tuple[Event, ...]", token))  # a token is the batch that it stands for

    def close(self) -> None:
        """End every worker."""
        for attempt in self.attempts.values():
            attempt.die()

    def _execute(self, command: ExecutorCommand) -> None:
        key = (command.trial, command.attempt)
        if isinstance(command, LaunchTrial):
            self._around.launched[key] = self._around.launched.get(key, 0) + 1
            self.attempts[key] = SimAttempt(self._around, command)
            return
        attempt = self.attempts[key]
        match command:
            case ContinueTrial():
                attempt.go_on(command)
            case TellOutlook():
                attempt.expect(command)
            case StopTrial():
                attempt.stop(command)
            case InterruptTrial():
                attempt.interrupt()
            case KillTrial():
                attempt.kill()
