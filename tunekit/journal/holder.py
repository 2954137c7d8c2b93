"""Who holds the lease of an experiment, and whether it is certain that it is gone."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec
from xxhash import xxh3_64_hexdigest

from tunekit.journal.lock import show_holder


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What the lease says of the driver that holds it."""

    token: str
    """Unlike that of any other driver."""
    generation: int
    pid: int
    host: str
    machine: str = ""
    """Digest of what tells this boot of this machine from all others; empty if that is not known."""
    started: str = ""
    """When the process began, as its machine tells it, since numbers of processes are given out again."""
    since: float
    """Unix seconds."""
    lease_s: float
    """Without a renewal for so long, it counts as dead."""
    renewals: int = 0
    released: bool = False
    """Whether it ended in peace."""
    drives: bool = True
    """Whether it is a driver, which stops when it is taken over from, and not a tool that keeps drivers away."""

    def __str__(self) -> str:
        """Return what a person wants to know."""
        return show_holder(self.pid, self.host, self.since)


def parse_holder(data: bytes) -> Holder | None:
    """Return what a lease says; None if it cannot be read."""
    try:
        return msgspec.json.decode(data, type=Holder)
    except (msgspec.DecodeError, RecursionError):
        return None


def is_gone(holder: Holder) -> bool:
    """Return whether it is certain, without waiting, that the holder's process has ended."""
    if not holder.machine or holder.machine != this_machine():
        return False
    started = process_start(holder.pid)
    return started is None or bool(started and holder.started and started != holder.started)


def this_machine() -> str:
    """Return a digest of what tells this boot of this machine from all others; empty if that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        numbers = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return xxh3_64_hexdigest(f"{boot} {numbers} {socket.gethostname()}".encode())


def process_start(pid: int) -> str | None:
    """Return when a process of this machine began; None if it has ended, empty if that is hidden."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in "ZX" else fields[19]
