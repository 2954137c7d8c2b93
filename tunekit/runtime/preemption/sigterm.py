"""SIGTERM in a worker process: its machine is taken away, or its time there is over.

SLURM may send SIGUSR1 instead (``--signal=USR1@120``), which counts as the same inside of a job of SLURM.

The process ends in peace, within a grace: the trial that it runs comes to its next report, saves that row if it can,
and ends *preempted*, which is charged to nobody; a process without a trial leaves at once. Ray's own handler, which
ends the process wherever it is, has the second word.

Two threads hear of the signal. The *main* thread handles it when it next runs Python code; user code that sets a
handler of its own replaces ours there, for as long as its trial runs. A *watching* thread hears of it at once through a
pipe into which the interpreter writes whatever signal arrives, even while the main thread is inside of a long call of C
code, and sees to two things: the driver is told that this process was given notice, so that its death is no crash
however it comes; and the process ends when the grace is over, whatever it is doing then.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from tunekit import session
from tunekit.runtime.line.link import Link
from tunekit.runtime.line.wire import Terminating
from tunekit.session import PreemptionInfo

EXIT_CODE: Final = 128 + signal.SIGTERM
_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1)
_HURRY_S: Final = 1.0
"""What is left of the grace after a second signal."""
_HANDLED: Final = b"\0"
"""Written by our handler, should the interpreter not write to our pipe: another library may have given it its own."""


class Notice:
    """Lets one worker process end in peace.

    Args:
        link: Its line to the driver.
        grace_s: Seconds from the first signal to the end.
        die: Ends the process, with an exit code.
    """

    def __init__(self, link: Link, grace_s: float, die: Callable[[str, int], None]) -> None:
        """Begin without a signal; see ``heeded``."""
        self._link = link
        self._grace_s = grace_s
        self._die = die
        self._otherwise: Any = None
        self._num_handled = 0
        self._source = ""
        self._ends_at: float | None = None
        self._inlet, self._outlet = -1, -1

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Handle the signals inside the block, which the main thread must enter."""
        self._outlet, self._inlet = os.pipe()
        os.set_blocking(self._inlet, False)
        self._otherwise = signal.signal(signal.SIGTERM, self._handle)
        if _is_sent_by_slurm(signal.SIGUSR1):
            signal.signal(signal.SIGUSR1, self._handle)
        before = signal.set_wakeup_fd(self._inlet, warn_on_full_buffer=False)
        watching = threading.Thread(target=self._watch, name="tunekit-notice", daemon=True)
        watching.start()
        _heeded.append(self)
        try:
            yield
        finally:
            _heeded.remove(self)
            signal.set_wakeup_fd(before)
            signal.signal(signal.SIGTERM, self._otherwise)
            if self._is_ours(signal.SIGUSR1):
                signal.signal(signal.SIGUSR1, signal.SIG_DFL)
            os.close(self._inlet)
            watching.join()
            os.close(self._outlet)

    @property
    def remaining_s(self) -> float:
        """Seconds to the end of the grace."""
        return self._grace_s if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def forget(self) -> None:
        """Have nothing to do with this process: it is a child of the one that is to be watched."""
        signal.set_wakeup_fd(-1)
        for number in filter(self._is_ours, _SIGNALS):
            signal.signal(number, signal.SIG_DFL)

    # -- the main thread -----------------------------------------------------------------------------------------------

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Have the process end in peace; at the second signal, at once. May run between any two instructions."""
        self._num_handled += 1
        with contextlib.suppress(OSError):
            os.write(self._inlet, _HANDLED)
        if self._num_handled > 1:
            if callable(self._otherwise):
                self._otherwise(number, frame)
            raise SystemExit(EXIT_CODE)
        self._announce(number)
        self._link.terminate(self._source, wakes=True)

    # -- the watching thread -------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Read what signals arrive until the pipe is closed, or the grace is over."""
        num_signals = 0
        while self._wait():
            arrived = os.read(self._outlet, 256)
            if not arrived:
                return
            ours = [number for number in arrived if number in _SIGNALS and self._is_ours(number)]
            num_signals += len(ours)
            if self._ends_at is None and (ours or self._num_handled):
                self._ends_at = time.monotonic() + self._grace_s
                self._announce(ours[0] if ours else signal.SIGTERM)
                self._link.terminate(self._source)
                self._link.tell(Terminating(reason=self._source))
            if self._ends_at is not None and max(num_signals, self._num_handled) > 1:
                self._ends_at = min(self._ends_at, time.monotonic() + _HURRY_S)
        self._die(f"it did not come to an end within {self._grace_s:g} s of {self._source}", EXIT_CODE)

    def _wait(self) -> bool:
        """Return True when there is something to read, False when the grace is over."""
        timeout_s = None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())
        return bool(select.select([self._outlet], [], [], timeout_s)[0])

    def _is_ours(self, number: int) -> bool:
        """Return whether the handler of a signal is ours: user code may have set its own, and then it is no notice."""
        return signal.getsignal(number) == self._handle

    def _announce(self, number: int) -> None:
        """Tell user code of a signal; of two, the first one is named."""
        self._source = self._source or signal.Signals(number).name
        deadline = time.time() + self._grace_s
        session.announce(PreemptionInfo(deadline=deadline, source=self._source, node=socket.gethostname()))


def _is_sent_by_slurm(number: signal.Signals) -> bool:
    """Return whether a signal would end this process, and SLURM may be told to send it as a notice."""
    return "SLURM_JOB_ID" in os.environ and signal.getsignal(number) is signal.SIG_DFL


_heeded: list[Notice] = []


def _forget_all() -> None:
    """Let a forked child end at a signal as any process does. It would tell its parent of it, whose pipe it has."""
    for notice in _heeded:
        notice.forget()


os.register_at_fork(after_in_child=_forget_all)
