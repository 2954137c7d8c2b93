"""How a worker process of this machine ended: with which exit code, or by which signal.

Ray does not tell. Measured with Ray 2.60, after ``os._exit(3)``, SIGSEGV, SIGABRT, SIGUSR1 and SIGKILL alike it says
"connection error code 2. End of file"; only for ``sys.exit`` it names the code. The process is a child of Ray's, so
nobody else can wait for it. There are two witnesses:

- *The kernel*, from Linux 6.15 on: whoever holds a descriptor of a process is told its exit status, its parent or not.
- *The log* that Ray keeps of the process names a signal that its handler has seen: SIGSEGV, SIGABRT and the like, but
  neither SIGKILL nor an exit code.

Of a process on another machine there is neither, and of one on an older kernel there is the log alone.

The kernel's own killer, which ends a process when memory is used up, leaves a SIGKILL like any other. But it counts
its victims, and each of them explains one process that was killed and that nobody else has killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Final

_WAIT_S: Final = 0.5
"""Ray may notice a lost connection before the process is gone (after ``sys.exit``: 0.2 s)."""
_FRESH_S: Final = 10.0
_POLL_S: Final = 0.002
_INFO: Final = struct.Struct("=QQ11Ii")
"""Mask, control group, eleven ids, exit status: ``struct pidfd_info``."""
_WANTS_STATUS: Final = 1 << 3
_GET_INFO: Final = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
_SIGNAL_IN_LOG: Final = re.compile(rb"\*\*\* (SIG[A-Z]+) received")
_END_OF_LOG: Final = 65_536
_KILLED: Final = "SIGKILL"


class Obituaries:
    """Knows how processes ended that it has watched. For one thread at a time, but for ``watch``.

    Args:
        logs: Folder of Ray's logs on this machine; None: there is none.
    """

    def __init__(self, logs: Path | None = None) -> None:
        """Watch nobody yet."""
        self._logs = logs
        self._watched: dict[int, tuple[int, int | None]] = {}
        """By worker: its process, and a descriptor of it, if there is one."""
        self._num_starved = self._num_seen = num_killed_by_kernel()
        """How many victims of the kernel explain nothing any more, and how many there were at the last look."""
        self._seen_at = float("-inf")

    def watch(self, worker: int, pid: int) -> None:
        """Remember which process a worker is."""
        descriptor = None
        if sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):  # A kernel, or a Python, that knows none.
                descriptor = os.pidfd_open(pid)
        self._watched[worker] = pid, descriptor

    def forget(self, worker: int) -> None:
        """Do not watch a worker any more: how it ends is known."""
        _, descriptor = self._watched.pop(worker, (0, None))
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Forget everybody."""
        for worker in list(self._watched):
            self.forget(worker)

    def read(self, worker: int) -> str:
        """Return how a worker ended, such as ``SIGSEGV`` or ``exit code 3``, and forget it. Empty: nobody knows.

        Waits half a second at most for a process that is about to end.
        """
        pid, descriptor = self._watched.get(worker, (0, None))
        status = None if descriptor is None else _status(descriptor)
        self.forget(worker)
        if status is not None:
            return in_words(status)
        return self._from_log(pid) if pid else ""

    def has_starved(self, how: str) -> bool:
        """Return whether a process that ended like this was killed by the kernel for want of memory, as it seems."""
        if how != _KILLED or num_killed_by_kernel() <= self._num_starved:
            return False
        self._num_starved += 1
        return True

    def tick(self, now: float) -> None:
        """Let victims of the kernel of more than ten seconds ago explain nothing any more. Called again and again.

        Args:
            now: Seconds, monotone.
        """
        if now - self._seen_at >= _FRESH_S:
            self._seen_at = now
            self._num_starved, self._num_seen = max(self._num_starved, self._num_seen), num_killed_by_kernel()

    def _from_log(self, pid: int) -> str:
        """Return the signal that Ray's handler wrote down last."""
        found = [] if self._logs is None else sorted(self._logs.glob(f"worker-*-{pid}.err"))
        for path in found:
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _END_OF_LOG))
                if seen := _SIGNAL_IN_LOG.findall(file.read(_END_OF_LOG)):
                    return str(seen[-1].decode("ascii"))
        return ""


def in_words(status: int) -> str:
    """Return what an exit status, as ``waitpid`` gives it, says: ``SIGSEGV`` or ``exit code 3``."""
    number = status & 0x7F
    if not number:
        return f"exit code {status >> 8 & 0xFF}"
    try:
        return signal.Signals(number).name
    except ValueError:  # A real-time signal.
        return f"signal {number}"


def num_killed_by_kernel() -> int:
    """Return how many processes of this machine the kernel has ended for want of memory; 0 if it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _status(descriptor: int) -> int | None:
    """Return the exit status of a process; None: it has not ended, or the kernel does not say."""
    deadline = time.monotonic() + _WAIT_S
    poll = select.poll()  # Not select(), which knows no descriptor beyond 1023.
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(_WAIT_S * 1000):
        return None
    while True:
        found = _ask(descriptor)
        if found is None or found[0] & _WANTS_STATUS:
            return None if found is None else found[1]
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_S)  # It has ended, and its parent has not taken note of it yet.


def _ask(descriptor: int) -> tuple[int, int] | None:
    """Return what the kernel tells, as a mask, and the exit status; None: it is too old to tell."""
    from fcntl import ioctl  # noqa: PLC0415 - not there on Windows

    answer = bytearray(_INFO.pack(_WANTS_STATUS, *[0] * 13))
    try:
        ioctl(descriptor, _GET_INFO, answer)
    except ProcessLookupError:  # It is a zombie: gone, but not reaped.
        return 0, 0
    except OSError:
        return None
    mask, *_, status = _INFO.unpack(answer)
    return mask, status
