"""How a process ended is known from the kernel, or else from Ray's log."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunekit.runtime.executor import obituary
from tunekit.runtime.executor.obituary import Obituaries, in_words


@pytest.fixture
def obituaries(tmp_path: Path) -> Iterator[Obituaries]:
    made = Obituaries(tmp_path)
    yield made
    made.close()


def run(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)


def ended(process: subprocess.Popen[bytes]) -> None:
    """Let a process go on to its end, and reap it, as its parent does."""
    process.communicate()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit code 0"),
        (3 << 8, "exit code 3"),
        (255 << 8, "exit code 255"),
        (11, "SIGSEGV"),
        (9, "SIGKILL"),
        (128 | 6, "SIGABRT"),
        (45, "signal 45"),
    ],
)
def test_a_status_in_words(status: int, words: str) -> None:
    assert in_words(status) == words


def knows() -> bool:
    """Return whether this kernel tells the exit status of a process that somebody else has reaped."""
    process = run("")
    descriptor = os.pidfd_open(process.pid)
    ended(process)
    found = obituary._ask(descriptor)
    os.close(descriptor)
    return bool(found and found[0])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("input(); import os; os._exit(3)", "exit code 3"),
        ("input(); import sys; sys.exit(4)", "exit code 4"),
        ("input(); import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("input(); import os; os.abort()", "SIGABRT"),
        ("input(); import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ],
)
def test_the_kernel_knows(code: str, words: str, obituaries: Obituaries) -> None:
    process = run(code)
    obituaries.watch(1, process.pid)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    ended(process)
    assert obituaries.read(1) == (words if knows() else "")
    assert obituaries.read(1) == "", "it is told once"


def test_a_process_that_lives_has_no_obituary(obituaries: Obituaries, monkeypatch: pytest.MonkeyPatch) -> None:
    """That its connection is lost does not prove that a worker has ended."""
    monkeypatch.setattr(obituary, "_WAIT_S", 0.05)
    process = run("input()")
    obituaries.watch(1, process.pid)
    assert obituaries.read(1) == ""
    process.kill()
    ended(process)


def test_on_an_older_kernel_the_log_of_ray_names_the_signal(
    obituaries: Obituaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obituary, "_ask", lambda descriptor: None)
    process = run("")
    obituaries.watch(1, process.pid)
    log = tmp_path / f"worker-0a-01000000-{process.pid}.err"
    log.write_bytes(b"*** SIGABRT received at time=1 ***\n" + b"x" * 10_000 + b"*** SIGSEGV received at time=2 ***\n")
    (tmp_path / f"worker-0a-01000000-1{process.pid}.err").write_bytes(b"*** SIGBUS received at time=1 ***")
    ended(process)
    assert obituaries.read(1) == "SIGSEGV"


def test_without_a_witness_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obituary, "_ask", lambda descriptor: None)
    obituaries = Obituaries()
    process = run("")
    obituaries.watch(1, process.pid)
    ended(process)
    assert obituaries.read(1) == ""
    assert obituaries.read(77) == "", "it was never watched: a process of another machine"


def test_each_victim_of_the_kernel_explains_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 5
    monkeypatch.setattr(obituary, "num_killed_by_kernel", lambda: count)
    obituaries = Obituaries()
    assert not obituaries.has_starved("SIGKILL"), "those were before"
    count = 6
    assert not obituaries.has_starved("SIGSEGV")
    assert not obituaries.has_starved("")
    assert obituaries.has_starved("SIGKILL")
    assert not obituaries.has_starved("SIGKILL"), "that one was killed by somebody else"
    count = 7
    obituaries.tick(0.0)
    assert obituaries.has_starved("SIGKILL"), "it was not long ago"
    count = 8
    for now in (5.0, 11.0, 22.0):
        obituaries.tick(now)
    assert not obituaries.has_starved("SIGKILL"), "a victim of long ago explains nothing"


def test_the_kernel_counts_its_victims() -> None:
    assert obituary.num_killed_by_kernel() >= 0


def test_a_driver_with_many_open_files_is_told_too(obituaries: Obituaries) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < 1200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
    try:
        process = run("import os; os._exit(7)")
        obituaries.watch(1, process.pid)
        ended(process)
        assert obituaries.read(1) == ("exit code 7" if knows() else "")
    finally:
        for file in files:
            os.close(file)
