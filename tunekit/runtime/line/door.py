"""The way to the mailbox for processes on the driver's machine: a Unix socket beside Ray.

A call through Ray costs half a millisecond of processor time on the machine that all its ends share; the same frame
through a socket costs a tenth of that, and needs no actor that must be started first. So the driver opens a *door*, and
whoever is on its machine goes through it. For everybody else, and whenever the door does not open, there is a way
through Ray (see ``relay``): frames are numbered by their senders, so one that came on both ways does no harm.

The name of the socket is in the kernel only (an abstract one): nothing is left in a folder when the driver is killed,
and a container or network namespace of its own does not see it. Where there are no such names, it is a file in a folder
that only this user can enter. Both ends look at who the other one is, and talk to processes of the same user only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from io import BufferedReader
from typing import Final

RETRY_S: Final = 0.1
"""So long the way through Ray is taken after the door did not open."""
CONNECT_S: Final = 5.0
_SHORT_S: Final = 0.05
"""So long a driver without a file or a thread to spare waits for one."""
_FAREWELL_S: Final = 1.0
_HEAD: Final = struct.Struct("!BI")
_CREDENTIALS: Final = struct.Struct("3i")


class Errand(IntEnum):
    """What a frame is for."""

    EXCHANGE = 1
    EXCHANGE_AT_ONCE = 2
    """Does not wait for orders."""
    CONTRACT = 3
    """What a worker is hired for; the question is the id of its actor."""


def door_name() -> str:
    """Return a new name for a door: in the kernel on Linux, elsewhere the path of a file."""
    if sys.platform == "linux":
        return f"tunekit-{secrets.token_hex(16)}"
    return os.path.join(tempfile.mkdtemp(prefix="tk"), "door")  # noqa: PTH118 - the name of a socket


class Door:
    """The driver's end: answers frames, each connection on a thread of its own.

    Args:
        name: What the door is called.
        answers: What answers each errand.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, name: str, answers: Mapping[Errand, Callable[[bytes], bytes]]) -> None:
        """Open the door."""
        self._name = name
        self._answers = answers
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(_address(name))
        self._socket.listen(socket.SOMAXCONN)
        self._is_closed = False
        self._thread = threading.Thread(target=self._accept, name="tunekit-door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody in any more; then the name is free again."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(_FAREWELL_S)  # A call that waits in the system holds the name.
        if _is_path(self._name):
            shutil.rmtree(os.path.dirname(self._name), ignore_errors=True)  # noqa: PTH120 - the name of a socket

    def _accept(self) -> None:
        """Let in whoever comes. A process that is short of files or threads now may have some soon."""
        while not self._is_closed:
            try:
                self._let_in(self._socket.accept()[0])
            except (OSError, RuntimeError):
                time.sleep(_SHORT_S)

    def _let_in(self, connection: socket.socket) -> None:
        try:
            threading.Thread(target=self._serve, args=[connection], name="tunekit-door", daemon=True).start()
        except BaseException:
            connection.close()
            raise

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader, contextlib.suppress(OSError):
            if not _is_ours(connection):
                return
            while True:
                errand, frame = _receive(reader)
                _send(connection, errand, self._answers[Errand(errand)](frame))


class Visitor:
    """The other end: calls the mailbox through the door while that opens, else by another way.

    For one thread at a time.

    Args:
        name: What the door is called; empty: there is none.
        errand: What every call is for.
        otherwise: The other way: is given the frame, and the seconds that an answer may take.
    """

    def __init__(self, name: str, errand: Errand, otherwise: Callable[[bytes, float], bytes]) -> None:
        """Knock with the first call."""
        self._name = name
        self._errand = errand
        self._otherwise = otherwise
        self._line: tuple[socket.socket, BufferedReader] | None = None
        self._knocks_at = 0.0 if name else float("inf")

    def __call__(self, frame: bytes, timeout_s: float) -> bytes:
        """Return the mailbox's answer.

        Raises:
            Exception: Whatever the other way raises.
        """
        line = self._line or self._knock()
        if line is None:
            return self._otherwise(frame, timeout_s)
        connection, reader = line
        try:
            connection.settimeout(timeout_s)
            _send(connection, self._errand, frame)
            return _receive(reader)[1]
        except OSError:
            self._lock_out()
            return self._otherwise(frame, timeout_s)
        except BaseException:  # A signal in the middle of an answer, whose rest would be taken for the next one.
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        line, self._line = self._line, None
        for end in line or ():
            end.close()

    def _knock(self) -> tuple[socket.socket, BufferedReader] | None:
        if time.monotonic() < self._knocks_at:
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_S)
            connection.connect(_address(self._name))
            is_open = _is_ours(connection)
        except OSError:
            is_open = False
        except BaseException:
            connection.close()
            raise
        if not is_open:
            connection.close()
            self._lock_out()
            return None
        self._line = connection, connection.makefile("rb")
        return self._line

    def _lock_out(self) -> None:
        self.close()
        self._knocks_at = time.monotonic() + RETRY_S


def _is_path(name: str) -> bool:
    return name.startswith("/")


def _address(name: str) -> str:
    return name if _is_path(name) else f"\0{name}"


def _is_ours(connection: socket.socket) -> bool:
    """Return whether a process of our own user is at the other end; where nobody says, the folder has seen to it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(found)[1] == os.getuid())


def _send(connection: socket.socket, errand: int, frame: bytes) -> None:
    connection.sendall(_HEAD.pack(errand, len(frame)) + frame)


def _receive(reader: BufferedReader) -> tuple[int, bytes]:
    """Return the next errand and its frame.

    Raises:
        OSError: The other end has hung up, or is silent for too long.
    """
    errand, size = _HEAD.unpack(_read(reader, _HEAD.size))
    return errand, _read(reader, size)


def _read(reader: BufferedReader, size: int) -> bytes:
    data = reader.read(size)
    if len(data) < size:
        raise ConnectionResetError("the other end of the door has hung up")
    return data
