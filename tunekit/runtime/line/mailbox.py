"""The place where driver and workers meet: in the driver's process, for as long as that lives.

A worker calls ``exchange``: it leaves what happened and takes its orders along. The driver calls ``order`` and
``acknowledge``, then ``deliver`` for those who wait, and ``drain`` to take what all workers left. Only the way between
worker and mailbox can lose or repeat a call. So each end numbers what it says, and keeps it until the other *end* has
acknowledged it; a worker's message is acknowledged when it is in the journal.

Workers come in through the ``door``, each on a thread of its own; those on other machines through the ``relay``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tunekit.runtime.line.sequence import Inbox, Outbox
from tunekit.runtime.line.wire import Download, Order, Upload, encode_order

MAX_DRAIN_BYTES = 16 * 1024 * 1024
"""A drain ends with the message that exceeds this."""
GATHER_S = 0.002
"""Messages of workers that do not wait for an answer are gathered for so long, so that one drain takes many."""

_encode = msgspec.msgpack.Encoder().encode
_upload = msgspec.msgpack.Decoder(Upload).decode


class Letter(NamedTuple):
    """A message of a worker that is new and in order."""

    worker: int
    number: int
    message: bytes


class _Box:
    """What lies here for one worker, and what is known of it."""

    __slots__ = ("acknowledged", "bell", "inbox", "is_gone", "orders", "turn")

    def __init__(self, lock: threading.Lock) -> None:
        self.orders = Outbox()
        """What it is told, until it says that it has heard."""
        self.inbox = Inbox()
        self.acknowledged = 0
        """Number of its last message that is in the journal."""
        self.is_gone = False
        self.bell = threading.Condition(lock)
        self.turn = 0
        """Number of the newest exchange: an older one that still waits has nobody to answer to."""

    def accept(self, worker: int, first: int, messages: Sequence[bytes]) -> list[Letter]:
        """Take messages of its worker, and return those that are new and in order."""
        fresh = self.inbox.accept(first, messages)
        number = self.inbox.received - len(fresh) + 1
        return [Letter(worker, number + offset, message) for offset, message in enumerate(fresh)]


class Mailbox:
    """Holds messages between one driver and its workers. Safe for threads."""

    def __init__(self) -> None:
        """Begin without workers."""
        self._lock = threading.Lock()
        self._boxes: dict[int, _Box] = {}
        """By worker. Who has none was given up."""
        self._left: deque[Letter] = deque()
        """What workers left, repetitions included."""
        self._due: set[int] = set()
        """Workers with orders that a waiting exchange has not been woken for."""
        self._bell = threading.Condition(self._lock)
        self._is_urgent = False
        """Whether the driver is wanted at once."""
        self._heard_at = time.monotonic()

    # -- the workers' side ---------------------------------------------------------------------------------------------

    def exchange(self, frame: bytes) -> bytes:
        """Take a worker's messages, and answer with its orders as soon as there are any."""
        return self._exchange(frame, may_wait=True)

    def exchange_at_once(self, frame: bytes) -> bytes:
        """Take a worker's messages, and answer with its orders, even if there are none."""
        return self._exchange(frame, may_wait=False)

    def _exchange(self, frame: bytes, *, may_wait: bool) -> bytes:
        upload = _upload(frame)
        with self._lock:
            box = self._boxes.get(upload.worker)
            if box is None:
                return _encode(Download(0, upload.heeded + 1, [], 0.0, is_gone=True))
            box.turn += 1
            box.orders.acknowledge(upload.heeded)
            if upload.messages:
                self._keep(upload)
            if upload.wait_s > 0 and may_wait:
                self._wait(box, upload.wait_s)
            box.orders.rewind()  # The answer to the exchange before may not have arrived.
            first, orders = box.orders.take_unsent()
            silence_s = time.monotonic() - self._heard_at
            answer = Download(box.acknowledged, first, orders, silence_s, is_gone=box.is_gone)
        return _encode(answer)

    def _wait(self, box: _Box, wait_s: float) -> None:
        """Wait for an order for this worker, or for a newer exchange of it."""
        turn = box.turn
        box.bell.notify_all()
        box.bell.wait_for(lambda: box.is_gone or len(box.orders) or box.turn != turn, wait_s)

    def _keep(self, upload: Upload) -> None:
        for number, message in enumerate(upload.messages, upload.first):
            self._left.append(Letter(upload.worker, number, message))
        if upload.wait_s > 0:
            self._is_urgent = True
        self._bell.notify_all()

    # -- the driver's side ---------------------------------------------------------------------------------------------

    def open(self, worker: int) -> None:
        """Let a worker in."""
        with self._lock:
            self._boxes[worker] = _Box(self._lock)

    def give_up(self, worker: int, first: int = 0, last_words: Sequence[bytes] = ()) -> list[Letter]:
        """Forget a worker: nothing more of it will be heard, and whenever it turns up, it is told so.

        Args:
            worker: Its number.
            first: Number of the first of its last words.
            last_words: Messages of it that may not have come to here.

        Returns:
            What is new and in order of all that it has said: what lies here, however much that is, and its last words.
        """
        with self._lock:
            box = self._boxes.pop(worker, None)
            self._due.discard(worker)
            if box is None:
                return []
            box.is_gone = True
            box.bell.notify_all()
            untaken = [letter for letter in self._left if letter.worker == worker]
            self._left = deque(letter for letter in self._left if letter.worker != worker)
            letters = [new for letter in untaken for new in box.accept(worker, letter.number, [letter.message])]
            return letters + box.accept(worker, first, last_words)

    def order(self, worker: int, order: Order) -> None:
        """Add an order for a worker; if it was given up, nothing happens. Whoever waits gets it with ``deliver``."""
        message = encode_order(order)
        with self._lock:
            box = self._boxes.get(worker)
            if box is not None:
                box.orders.put(message)
                self._due.add(worker)

    def deliver(self) -> None:
        """Wake all who wait for the orders that were added: together, so that each is woken once."""
        with self._lock:
            self._heard_at = time.monotonic()
            for worker in self._due:
                self._boxes[worker].bell.notify_all()
            self._due.clear()

    def acknowledge(self, worker: int, number: int) -> None:
        """Note that a worker's messages up to this number are in the journal."""
        with self._lock:
            box = self._boxes.get(worker)
            if box is not None:
                box.acknowledged = max(box.acknowledged, number)

    def wake(self) -> None:
        """Have a drain that waits, or else the next one, return at once."""
        with self._lock:
            self._is_urgent = True
            self._bell.notify_all()

    def drain(self, wait_s: float) -> list[Letter]:
        """Return what workers left, at once or as soon as there is anything."""
        with self._lock:
            self._heard_at = time.monotonic()
            if wait_s > 0:
                self._bell.wait_for(lambda: self._left or self._is_urgent, wait_s)
                self._bell.wait_for(lambda: self._is_urgent, min(GATHER_S, wait_s))
            self._is_urgent = False
            return self._take()

    def _take(self) -> list[Letter]:
        letters: list[Letter] = []
        size = 0
        while self._left and size <= MAX_DRAIN_BYTES:
            worker, number, message = self._left.popleft()
            size += len(message)
            if box := self._boxes.get(worker):
                letters += box.accept(worker, number, [message])
        return letters
