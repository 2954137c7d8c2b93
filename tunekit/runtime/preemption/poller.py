"""One thread on each machine that asks its cloud whether it is to go.

Every worker process would ask if it could; the one that holds a name in the kernel does, and when its process ends the
name is free for another. So nobody is elected, and no process is started for it.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Final

from tunekit.runtime.line.link import Link
from tunekit.runtime.line.wire import MachineNotice
from tunekit.runtime.preemption.cloud import ADDRESS_VARIABLE, Ask, Cloud, cloud_here, service_at
from tunekit.runtime.preemption.plan import NodeNotice

_AGAIN_S: Final = 2.0
"""How often a process that does not ask looks whether it is to."""
_SELDOM_S: Final = 60.0
_MANY: Final = 10
"""So many failures in a row, before any answer, and there may be no such service: it is asked seldom."""
IDLE_POLL_S: Final = 2.0
"""So soon a process that asks has the driver know what it heard, also while it waits for work."""


def start_poller(
    link: Link, name: str, environ: Mapping[str, str] = os.environ, *, over: threading.Event | None = None
) -> None:
    """Ask this machine's cloud on a thread, if it is of one and no other process of the sweep does.

    Args:
        link: The way to the driver.
        name: What processes of one sweep have in common.
        environ: Variables of the environment.
        over: Set when it is to end; None: with the process.
    """
    pause = over if over is not None else threading.Event()
    threading.Thread(target=_run, args=(link, name, environ, pause), name="tunekit-cloud", daemon=True).start()


def _run(link: Link, name: str, environ: Mapping[str, str], pause: threading.Event) -> None:
    try:
        cloud = cloud_here(environ)
        if cloud is None:
            return
        address = environ.get(ADDRESS_VARIABLE)
        ask = service_at(address) if address else service_at()
    except ValueError as error:
        sys.stderr.write(f"tunekit: the cloud is not asked for notices: {error}\n")
        return
    name = f"{name}-{type(cloud).__name__}"
    seat = _seat(name)
    while seat is None:
        if pause.wait(_AGAIN_S):
            return
        seat = _seat(name)
    with seat:
        link.idle_poll_s = IDLE_POLL_S
        poller = Poller(cloud, ask, link.tell)
        while not pause.wait(poller.pause_s):
            poller.poll()


def _seat(name: str) -> socket.socket | None:
    """Return what only one process of a machine can have; None: another one has it."""
    seat = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if sys.platform == "linux":  # Elsewhere there are no such names, and every process asks.
            seat.bind(f"\0{name}")
    except OSError:
        seat.close()
        return None
    return seat


class Poller:
    """Tells what is new of what a cloud says.

    Args:
        cloud: Which one.
        ask: Reaches its service.
        tell: Is told.
    """

    def __init__(self, cloud: Cloud, ask: Ask, tell: Callable[[MachineNotice], None]) -> None:
        """Begin without knowing what a process before this one has told, and the cloud may have taken back since."""
        self._cloud = cloud
        self._ask = ask
        self._tell = tell
        self._known: Mapping[str, NodeNotice | None] = dict.fromkeys(cloud.sources)
        self._num_failures = 0
        self._has_answered = False

    @property
    def pause_s(self) -> float:
        """Seconds to the next poll."""
        is_there = self._has_answered or self._num_failures < _MANY
        return self._cloud.every_s if is_there else _SELDOM_S

    def poll(self) -> None:
        """Ask once. What cannot be asked has said nothing: neither that the machine goes, nor that it stays."""
        try:
            notices = {notice.source: notice for notice in self._cloud.notices(self._ask)}
        except Exception:  # noqa: BLE001 - no answer, or of another shape, or nested without end: the next may be one
            self._num_failures += 1
            return
        self._has_answered = True
        for source, notice in notices.items():
            if self._known.get(source) != notice:
                self._tell(MachineNotice(source=source, deadline=notice.deadline, ends=notice.ends))
        for source in self._known.keys() - notices.keys():
            self._tell(MachineNotice(source=source, is_withdrawn=True))
        self._known = notices
