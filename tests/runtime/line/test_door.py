"""The short way to the mailbox: every frame answered once, and the long way whenever the door fails."""

from __future__ import annotations

import errno
import math
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunekit.runtime.line import door
from tunekit.runtime.line.door import Door, Errand, Visitor, door_name

Visit = Callable[..., Visitor]


def long_way(frame: bytes, timeout_s: float) -> bytes:
    del timeout_s
    return b"by Ray: " + frame


@pytest.fixture
def name() -> str:
    return door_name()


@pytest.fixture
def opened(name: str) -> Iterator[Door]:
    found = Door(name, {Errand.EXCHANGE: lambda frame: b"re: " + frame})
    yield found
    found.close()


@pytest.fixture
def visitor() -> Iterator[Visit]:
    made: list[Visitor] = []

    def make(name: str, errand: Errand = Errand.EXCHANGE) -> Visitor:
        made.append(Visitor(name, errand, long_way))
        return made[-1]

    yield make
    for call in made:
        call.close()


@pytest.mark.usefixtures("opened")
def test_frames_of_every_size_are_answered(name: str, visitor: Visit) -> None:
    call = visitor(name)
    for size in [0, 1, 5, 65_535, 65_536, 3_000_000]:
        frame = os.urandom(size)
        assert call(frame, 120.0) == b"re: " + frame


@pytest.mark.usefixtures("opened")
def test_each_connection_has_a_thread_of_its_own(name: str, visitor: Visit) -> None:
    """Many at once, none of which gets what is another's."""
    wrong: list[int] = []

    def visit(number: int) -> None:
        call = visitor(name)
        frames = [b"%d.%d" % (number, step) for step in range(50)]
        wrong.extend(number for frame in frames if call(frame, 120.0) != b"re: " + frame)

    threads = [threading.Thread(target=visit, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("part", "error"), [("accept", OSError(errno.EMFILE, "too many open files")), ("start", RuntimeError("no thread"))]
)
def test_a_driver_that_is_short_of_files_or_threads_opens_to_the_next_one(
    part: str, error: Exception, name: str, visitor: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the door shut for good, no worker would ever learn what it is hired for."""
    owner: Any = socket.socket if part == "accept" else threading.Thread
    real, failures = getattr(owner, part), [error, error]

    def fail_at_first(self: Any) -> Any:
        if failures and threading.current_thread().name == "tunekit-door":
            raise failures.pop()
        return real(self)

    monkeypatch.setattr(owner, part, fail_at_first)
    opened = Door(name, {Errand.EXCHANGE: lambda frame: b"re: " + frame})
    try:
        answers = [visitor(name)(b"x", 120.0) for _ in range(3)]
        assert (answers[-1], failures) == (b"re: x", [])
    finally:
        opened.close()


def test_without_a_door_the_long_way_is_taken(name: str, visitor: Visit) -> None:
    assert visitor("")(b"x", 120.0) == b"by Ray: x"
    assert visitor(name)(b"x", 120.0) == b"by Ray: x"


def test_when_the_door_comes_back_it_is_used_again(name: str, monkeypatch: pytest.MonkeyPatch, visitor: Visit) -> None:
    """Until then nobody is kept waiting."""
    answers = {Errand.EXCHANGE: lambda frame: b"first: " + frame}
    connections: list[socket.socket] = []
    real = socket.socket.accept

    def accept(self: socket.socket) -> Any:
        found = real(self)
        connections.append(found[0])
        return found

    monkeypatch.setattr(socket.socket, "accept", accept)
    first = Door(name, answers)
    call = visitor(name)
    assert call(b"x", 120.0) == b"first: x"
    first.close()
    for connection in connections:
        connection.shutdown(socket.SHUT_RDWR)
    assert call(b"x", 120.0) == b"by Ray: x"  # The connection is dead.
    second = Door(name, {Errand.EXCHANGE: lambda frame: b"second: " + frame})
    assert call._knocks_at > 0.0
    call._knocks_at = math.inf
    assert call(b"x", 120.0) == b"by Ray: x"  # Not asked again at once.
    call._knocks_at = 0.0
    assert call(b"x", 120.0) == b"second: x"
    second.close()


def test_an_answer_that_does_not_come_is_asked_for_the_long_way(name: str, visitor: Visit) -> None:
    """And what comes too late is not taken for the answer to another question."""
    release = threading.Event()

    def answer(frame: bytes) -> bytes:
        if frame == b"slow":
            release.wait(120)
        return b"re: " + frame

    opened = Door(name, {Errand.EXCHANGE: answer})
    call = visitor(name)
    assert call(b"slow", 0.05) == b"by Ray: slow"
    release.set()
    assert call(b"x", 120.0) == b"by Ray: x"
    opened.close()


@pytest.mark.usefixtures("opened")
def test_a_signal_in_the_middle_of_an_answer_does_not_mix_answers(
    name: str, monkeypatch: pytest.MonkeyPatch, visitor: Visit
) -> None:
    call = visitor(name)
    assert call(b"x", 120.0) == b"re: x"
    real = door._receive

    def interrupted(reader: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            raise SystemExit(1)
        return real(reader)

    monkeypatch.setattr(door, "_receive", interrupted)
    with pytest.raises(SystemExit):
        call(b"lost", 120.0)
    monkeypatch.setattr(door, "_receive", real)
    assert call(b"y", 120.0) == b"re: y"


@pytest.mark.usefixtures("opened")
def test_processes_of_other_users_are_not_talked_to(name: str, monkeypatch: pytest.MonkeyPatch, visitor: Visit) -> None:
    """Either end refuses: a stranger who took the name gets no frame, and a stranger's frame no answer."""
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert visitor(name)(b"secret", 120.0) == b"by Ray: secret"


def test_a_stranger_is_hung_up_on(name: str, opened: Door, monkeypatch: pytest.MonkeyPatch, visitor: Visit) -> None:
    del opened
    monkeypatch.setattr(door, "_is_ours", lambda connection: threading.current_thread() is threading.main_thread())
    assert visitor(name)(b"x", 120.0) == b"by Ray: x"


def test_nothing_is_left_on_disk(name: str, opened: Door, visitor: Visit) -> None:
    del opened
    assert f"@{name}" in Path("/proc/net/unix").read_text()  # As the kernel shows an abstract one.


def test_without_names_in_the_kernel_the_door_is_in_a_folder_of_this_user(
    monkeypatch: pytest.MonkeyPatch, visitor: Visit
) -> None:
    """As on macOS, which does not tell whose process is at the other end either."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(socket, "SO_PEERCRED")
    name = door_name()
    folder = Path(name).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    opened = Door(name, {Errand.EXCHANGE: lambda frame: b"re: " + frame})
    assert visitor(name)(b"x", 120.0) == b"re: x"
    opened.close()
    assert not folder.exists()
