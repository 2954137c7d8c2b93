"""What Python itself keeps for the whole process, to be put back after a trial."""

from __future__ import annotations

import gc
import sys
import warnings
from contextlib import ExitStack
from typing import Any


def keep(undo: ExitStack) -> None:
    """Leave in ``undo`` what puts back whatever changes until then."""
    undo.callback(_restore_path, sys.path, list(sys.path))
    undo.callback(_restore_filters, list(warnings.filters), len(sys.modules))
    undo.callback(_restore_recursion_limit, sys.getrecursionlimit())
    undo.callback(_restore_collector, gc.get_threshold(), was_on=gc.isenabled())
    undo.callback(_restore_socket_timeout, _socket_timeout())


def _restore_path(path: list[str], content: list[str]) -> None:
    if sys.path is not path or path != content:
        path[:] = content
        sys.path = path


def _restore_filters(content: list[Any], num_modules: int) -> None:
    """Put the filters of warnings back, by the public functions, which have warnings forget what they remember of them.

    A library adds its own when it is loaded, which it is once, so after an import they stay. Among them may be some of
    the trial; but none of those is left that has another trial fail.
    """
    now = list(warnings.filters)
    if now == content:
        return
    added = [] if len(sys.modules) == num_modules else [each for each in now if each not in content]
    warnings.resetwarnings()
    warnings.filters[:] = [*(each for each in added if each[0] != "error"), *content]  # type: ignore[index]


def _restore_recursion_limit(limit: int) -> None:
    if sys.getrecursionlimit() != limit:
        sys.setrecursionlimit(limit)


def _restore_collector(thresholds: tuple[int, int, int], *, was_on: bool) -> None:
    """Turn it on again, never off: it may have been off for the moment only, while another thread was importing."""
    if was_on and not gc.isenabled():
        gc.enable()
    if gc.get_threshold() != thresholds:
        gc.set_threshold(*thresholds)


def _socket_timeout() -> float | None:
    """Return the time-out of new sockets; it is None until somebody has loaded what could set it."""
    socket: Any = sys.modules.get("_socket")
    return None if socket is None else socket.getdefaulttimeout()


def _restore_socket_timeout(before: float | None) -> None:
    if _socket_timeout() != before:
        sys.modules["_socket"].setdefaulttimeout(before)
