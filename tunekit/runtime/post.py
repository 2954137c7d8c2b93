"""The driver's end of all lines: what it owes its workers, and what it has of them.

Bookkeeping only; the executor makes the calls. Orders and acknowledgements are put together here until a frame is asked
for, so that one call serves all workers that a turn of the driver spoke to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tunekit.runtime.sequence import Inbox, Outbox
from tunekit.runtime.wire import Drain, Drained, Order, Post, encode_order

_encode = msgspec.msgpack.Encoder().encode
_drained = msgspec.msgpack.Decoder(Drained).decode


class Letter(NamedTuple):
    """A message of a worker that is new and in order."""

    worker: int
    number: int
    message: bytes


class _Line:
    """One worker, as the driver's mail sees it."""

    __slots__ = ("acknowledged", "inbox", "outbox")

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.outbox = Outbox()
        self.acknowledged = 0


class PostOffice:
    """Numbers orders, sorts what comes in, and knows what must be sent again."""

    def __init__(self) -> None:
        """Begin without workers."""
        self._lines: dict[int, _Line] = {}
        self._gone: set[int] = set()
        """Workers that were given up, and of which the mailbox must be told."""
        self._due: set[int] = set()
        """Workers with orders that have not been posted."""
        self._acknowledged: dict[int, int] = {}
        """Acknowledgements that have not been sent."""
        self._instance = 0
        self._seen = 0

    def open(self, worker: int) -> None:
        """Begin a line to a new worker."""
        self._lines[worker] = _Line()

    def give_up(self, worker: int) -> None:
        """Forget a worker: nothing is owed to it, and nothing of it will be heard."""
        if self._lines.pop(worker, None) is not None:
            self._gone.add(worker)
            self._due.discard(worker)
            self._acknowledged.pop(worker, None)

    def order(self, worker: int, order: Order) -> None:
        """Add an order for a worker; if it is unknown, nothing happens."""
        line = self._lines.get(worker)
        if line is not None:
            line.outbox.put(encode_order(order))
            self._due.add(worker)

    def acknowledge(self, worker: int, number: int) -> None:
        """Note that a worker's messages up to this number are in the journal."""
        line = self._lines.get(worker)
        if line is not None and number > line.acknowledged:
            line.acknowledged = self._acknowledged[worker] = number

    def post(self, *, wakes: bool = False, acknowledges: bool = False) -> bytes | None:
        """Return the frame of all that is due; None if nothing is.

        Acknowledgements go along, but do not make it worth a call unless ``acknowledges`` says so: the next drain takes
        them as well.
        """
        orders = [(worker, *self._lines[worker].outbox.take_unsent()) for worker in sorted(self._due)]
        self._due.clear()
        gone, self._gone = sorted(self._gone), set()
        if not (orders or gone or wakes or (acknowledges and self._acknowledged)):
            return None
        return _encode(Post(orders, self._take_acknowledgements(), gone, wakes))

    def repeat(self) -> None:
        """Have the next post carry every order that is not known to have arrived, and all acknowledgements."""
        for worker, line in self._lines.items():
            line.outbox.rewind()
            if line.outbox.has_unsent:
                self._due.add(worker)
            if line.acknowledged:
                self._acknowledged[worker] = line.acknowledged

    def drain(self, wait_s: float) -> bytes:
        """Return the frame that asks for what came."""
        return _encode(Drain(self._instance, self._seen, self._take_acknowledgements(), wait_s))

    def receive(self, frame: bytes) -> list[Letter]:
        """Take the answer to a drain, and return what is new in it."""
        drained = _drained(frame)
        if drained.instance != self._instance:
            self._instance, self._seen = drained.instance, 0
            self.repeat()  # A new instance must be told everything; of workers that are gone, when they turn up.
        self._seen = max(self._seen, drained.upto)
        for worker, number in drained.heeded:
            line = self._lines.get(worker)
            if line is not None:
                line.outbox.acknowledge(number)
            else:
                self._gone.add(worker)
        return [
            letter
            for parcel in drained.parcels
            for letter in self.accept(parcel.worker, parcel.number, [parcel.message])
        ]

    def accept(self, worker: int, first: int, messages: Sequence[bytes]) -> list[Letter]:
        """Take messages of a worker, and return those that are new and in order."""
        line = self._lines.get(worker)
        if line is None:
            self._gone.add(worker)
            return []
        fresh = line.inbox.accept(first, messages)
        return [
            Letter(worker, number, message)
            for number, message in enumerate(fresh, line.inbox.received - len(fresh) + 1)
        ]

    def _take_acknowledgements(self) -> list[tuple[int, int]]:
        acknowledged, self._acknowledged = list(self._acknowledged.items()), {}
        return acknowledged
