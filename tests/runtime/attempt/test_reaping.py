"""Children that have ended are reaped, and whoever stands for one still learns its exit code."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from multiprocessing import forkserver
from pathlib import Path

import pytest

from tunekit.runtime.attempt.reaping import reap_children

context = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own process hides what it has loaded from the collector."""
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 0)


def spawn_and_end() -> int:
    """Return a child that has ended and that nobody stands for."""
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], {})
    await_end(pid)
    return pid


def await_end(pid: int) -> None:
    """Wait until a child has ended, and leave its exit code where it is."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def is_there(pid: int) -> bool:
    """Return whether a process is in the system's table, running or defunct."""
    return Path(f"/proc/{pid}").exists()


def run(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE)


def test_children_that_nobody_stands_for_are_reaped() -> None:
    pids = [spawn_and_end() for _ in range(20)]
    assert all(map(is_there, pids))
    reap_children()
    assert not any(map(is_there, pids))


def test_who_stands_for_a_child_keeps_its_exit_code() -> None:
    """Also among others; a Popen that came too late would say 0."""
    first, process, second = spawn_and_end(), run("raise SystemExit(3)"), spawn_and_end()
    worker = context.Process(target=os._exit, args=(4,))
    worker.start()
    assert worker.pid is not None
    for pid in (process.pid, worker.pid):
        await_end(pid)
    reap_children()
    assert not any(map(is_there, (first, process.pid, worker.pid, second)))
    assert (process.wait(), worker.exitcode) == (3, 4)
    process.communicate()


def test_a_child_that_runs_is_left_alone_and_a_thread_that_waits_is_told() -> None:
    process, heard = run("import sys; sys.stdin.read(); sys.exit(6)"), list[int]()
    waiting = threading.Thread(target=lambda: heard.append(process.wait()))
    waiting.start()
    reap_children()
    assert process.returncode is None
    assert process.stdin is not None
    process.stdin.close()
    while waiting.is_alive():
        reap_children()
    assert heard == [6]


def test_the_servers_of_multiprocessing_and_what_cannot_be_known_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who starts a server anew asks for the old one's exit code, and fails if it is gone."""
    pid = spawn_and_end()
    with monkeypatch.context() as patch:
        patch.setattr(forkserver._forkserver, "_forkserver_pid", pid)
        reap_children()
    assert is_there(pid)
    with monkeypatch.context() as patch:
        patch.setattr(gc, "get_freeze_count", lambda: 1)
        reap_children()
    assert is_there(pid)
    reap_children()
    assert not is_there(pid)


def test_a_process_without_children_has_nothing_to_reap() -> None:
    code = "from tunekit.runtime.attempt.reaping import reap_children; reap_children()"
    subprocess.run([sys.executable, "-c", code], check=True)
