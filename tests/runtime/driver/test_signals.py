"""Ctrl-C once and twice, SIGTERM, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any, cast

import pytest

from tunekit import session
from tunekit.runtime.driver.signals import SweepInterrupted, interruptible


def test_the_first_signal_is_passed_on_and_the_second_raises() -> None:
    seen: list[str] = []
    with interruptible(seen.append) as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert (seen, interruption.exit_code) == (["SIGINT"], 130)
        with pytest.raises(SweepInterrupted) as raised:
            os.kill(os.getpid(), signal.SIGINT)
    assert raised.value.code == 130
    assert seen == ["SIGINT"]


def test_sigterm_exits_with_143() -> None:
    seen: list[str] = []
    with interruptible(seen.append) as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
    assert (seen, interruption.exit_code) == (["SIGTERM"], 143)


def test_the_handlers_of_before_come_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with interruptible(lambda name: None):
        assert signal.getsignal(signal.SIGINT) is not before[signal.SIGINT]
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_handler_that_python_cannot_put_back_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a program around Python has set, in C: Python shows it as None."""
    installed: list[int] = []
    shown = {signal.SIGINT: None, signal.SIGTERM: signal.SIG_DFL}

    def install(number: int, handler: object) -> object:
        if handler is None:
            raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
        installed.append(number)
        return shown[signal.Signals(number)]

    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: shown[number])
        patch.setattr(signal, "signal", install)
        with interruptible(lambda name: None):
            pass
    assert installed == [signal.SIGTERM, signal.SIGTERM]


def test_outside_the_main_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with interruptible(lambda name: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_an_interruption_is_caught_as_ctrl_c_and_exits_as_shells_expect() -> None:
    with pytest.raises(KeyboardInterrupt):
        raise SweepInterrupted(130)
    code = "from tunekit.runtime.driver.signals import SweepInterrupted as S; raise S(143)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "")


def test_a_trial_in_this_process_finds_out() -> None:
    with interruptible(lambda name: None), session.activate(cast("Any", object())):
        assert not session.preempted()
        os.kill(os.getpid(), signal.SIGTERM)
        info = session.get_preemption_info()
    assert info is not None
    assert (info.source, info.deadline, info.remaining_s) == ("SIGTERM", None, None)
    with session.activate(cast("Any", object())):
        assert not session.preempted(), "the next sweep is not told"


def test_slurm_may_send_another_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with interruptible(seen.append) as interruption:
        os.kill(os.getpid(), signal.SIGUSR1)
    assert (seen, interruption.exit_code) == (["SIGUSR1"], 138)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    monkeypatch.delenv("SLURM_JOB_ID")
    with interruptible(seen.append):
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
