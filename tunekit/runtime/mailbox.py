"""The place where driver and workers meet: an asyncio actor on the driver's node that remembers nothing for good.

A worker calls ``exchange``: it leaves what happened and takes its orders along. The driver calls ``drain`` to take what all
workers left, in one long poll, and ``post`` to leave orders and acknowledgements. Everything is numbered by its sender
and kept by it until the other *end* has acknowledged it (a worker's message: until it is in the journal), so the mailbox
may be killed at any moment: a new instance has another number, both ends notice, and send again what is open.

Nothing here knows Ray: the executor turns the class into an actor, tests call it as it is.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque

import msgspec

from tunekit.runtime.wire import Download, Drain, Drained, Parcel, Post, Upload

MAX_DRAIN_BYTES = 16 * 1024 * 1024
"""A drain's answer ends with the message that exceeds this."""

_encode = msgspec.msgpack.Encoder().encode
_upload = msgspec.msgpack.Decoder(Upload).decode
_drain = msgspec.msgpack.Decoder(Drain).decode
_post = msgspec.msgpack.Decoder(Post).decode


class _Box:
    """What lies here for one worker."""

    __slots__ = ("acknowledged", "bell", "heeded", "is_gone", "orders")

    def __init__(self) -> None:
        self.orders: dict[int, bytes] = {}
        self.heeded = 0
        self.acknowledged = 0
        self.is_gone = False
        self.bell: asyncio.Future[None] | None = None

    def heed(self, number: int) -> bool:
        """Forget orders that the worker has; return whether that is news."""
        if number <= self.heeded:
            return False
        for done in range(self.heeded + 1, number + 1):
            self.orders.pop(done, None)
        self.heeded = number
        return True

    def due(self) -> list[bytes]:
        """Return the orders that follow what the worker has, up to a gap: calls of the driver may overtake each other."""
        orders, number = [], self.heeded + 1
        while number in self.orders:
            orders.append(self.orders[number])
            number += 1
        return orders

    def ring(self) -> None:
        """Let the worker's waiting exchange return."""
        if self.bell is not None and not self.bell.done():
            self.bell.set_result(None)


class Mailbox:
    """Holds messages between one driver and its workers."""

    def __init__(self) -> None:
        """Begin empty, with a number of its own."""
        self._instance = secrets.randbits(53)
        self._boxes: dict[int, _Box] = {}
        self._parcels: deque[tuple[int, Parcel]] = deque()
        self._num_parcels = 0
        self._heeded: dict[int, int] = {}
        self._bell: asyncio.Future[None] | None = None
        self._is_woken = False
        self._heard_at = time.monotonic()

    async def exchange(self, frame: bytes) -> bytes:
        """Take a worker's messages, and answer with its orders, at once or as soon as there are any."""
        upload = _upload(frame)
        box = self._box(upload.worker)
        for offset, message in enumerate(upload.messages):
            self._num_parcels += 1
            self._parcels.append((self._num_parcels, Parcel(upload.worker, upload.first + offset, message)))
        if box.heed(upload.heeded):
            self._heeded[upload.worker] = upload.heeded
        if upload.messages:
            self._ring()
        if upload.wait_s > 0 and not box.is_gone and not box.due():
            box.ring()
            box.bell = asyncio.get_running_loop().create_future()
            await _wait(box.bell, upload.wait_s)
        return self._answer(box)

    async def drain(self, frame: bytes) -> bytes:
        """Give the driver what the workers left, at once or as soon as there is anything."""
        request = _drain(frame)
        self._hear()
        if request.instance == self._instance:
            while self._parcels and self._parcels[0][0] <= request.seen:
                self._parcels.popleft()
        self._acknowledge(request.acknowledged)
        if not self._parcels and not self._is_woken and request.wait_s > 0:
            self._ring()
            self._bell = asyncio.get_running_loop().create_future()
            await _wait(self._bell, request.wait_s)
        self._is_woken = False
        return _encode(self._drained())

    async def post(self, frame: bytes) -> None:
        """Take the driver's orders and acknowledgements."""
        post = _post(frame)
        self._hear()
        self._acknowledge(post.acknowledged)
        for worker in post.gone:
            box = self._box(worker)
            box.is_gone = True
            box.orders.clear()
            box.ring()
        for worker, first, orders in post.orders:
            box = self._box(worker)
            for number, order in enumerate(orders, first):
                if number > box.heeded:
                    box.orders[number] = order
            if first + len(orders) - 1 <= box.heeded:
                self._heeded[worker] = box.heeded  # The driver does not know it: that answer was lost.
            else:
                box.ring()
        if post.wakes:
            self._is_woken = True
            self._ring()

    def _box(self, worker: int) -> _Box:
        return self._boxes.setdefault(worker, _Box())

    def _answer(self, box: _Box) -> bytes:
        silence_s = time.monotonic() - self._heard_at
        return _encode(Download(self._instance, box.acknowledged, box.heeded + 1, box.due(), silence_s, box.is_gone))

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
            box = self._box(worker)
            box.acknowledged = max(box.acknowledged, number)

    def _hear(self) -> None:
        self._heard_at = time.monotonic()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)


async def _wait(bell: asyncio.Future[None], wait_s: float) -> None:
    await asyncio.wait((bell,), timeout=wait_s)
