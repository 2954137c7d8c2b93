"""The place where driver and workers meet: in the driver's process, remembering nothing for good.

A worker calls ``exchange``: it leaves what happened and takes its orders along. The driver calls ``drain`` to take
what all workers left, in one long poll, and ``post`` to leave orders and acknowledgements. Everything is numbered by
its sender and kept by it until the other *end* has acknowledged it (a worker's message: until it is in the journal).
So a call may be lost on either way, and a mailbox with all that lies in it: a new instance has another number, both
ends notice, and send again what is open.

Workers come in through the ``door``, each on a thread of its own; those on other machines through the ``relay``.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque

import msgspec

from tunekit.runtime.wire import Download, Drain, Drained, Parcel, Post, Upload

MAX_DRAIN_BYTES = 16 * 1024 * 1024
"""A drain's answer ends with the message that exceeds this."""
GATHER_S = 0.002
"""Messages of workers that do not wait for an answer are gathered for so long, so that one drain takes many."""

MAX_GONE = 1024
"""So many workers that were given up are remembered. One that turns up later is reported to the driver as unknown."""

_encode = msgspec.msgpack.Encoder().encode
_upload = msgspec.msgpack.Decoder(Upload).decode
_drain = msgspec.msgpack.Decoder(Drain).decode
_post = msgspec.msgpack.Decoder(Post).decode


class _Box:
    """What lies here for one worker."""

    __slots__ = ("acknowledged", "bell", "heeded", "is_gone", "orders", "turn")

    def __init__(self, lock: threading.Lock) -> None:
        self.orders: dict[int, bytes] = {}
        self.heeded = 0
        self.acknowledged = 0
        self.is_gone = False
        self.bell = threading.Condition(lock)
        self.turn = 0
        """Number of the newest exchange: an older one that still waits has nobody to answer to."""

    @property
    def has_news(self) -> bool:
        """Whether a waiting exchange is to return."""
        return self.is_gone or self.heeded + 1 in self.orders

    def heed(self, number: int) -> bool:
        """Forget orders that the worker has; return whether that is news."""
        if number <= self.heeded:
            return False
        for done in range(self.heeded + 1, number + 1):
            self.orders.pop(done, None)
        self.heeded = number
        return True

    def due(self) -> list[bytes]:
        """Return the orders that follow what the worker has, up to a gap: the driver's calls may overtake another."""
        orders, number = [], self.heeded + 1
        while number in self.orders:
            orders.append(self.orders[number])
            number += 1
        return orders


class Mailbox:
    """Holds messages between one driver and its workers."""

    def __init__(self) -> None:
        """Begin empty, with a number of its own."""
        self._instance = secrets.randbits(53)
        self._lock = threading.Lock()
        self._boxes: dict[int, _Box] = {}
        self._parcels: deque[tuple[int, Parcel]] = deque()
        self._num_parcels = 0
        self._heeded: dict[int, int] = {}
        self._gone: dict[int, None] = {}
        """Workers that were given up, the oldest first."""
        self._bell = threading.Condition(self._lock)
        self._is_urgent = False
        """Whether the driver is wanted at once."""
        self._heard_at = time.monotonic()

    def exchange(self, frame: bytes) -> bytes:
        """Take a worker's messages, and answer with its orders as soon as there are any."""
        return self._exchange(frame, may_wait=True)

    def exchange_at_once(self, frame: bytes) -> bytes:
        """Take a worker's messages, and answer with its orders, even if there are none."""
        return self._exchange(frame, may_wait=False)

    def _exchange(self, frame: bytes, *, may_wait: bool) -> bytes:
        upload = _upload(frame)
        with self._lock:
            if upload.worker in self._gone:
                return _encode(Download(self._instance, 0, upload.heeded + 1, [], 0.0, is_gone=True))
            if upload.worker not in self._boxes:  # Whom this instance does not know, the driver may know as gone.
                self._heeded[upload.worker] = upload.heeded
            box = self._box(upload.worker)
            box.turn += 1
            if box.heed(upload.heeded):
                self._heeded[upload.worker] = upload.heeded
            if upload.messages:
                self._keep(upload)
            if upload.wait_s > 0:
                self._wait(box, upload.wait_s if may_wait else 0.0)
            silence_s = time.monotonic() - self._heard_at
            answer = Download(
                self._instance, box.acknowledged, box.heeded + 1, box.due(), silence_s, is_gone=box.is_gone
            )
        return _encode(answer)

    def drain(self, frame: bytes) -> bytes:
        """Give the driver what the workers left, at once or as soon as there is anything."""
        request = _drain(frame)
        with self._lock:
            self._heard_at = time.monotonic()
            if request.instance == self._instance:
                while self._parcels and self._parcels[0][0] <= request.seen:
                    self._parcels.popleft()
            self._acknowledge(request.acknowledged)
            if request.wait_s > 0:
                self._bell.wait_for(lambda: self._parcels or self._is_urgent, request.wait_s)
                self._bell.wait_for(lambda: self._is_urgent, min(GATHER_S, request.wait_s))
            self._is_urgent = False
            return _encode(self._drained())

    def post(self, frame: bytes) -> None:
        """Take the driver's orders and acknowledgements."""
        post = _post(frame)
        with self._lock:
            self._heard_at = time.monotonic()
            self._acknowledge(post.acknowledged)
            for worker in post.gone:
                self._forget(worker)
            for worker, first, orders in post.orders:
                if worker not in self._gone:
                    self._put_orders(worker, first, orders)
            if post.wakes:
                self._is_urgent = True
                self._bell.notify_all()

    def _wait(self, box: _Box, wait_s: float) -> None:
        """Wait for an order for this worker, or for a newer exchange of it."""
        turn = box.turn
        box.bell.notify_all()
        box.bell.wait_for(lambda: box.has_news or box.turn != turn, wait_s)

    def _forget(self, worker: int) -> None:
        """Keep of a worker that was given up no more than its number."""
        box = self._boxes.pop(worker, None)
        self._heeded.pop(worker, None)
        self._gone[worker] = None
        if len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]
        if box is not None:
            box.is_gone = True
            box.orders.clear()
            box.bell.notify_all()

    def _put_orders(self, worker: int, first: int, orders: list[bytes]) -> None:
        box = self._box(worker)
        for number, order in enumerate(orders, first):
            if number > box.heeded:
                box.orders[number] = order
        if first + len(orders) - 1 <= box.heeded:
            self._heeded[worker] = box.heeded  # The driver does not know it: that answer was lost.
        else:
            box.bell.notify_all()

    def _keep(self, upload: Upload) -> None:
        for offset, message in enumerate(upload.messages):
            self._num_parcels += 1
            self._parcels.append((self._num_parcels, Parcel(upload.worker, upload.first + offset, message)))
        if upload.wait_s > 0:
            self._is_urgent = True
        self._bell.notify_all()

    def _box(self, worker: int) -> _Box:
        box = self._boxes.get(worker)
        if box is None:
            box = self._boxes[worker] = _Box(self._lock)
        return box

    def _drained(self) -> Drained:
        parcels: list[Parcel] = []
        upto, size = 0, 0
        for number, parcel in self._parcels:
            parcels.append(parcel)
            upto, size = number, size + len(parcel.message)
            if size > MAX_DRAIN_BYTES:
                break
        heeded, self._heeded = list(self._heeded.items()), {}
        return Drained(self._instance, upto, parcels, heeded)

    def _acknowledge(self, acknowledged: list[tuple[int, int]]) -> None:
        for worker, number in acknowledged:
            if worker not in self._gone:
                box = self._box(worker)
                box.acknowledged = max(box.acknowledged, number)
