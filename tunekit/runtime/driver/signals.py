"""Ctrl-C and SIGTERM while a sweep runs: once to end it cleanly, twice to end it at once.

Inside of a job of SLURM, SIGUSR1 too, which ``#SBATCH --signal=B:USR1@120`` has it send before the job's time is up.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tunekit.session import PreemptionInfo, announce

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138}


class SweepInterrupted(KeyboardInterrupt, SystemExit):
    """The sweep was interrupted and everything is saved; running the script again goes on.

    As a ``KeyboardInterrupt`` it is caught wherever Ctrl-C is; uncaught, the script exits with ``code`` as shells
    expect: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, code: int) -> None:
        """Keep the exit code."""
        SystemExit.__init__(self, code)


class Interruption:
    """What signals have said so far."""

    def __init__(self, on_first: Callable[[str], None]) -> None:
        """Call ``on_first`` with the signal's name at the first signal."""
        self._on_first = on_first
        self.exit_code = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Pass the first signal on; raise at the second."""
        del frame
        if self.exit_code:
            raise SweepInterrupted(self.exit_code)
        name = signal.Signals(number).name
        self.exit_code = _EXIT_CODES[signal.Signals(number)]
        if number != signal.SIGINT:  # For trials that run in this very process.
            announce(PreemptionInfo(deadline=None, source=name, node=socket.gethostname()))
        self._on_first(name)


def _is_ours(number: signal.Signals) -> bool:
    """Return whether a signal is to end the sweep. SIGUSR1 may mean anything to a script that handles it."""
    if number is signal.SIGUSR1:
        return "SLURM_JOB_ID" in os.environ and signal.getsignal(number) is signal.SIG_DFL
    return signal.getsignal(number) is not None


@contextmanager
def interruptible(on_first: Callable[[str], None]) -> Iterator[Interruption]:
    """Watch for signals inside the block, and put the handlers back that were there before.

    Outside the main thread Python cannot watch for signals; then nothing changes. A signal whose handler was not set
    from Python is left alone, since Python could not put that handler back.
    """
    interruption = Interruption(on_first)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption.handle) for number in _EXIT_CODES if _is_ours(number)}
    try:
        yield interruption
    finally:
        announce(None)
        for number, handler in before.items():
            signal.signal(number, handler)
