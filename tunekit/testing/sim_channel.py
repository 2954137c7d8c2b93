"""How a simulated attempt speaks: in order, batched and late, some of it twice, some of it never."""

from __future__ import annotations

import copy
from collections.abc import Callable

from tunekit.core.events import Event
from tunekit.runtime.line.spec import Delivery
from tunekit.testing.sim_surroundings import Surroundings


class SimChannel:
    """From one attempt to whatever driver there is.

    Args:
        around: The world.
        die: Has the attempt's process die between two halves of a batch.
    """

    def __init__(self, around: Surroundings, die: Callable[[], None]) -> None:
        """Begin with nothing to be said."""
        self._around = around
        self._die = die
        self._outbox: list[Event] = []

    def send(self, event: Event) -> None:
        """Say something, in a while."""
        if not self._outbox:
            faults = self._around.options.faults
            delay = 0.02 + self._around.rng.random() * faults.delay
            self._around.timeline.after(delay, self._flush)
        self._outbox.append(event)

    def close(self) -> None:
        """Forget what was not sent yet."""
        self._outbox = []

    def _flush(self) -> None:
        batch, self._outbox = self._outbox, []
        if len(batch) > 1 and self._around.coin(self._around.options.faults.split):
            cut = self._around.rng.randrange(1, len(batch))
            batch, self._outbox = batch[:cut], batch[cut:]
            self._around.timeline.after(2.0 * self._around.rng.random(), self._flush)
        if not batch:
            return
        if not self._around.deliver(self._delivery(batch)):
            if not self._outbox:
                self._around.timeline.after(1.0, self._flush)
            self._outbox[:0] = batch  # There is no driver: keep it, as one does until the acknowledgement.
        elif self._around.coin(self._around.options.faults.duplicate):
            again = self._around.rng.random() * 5.0
            self._around.timeline.after(again, self._around.deliver, self._delivery(batch))
        if self._outbox and self._around.coin(self._around.options.faults.crash):
            self._die()

    def _delivery(self, batch: list[Event]) -> Delivery:
        return Delivery([copy.copy(event) for event in batch], tuple(batch))
