"""What the system keeps for a process, to be put back after a trial.

Not the niceness: a process may raise it, and needs privileges to lower it again. Of limits only the soft ones, as far
as the hard ones let them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

_SIGNALS: Final = tuple(
    int(number)
    for number in signal.valid_signals()
    if number < 32 and number not in {signal.SIGKILL, signal.SIGSTOP}  # noqa: PLR2004 - real-time ones are from 32
)

_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)

_LIMITS: Final = tuple(
    getattr(resource, name)
    for name in map("RLIMIT_{}".format, ["AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "STACK"])
    if hasattr(resource, name)
)
"""Those by which a later trial could fail. A look at each takes a microsecond."""

_plain_signal: Final = getattr(signal, "_signal", signal)
"""Without the conversion to enums, which takes ten times as long as the rest."""

_handler_of: Final[Callable[[int], Any]] = _plain_signal.getsignal


def keep(undo: ExitStack) -> None:
    """Leave in ``undo`` what puts back whatever changes until then."""
    undo.callback(_restore_cwd, _cwd())
    undo.callback(_restore_environment, _environment())
    # It can only be read by setting it. A file that another thread makes meanwhile is too private, not too open.
    umask = os.umask(0o077)
    os.umask(umask)
    undo.callback(os.umask, umask)
    undo.callback(_restore_limits, [resource.getrlimit(number)[0] for number in _LIMITS])
    if hasattr(os, "sched_getaffinity"):
        undo.callback(_restore_processors, os.sched_getaffinity(0))
    # Undone after the handlers: a signal that was blocked comes to whoever waited for it before the trial.
    undo.callback(_restore_mask, _mask())
    if threading.current_thread() is threading.main_thread():
        undo.callback(_restore_signals, [_handler_of(number) for number in _SIGNALS])
    # Undone before the handlers, without which the signal of a timer ends the process.
    undo.callback(_stop_timers, [timer for timer in _TIMERS if signal.getitimer(timer)[0] == 0])


def _cwd() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - three times as fast, and on the way of every trial
    except OSError:
        return None


def _restore_cwd(cwd: str | None) -> None:
    if cwd is not None and _cwd() != cwd:
        with contextlib.suppress(OSError):
            os.chdir(cwd)


def _environment() -> dict[Any, Any]:
    """Return a copy of the encoded environment, a hundred times as fast as one of the decoded."""
    return dict(os.environ._data)  # type: ignore[attr-defined] # noqa: SLF001 - as above


def _restore_environment(before: dict[Any, Any]) -> None:
    now = _environment()
    if now == before:
        return
    for name in now.keys() - before.keys():
        del os.environ[os.fsdecode(name)]
    for name, value in before.items():
        if now.get(name) != value:
            os.environ[os.fsdecode(name)] = os.fsdecode(value)


def _restore_limits(before: Sequence[int]) -> None:
    for number, soft in zip(_LIMITS, before, strict=True):
        now, hard = resource.getrlimit(number)
        if now != soft:
            fits = hard == resource.RLIM_INFINITY or resource.RLIM_INFINITY != soft <= hard
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(number, (soft if fits else hard, hard))


def _restore_processors(before: set[int]) -> None:
    if os.sched_getaffinity(0) != before:
        with contextlib.suppress(OSError):  # They may have been taken from the process.
            os.sched_setaffinity(0, before)


# -- signals -----------------------------------------------------------------------------------------------------------


def _mask() -> set[int]:
    """Return the signals that the calling thread has blocked."""
    return _plain_signal.pthread_sigmask(signal.SIG_BLOCK, ())  # type: ignore[no-any-return]


def _restore_mask(before: set[int]) -> None:
    if _mask() != before:
        _plain_signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop_timers(timers: Sequence[int]) -> None:
    """Stop those that did not run before: their signal would meet a trial that knows nothing of it."""
    for timer in timers:
        if signal.getitimer(timer)[0] != 0:
            signal.setitimer(timer, 0)


def _restore_signals(before: Sequence[Any]) -> None:
    for number, handler in zip(_SIGNALS, before, strict=True):
        # None: the handler was not installed from Python, and cannot be put back from here.
        if handler is not None and _handler_of(number) is not handler:
            if handler == signal.SIG_DFL:
                # Has the system drop one that is blocked: it was for the trial, and would end the process now.
                signal.signal(number, signal.SIG_IGN)
            signal.signal(number, handler)
