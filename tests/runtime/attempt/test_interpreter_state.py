"""What Python keeps for a process is as it was when a trial ends: limits, collector, filters of warnings, time-outs."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tunekit.runtime.attempt.isolation import isolated


def test_recursion_limit_comes_back() -> None:
    before = sys.getrecursionlimit()
    with isolated(1):
        sys.setrecursionlimit(before + 1000)
    assert sys.getrecursionlimit() == before


def test_collector_goes_on() -> None:
    before = gc.get_threshold()
    assert gc.isenabled()
    with isolated(1):
        gc.disable()
        gc.set_threshold(7, 7, 7)
    assert gc.isenabled()
    assert gc.get_threshold() == before


def test_collector_that_rested_before_is_left_to_whoever_turns_it_on() -> None:
    """While it rests for the import of another thread, a trial begins, and ends when that is over."""
    gc.disable()
    try:
        with isolated(1):
            gc.enable()
        assert gc.isenabled()
    finally:
        gc.enable()


def test_time_out_of_sockets_comes_back() -> None:
    with isolated(1):
        socket.setdefaulttimeout(3)
    assert socket.getdefaulttimeout() is None


def test_time_out_of_sockets_that_the_trial_loads_comes_back() -> None:
    program = """if True:
        import sys
        from tunekit.runtime.attempt.isolation import isolated
        assert "socket" not in sys.modules
        with isolated(1):
            import socket
            socket.setdefaulttimeout(3)
        assert socket.getdefaulttimeout() is None
    """
    assert subprocess.run([sys.executable, "-c", program], timeout=240, check=False).returncode == 0


def test_filters_of_warnings_come_back() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with isolated(1):
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message="mine")
        assert warnings.filters == before
        warnings.warn("mine", UserWarning, stacklevel=1)
        assert len(told) == 1


def test_filters_that_a_trial_has_removed_come_back() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with isolated(1):
            warnings.resetwarnings()
        with pytest.raises(UserWarning, match="mine"):
            warnings.warn("mine", UserWarning, stacklevel=1)


def test_filters_of_a_block_that_a_trial_never_left_are_gone() -> None:
    with warnings.catch_warnings():
        before = list(warnings.filters)
        with isolated(1):
            warnings.catch_warnings().__enter__()
            warnings.simplefilter("error")
        assert warnings.filters == before


def test_filters_of_a_library_that_the_trial_loads_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is loaded once, and the next trial would be without them."""
    (tmp_path / "noisy_library.py").write_text("import warnings\nwarnings.filterwarnings('ignore', 'of the library')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with isolated(1):
            warnings.filterwarnings("error", "of the trial")
            __import__("noisy_library")
        warnings.warn("of the library", UserWarning, stacklevel=1)
        assert not any(action == "error" and pattern is not None for action, pattern, *_ in warnings.filters[:2])
    del sys.modules["noisy_library"]
