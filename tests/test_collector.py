"""Python's garbage collector rests for a while, and no longer."""

from __future__ import annotations

import gc
import os
import threading

import tunekit.runtime  # noqa: F401 - which heeds forks
from tunekit.collector import without_collector


def forked() -> bool:
    """Return whether a child of this process has a collector."""
    pid = os.fork()
    if pid == 0:
        os._exit(gc.isenabled())
    _, status = os.waitpid(pid, 0)
    return bool(os.waitstatus_to_exitcode(status))


def test_it_is_on_again_afterwards_if_it_was_on() -> None:
    with without_collector():
        with without_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collector():
            assert not forked()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_process_that_another_thread_forks_meanwhile_has_it() -> None:
    """Nobody would ever turn it on there."""
    found: list[bool] = []
    with without_collector():
        thread = threading.Thread(target=lambda: found.append(forked()))
        thread.start()
        thread.join()
        assert not gc.isenabled()
    assert found == [True]
    assert forked()


def test_two_threads_may_let_it_rest_at_a_time() -> None:
    """The one that has turned it off is not the first to be done, and a third forks meanwhile."""
    first, second = without_collector(), without_collector()
    first.__enter__()
    second.__enter__()
    assert forked()
    second.__exit__(None, None, None)
    assert not gc.isenabled()
    first.__exit__(None, None, None)
    assert gc.isenabled()
