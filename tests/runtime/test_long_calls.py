"""Code in C that holds the interpreter lock stops every thread of a worker: that is neither silence nor a hang."""

from __future__ import annotations

import subprocess
import sys

import pytest
from lines import Clock

from tunekit.runtime import worker
from tunekit.runtime.line.link import Link
from tunekit.runtime.line.mailbox import Mailbox
from tunekit.runtime.line.spec import SweepSpec
from tunekit.runtime.line.wire import Assign, Hello


class Line:
    """A worker's end, and a driver that can be cut off."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.clock = Clock(patch)
        self.mailbox = Mailbox()
        self.mailbox.open(1)
        self.mailbox.order(1, Assign(trial=0, attempt=1, spec=b""))
        self.speak()
        self.is_cut = False
        self.deaths: list[str] = []
        self.link = Link(
            worker=1,
            hello=Hello(pid=7, node="n"),
            call=self.call,
            lease_s=60.0,
            grace_s=10.0,
            die=self.deaths.append,
        )
        assert self.link.next_assignment() is not None

    def call(self, frame: bytes, timeout_s: float) -> bytes:
        assert timeout_s > 0
        if self.is_cut:
            raise ConnectionError
        return self.mailbox.exchange(frame)

    def speak(self) -> None:
        """Let the mailbox hear of the driver."""
        self.mailbox.deliver()


def test_time_in_which_nobody_asked_is_no_silence_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(monkeypatch)
    line.clock.pass_by(100)  # No thread could ask.
    line.speak()
    assert line.link.pending_stop() is None


def test_one_exchange_that_fails_after_a_long_call_is_no_reason_to_die(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(monkeypatch)
    line.clock.pass_by(100)
    line.is_cut = True
    line.link._exchange(0.0)
    assert not line.deaths
    line.is_cut = False
    line.speak()
    assert line.link.pending_stop() is None


def test_a_driver_that_is_asked_in_vain_for_a_grace_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(monkeypatch)
    line.is_cut = True
    line.link._exchange(0.0)
    line.clock.pass_by(100)
    line.link._exchange(0.0)
    assert line.deaths
    assert line.link.pending_stop() is not None


@pytest.mark.parametrize(("hang_timeout_s", "after_s"), [(None, None), (5.0, 80.0), (600.0, 620.0)])
def test_no_call_is_cut_off_that_the_driver_would_wait_for(hang_timeout_s: float | None, after_s: float | None) -> None:
    spec = SweepSpec(experiment="e", path="p", seed=0, lease_s=60.0, hang_timeout_s=hang_timeout_s)
    assert worker._longest_call_s(spec) == after_s


_NO_END = """
import ctypes
from tunekit.runtime.worker import _watchdog
_watchdog(None)()
ctypes.PyDLL(None).usleep(400_000)
print("alive")
"""


def test_without_a_limit_a_call_may_take_any_time() -> None:
    done = subprocess.run([sys.executable, "-c", _NO_END], capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "alive")
