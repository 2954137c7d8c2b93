"""A journal in memory that the power can fail on: production's codec and framing, bytes instead of a disk.

What was written by a commit that returned is there for ever. A driver that dies in a commit leaves nothing of it, a
part of its bytes, or all of them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

from tunekit.core.codec import Record, decode, encode
from tunekit.errors import InvariantViolationError
from tunekit.journal.framing import find_damage, read_batches, seal


class DriverDiedError(Exception):
    """The simulated driver is gone."""


class SimJournal:
    """Survives the drivers that write it.

    Args:
        fate: Says at each commit whether the driver dies there: ``before``, ``torn``, ``after``, or an empty string.
        fraction: Says which part of a torn batch reaches the disk, from 0 to 1.
    """

    patience_s = 0.0
    """As of the journal on a disk: each turn ends with a commit."""

    def __init__(self, fate: Callable[[], str], fraction: Callable[[], float]) -> None:
        """Begin with an empty disk."""
        self.disk = bytearray()
        self._fate = fate
        self._fraction = fraction
        self._pending: list[bytes] = []
        self._chain = 0
        """Checksum of the last line."""
        self._read: list[Record] = []
        self._read_end = self._read_chain = 0
        """What was read at the last boot, and where it ends: what is durable does not change."""

    def open(self) -> list[Record]:
        """Cut a torn tail, and return what is durable.

        Raises:
            InvariantViolationError: A crash left what the production code takes for damage.
        """
        tail = bytes(self.disk[self._read_end :]).splitlines(keepends=True)
        for batch in read_batches(tail, self._read_end, self._read_chain):
            self._read += map(decode, batch.payloads)
            self._read_end, self._read_chain = batch.end, batch.chain
        if self._read_end < len(self.disk):
            self._cut(self._read_end, self._read_chain)
        self._pending, self._chain = [], self._read_chain
        return self._read

    def read_again(self) -> list[Record]:
        """Return what the disk holds, read from its first byte."""
        lines = bytes(self.disk).splitlines(keepends=True)
        return [decode(payload) for batch in read_batches(lines, 0, 0) for payload in batch.payloads]

    def append(self, records: Sequence[Record]) -> None:
        """Remember records for the next commit."""
        self._pending += map(encode, records)

    def commit(self) -> None:
        """Make everything appended durable, unless the driver dies."""
        fate = self._fate()
        if fate == "before":
            raise DriverDiedError(fate)
        data, chain = seal(self._pending, self._chain)
        if fate == "torn":
            self.disk += data[: int(self._fraction() * len(data))]
            raise DriverDiedError(fate)
        self.disk += data
        self._chain = chain
        self._pending = []
        if fate:
            raise DriverDiedError(fate)

    def close(self) -> None:
        """Write what is left, as a driver does that ends in order."""
        if self._pending:
            self.commit()

    def _cut(self, end: int, chain: int) -> None:
        damage = find_damage(io.BytesIO(self.disk), end, chain)
        if damage is not None:
            raise InvariantViolationError(f"a crash left a journal that is refused as damaged at byte {damage}")
        del self.disk[end:]
