"""Buffers that the state of a trial is copied into, so that it can be written while the trial goes on.

Memory that was never touched costs several times as much to copy into as memory that was, so a process keeps its
buffers from save to save and from trial to trial. It needs one, or two while a save waits for the one before it.

All processes of a user on a machine together take at most a quarter of its memory. They agree on it through locks on
the bytes of one file, each of which stands for a share of that quarter: the system gives the locks of a process back
when it ends, in whatever way it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

_SHARE: Final = 4
"""The buffers of a machine take one part in so many of its memory."""
_NUM_TOKENS: Final = 1024
_ROUND_BYTES: Final = 1 << 20
_MAX_FREE: Final = 2
"""Buffers that are kept while nobody uses them."""


@dataclass(eq=False, slots=True)
class Slot:
    """One buffer."""

    buffer: Any
    """A flat NumPy array of bytes."""
    is_pinned: bool
    """Whether an accelerator copies into it directly."""


class StagingSlots:
    """The buffers of this process.

    Args:
        allowance: Says whether the process may hold so many bytes in all.
    """

    def __init__(self, allowance: Allowance) -> None:
        """Begin with none."""
        self._allowance = allowance
        self._lock = threading.Lock()
        self._free: list[Slot] = []
        self._used: dict[object, Slot] = {}

    @property
    def num_used(self) -> int:
        """How many are in use."""
        return len(self._used)

    def take(self, holder: object, num_bytes: int, *, pinned: bool = False) -> Any:
        """Return a flat NumPy array of so many bytes; None: there is no room for it.

        Args:
            holder: Who is to give it back. It holds one at a time.
            num_bytes: How much is to be copied.
            pinned: Whether it is copied from an accelerator.
        """
        with self._lock:
            fitting = [slot for slot in self._free if slot.buffer.size >= num_bytes and slot.is_pinned >= pinned]
            if fitting:
                slot = min(fitting, key=lambda slot: slot.buffer.size)
                self._free.remove(slot)
            elif (made := self._make(num_bytes, pinned=pinned)) is not None:
                slot = made
            else:
                return None
            self._used[holder] = slot
            return slot.buffer[:num_bytes]

    def give_back(self, holder: object) -> None:
        """Take back what ``holder`` has, if it has something. Nothing may refer to it any more."""
        with self._lock:
            slot = self._used.pop(holder, None)
            if slot is not None:
                self._free.append(slot)
            if len(self._free) > _MAX_FREE:
                self._free.remove(min(self._free, key=lambda slot: slot.buffer.size))
                self._allowance.hold(self._num_bytes())

    def release(self) -> None:
        """Give the memory of all buffers back that are not in use."""
        with self._lock:
            self._free.clear()
            self._allowance.hold(self._num_bytes())

    def _make(self, num_bytes: int, *, pinned: bool) -> Slot | None:
        """Make a buffer in the place of the free ones, which are too small."""
        self._free.clear()
        rounded = -(-num_bytes // _ROUND_BYTES) * _ROUND_BYTES
        if not self._allowance.hold(self._num_bytes() + rounded, new_bytes=rounded):
            self._allowance.hold(self._num_bytes())  # What stood for the free ones is for others to take.
            return None
        try:
            return _allocate(rounded, pinned=pinned)
        except MemoryError:
            self._allowance.hold(self._num_bytes())
            return None

    def _num_bytes(self) -> int:
        return sum(slot.buffer.size for slot in [*self._free, *self._used.values()])


def _allocate(num_bytes: int, *, pinned: bool) -> Slot:
    if pinned:
        torch = sys.modules["torch"]
        with contextlib.suppress(RuntimeError):
            return Slot(torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True).numpy(), is_pinned=True)
    import numpy as np  # noqa: PLC0415 - there is something to copy, so it is loaded

    return Slot(np.empty(num_bytes, np.uint8), is_pinned=pinned)


class Allowance:
    """What this process may take of the memory that all processes of the machine share for staging.

    Args:
        path: The file whose bytes are locked; None: the one of this user.
        total_bytes: What they share; None: a quarter of the memory of the machine, or of the container.
    """

    def __init__(self, path: Path | None = None, total_bytes: int | None = None) -> None:
        """Hold nothing yet, and look at nothing."""
        self._path = path
        self._given_bytes = total_bytes
        self._descriptor: int | None = None
        self._held: list[int] = []

    @cached_property
    def _total_bytes(self) -> int:
        return memory_bytes() // _SHARE if self._given_bytes is None else self._given_bytes

    def hold(self, num_bytes: int, *, new_bytes: int = 0) -> bool:
        """Hold enough for so many bytes in all, and return whether that succeeded; if not, nothing has changed.

        Args:
            num_bytes: Of all buffers.
            new_bytes: Of one that is about to be made.
        """
        if num_bytes > self._total_bytes or new_bytes > available_bytes() // 2:
            return False
        wanted = -(-num_bytes * _NUM_TOKENS // max(1, self._total_bytes))
        while len(self._held) > wanted:
            self._unlock(self._held.pop())
        return len(self._held) == wanted or self._lock(wanted - len(self._held))

    def _lock(self, count: int) -> bool:
        """Take so many tokens that nobody has."""
        try:
            if self._descriptor is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                path = self._path or Path(tempfile.gettempdir(), f"tunekit-staging-{os.getuid()}")
                self._descriptor = os.open(path, flags, 0o600)
        except OSError:
            return False
        taken: list[int] = []
        mine = set(self._held)
        for token in range(_NUM_TOKENS):
            if len(taken) == count:
                break
            if token in mine:
                continue
            with contextlib.suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, token)
                taken.append(token)
        if len(taken) < count:
            for token in taken:
                self._unlock(token)
            return False
        self._held += taken
        return True

    def _unlock(self, token: int) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, token)


def memory_bytes() -> int:
    """Return how much memory this machine has, or the container that this process is in."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path(name).read_text()))
    return min(limits)


def available_bytes() -> int:
    """Return how much memory the system could give us now."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return memory_bytes()


SLOTS: Final = StagingSlots(Allowance())
"""Those of this process."""
