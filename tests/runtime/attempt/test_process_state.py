"""What the system keeps for a process is as it was when a trial ends: signals, limits, processors."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tunekit.runtime.attempt.isolation import isolated


@pytest.fixture(autouse=True)
def mask() -> Iterator[set[int]]:
    """Whatever a test does, the process of the tests hears what it heard."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield {int(number) for number in before}
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run(program: str) -> int:
    return subprocess.run([sys.executable, "-c", program], timeout=240, check=False).returncode


def test_blocked_signals_are_heard_again(mask: set[int]) -> None:
    """A trial that blocks SIGTERM would hide from all later ones that their machine goes."""
    with isolated(1):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_a_signal_that_was_blocked_comes_to_the_handler_from_before() -> None:
    told = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: told.append("before"))
    try:
        with isolated(1):
            signal.signal(signal.SIGUSR1, lambda number, frame: told.append("of the trial"))
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # Not to a thread that has not blocked it.
            assert not told
        assert told == ["before"]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_that_waits_for_the_handler_of_a_trial_does_not_end_the_process() -> None:
    program = """if True:
        import os, signal
        from tunekit.runtime.attempt.isolation import isolated
        with isolated(1):
            signal.signal(signal.SIGALRM, lambda *about: None)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            os.kill(os.getpid(), signal.SIGALRM)
    """
    assert run(program) == 0


def test_a_signal_that_is_to_end_the_process_ends_it_all_the_same() -> None:
    program = """if True:
        import os, signal
        from tunekit.runtime.attempt.isolation import isolated
        with isolated(1):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            os.kill(os.getpid(), signal.SIGTERM)
    """
    assert run(program) == -signal.SIGTERM


def test_soft_limits_come_back() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_NOFILE)
    with isolated(1):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1][0] - 1, before[1][1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, before[0][1]))
    assert (resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_NOFILE)) == before


def test_a_soft_limit_comes_back_as_far_as_its_hard_one_lets_it() -> None:
    """In a process of its own, which can never raise a hard limit again."""
    program = """if True:
        import resource
        from tunekit.runtime.attempt.isolation import isolated
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with isolated(1):
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, 150))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (150, 150)
    """
    assert run(program) == 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not tell")
def test_processors_come_back() -> None:
    before = os.sched_getaffinity(0)
    if len(before) == 1:
        pytest.skip("there is one processor")
    with isolated(1):
        os.sched_setaffinity(0, {min(before)})
    assert os.sched_getaffinity(0) == before
