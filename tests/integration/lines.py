"""A worker's line to its driver, in one process: what tests of either end share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tunekit.core.events import Event, ResultReported
from tunekit.runtime.line import lease
from tunekit.runtime.line.link import Link
from tunekit.runtime.line.mailbox import Mailbox
from tunekit.runtime.line.wire import Assign, Hello, Note, Order, decode_said


class Clock:
    """The time as leases see it, for as long as a test takes: it passes only when it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(lease, "time", SimpleNamespace(monotonic=lambda: self.now))

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Line:
    """A link, and the driver at the other end of it."""

    def __init__(self, lease_s: float = 60.0, grace_s: float = 10.0) -> None:
        self.mailbox = Mailbox()
        self.mailbox.open(1)
        self.is_cut = False
        self.deaths: list[str] = []
        self.interrupts: list[tuple[int, int]] = []
        self.rearmed = 0
        self.link = Link(
            worker=1,
            hello=Hello(pid=7, node="n"),
            call=self.call,
            lease_s=lease_s,
            grace_s=grace_s,
            rearm=self.rearm,
            interrupt=lambda trial, attempt: self.interrupts.append((trial, attempt)),
            die=self.deaths.append,
        )

    def rearm(self) -> None:
        self.rearmed += 1

    def call(self, frame: bytes, timeout_s: float) -> bytes:
        assert timeout_s > 0
        if self.is_cut:
            raise ConnectionError
        return self.mailbox.exchange(frame)

    def order(self, *orders: Order) -> None:
        for order in orders:
            self.mailbox.order(1, order)
        self.mailbox.deliver()

    def hear(self) -> list[Event | Note]:
        """Return what is new, and acknowledge it."""
        letters = self.mailbox.drain(0.0)
        for letter in letters:
            self.mailbox.acknowledge(1, letter.number)
        return [said for letter in letters for said in decode_said(letter.message)]

    def begin(self, trial: int = 1) -> Assign:
        self.order(assign(trial))
        begun = self.link.next_assignment()
        assert begun is not None
        return begun


def assign(trial: int) -> Assign:
    return Assign(trial=trial, attempt=1, spec=b"")


def row(iteration: int = 1) -> ResultReported:
    return ResultReported(trial=1, attempt=1, iteration=iteration, metrics={})
