"""Reaps the child processes that a trial has left and that have ended, so that a reused worker gathers none of them.

A process that has ended stays in the system's table, *defunct*, until its parent has asked how. Trials that start
processes and never ask would fill the table, one after the other, in a worker that serves many.

Whoever is the first to ask learns the exit code, and nobody after that: a ``subprocess.Popen`` that comes too late
believes that it was 0, and a ``multiprocessing.Process`` that it runs for ever. Both may outlive their trial: in a
module, in an instance that is used again, or in a thread. So ``waitpid(-1)`` is out of the question. Each child is
found without taking its code, and where an object stands for it, that object asks, and keeps what it hears. Only
those for which none does, such as after ``os.fork``, are reaped here: whoever knew their numbers was code of a trial
that is over. Where objects are hidden from the collector (``gc.freeze``) nobody can tell, so all are left alone; and so
are the servers of multiprocessing, which fail for good if their exit code is gone when they want to start anew.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import subprocess
import sys
from typing import Final

_SERVERS: Final = (
    ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
    ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
)
"""Module, object and attribute of the numbers of processes that multiprocessing starts for itself."""


def reap_children() -> None:
    """Reap the children of this process that have ended. To be called while no code of a trial runs.

    Without any it costs one call to the system; the objects of this process are gone through only if there are some.
    """
    if _ended_child() is None or gc.get_freeze_count():
        return
    multiprocessing.active_children()  # Which asks for each that multiprocessing knows.
    owners = _owners()
    last, servers = None, _servers()
    while (pid := _ended_child()) is not None and pid != last and pid not in servers:
        if pid in owners:
            owners[pid].poll()  # Does nothing while a thread waits for it, which then is about to hear.
        else:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        last = pid


def _ended_child() -> int | None:
    """Return a child that has ended, without reaping it; None: there is none."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13.
        return None
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def _servers() -> set[int | None]:
    """Return the numbers of the processes that multiprocessing has started for itself, if it has."""
    found = [(sys.modules.get(module), name, attribute) for module, name, attribute in _SERVERS]
    return {getattr(getattr(module, name, None), attribute, None) for module, name, attribute in found}


def _owners() -> dict[int, subprocess.Popen[bytes]]:
    """Return what stands for a child, by its number. There is no list of them but that of all objects."""
    # By type(), since isinstance() would ask strange objects for their __class__, which is code of the user.
    found = [each for each in gc.get_objects() if issubclass(type(each), subprocess.Popen)]
    return {each.pid: each for each in found if getattr(each, "returncode", 0) is None}
