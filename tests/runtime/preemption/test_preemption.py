"""SIGTERM in a worker process: it ends in peace, at once when told twice, and never later than its grace."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

import pytest

from tunekit import session
from tunekit.runtime.line.wire import Note, Terminating
from tunekit.runtime.preemption.sigterm import EXIT_CODE, Notice
from tunekit.session import PreemptionInfo


class FakeLink:
    """Stands for the line to the driver."""

    def __init__(self) -> None:
        self.termination = ""
        self.was_woken = False
        self.notes: list[str] = []
        self.was_told = threading.Event()
        self.on_told: Callable[[], None] = lambda: None

    def terminate(self, reason: str, *, wakes: bool = False) -> None:
        self.termination = self.termination or reason
        self.was_woken = self.was_woken or wakes

    def tell(self, note: Note) -> None:
        assert isinstance(note, Terminating)
        self.notes.append(note.reason)
        self.on_told()
        self.was_told.set()


class Stage:
    """A notice whose process is this one, and what came of it."""

    def __init__(self, grace_s: float = 600.0) -> None:
        self.link = FakeLink()
        self.deaths: list[tuple[str, int]] = []
        self.has_died = threading.Event()
        self.rays: list[int] = []
        self.notice = Notice(cast("Any", self.link), grace_s, self._die)

    def _die(self, reason: str, code: int) -> None:
        self.deaths.append((reason, code))
        self.has_died.set()

    def ray_handler(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.rays.append(number)

    @contextmanager
    def heeded(self) -> Iterator[None]:
        before = signal.signal(signal.SIGTERM, self.ray_handler)
        try:
            with self.notice.heeded():
                yield
            assert signal.getsignal(signal.SIGTERM) == self.ray_handler
        finally:
            signal.signal(signal.SIGTERM, before)
            session.announce(None)


@pytest.fixture
def make() -> Iterator[Callable[..., Stage]]:
    before = signal.getsignal(signal.SIGTERM)
    yield Stage
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1
    assert "tunekit-notice" not in {thread.name for thread in threading.enumerate()}


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_first_word_ends_the_process_in_peace(make: Callable[..., Stage]) -> None:
    """S003-10: user code goes on to its next report."""
    stage = make()
    with stage.heeded():
        terminate()
        assert stage.link.termination == "SIGTERM"
        assert stage.link.was_woken
        assert stage.link.was_told.wait(120)
        assert stage.link.notes == ["SIGTERM"]
        assert 300 < stage.notice.remaining_s < 600
    assert not stage.rays
    assert not stage.deaths


def test_the_second_word_is_that_of_the_handler_before(make: Callable[..., Stage]) -> None:
    stage = make()
    with stage.heeded():
        terminate()
        with pytest.raises(SystemExit) as caught:
            terminate()
        assert caught.value.code == EXIT_CODE == 143
        assert stage.rays == [signal.SIGTERM]
        assert stage.has_died.wait(120), "what catches the exception does not keep the process alive"
    assert stage.deaths[0][1] == 143


def test_the_process_ends_with_its_grace(make: Callable[..., Stage]) -> None:
    stage = make(grace_s=0.2)
    with stage.heeded():
        began_at = time.monotonic()
        terminate()
        assert stage.has_died.wait(120)
        assert time.monotonic() - began_at > 0.1
    assert stage.deaths == [("it did not come to an end within 0.2 s of SIGTERM", 143)]


def test_the_driver_is_told_while_the_main_thread_cannot_handle_signals(make: Callable[..., Stage]) -> None:
    def tell() -> bool:
        """Return whether the signal had been handled by the time that the driver was told."""
        stage = make()
        was_handled: list[bool] = []
        with stage.heeded():
            stage.link.on_told = lambda: was_handled.append(stage.notice._num_handled > 0)
            threading.Timer(0.1, terminate).start()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)  # One call of C code, without the interpreter lock.
            assert stage.link.was_told.wait(120)
        return was_handled[0]

    assert not all(tell() for _ in range(20)), "once at least the timer rings in the middle of the call"


def test_user_code_keeps_a_handler_of_its_own(make: Callable[..., Stage]) -> None:
    stage = make()
    seen: list[int] = []
    with stage.heeded():
        ours = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
        terminate()
        time.sleep(0.05)
        assert not stage.link.was_told.is_set()
        signal.signal(signal.SIGTERM, ours)
    assert seen == [signal.SIGTERM]
    assert not stage.link.termination


def test_a_handler_that_passes_the_signal_on_is_heard(make: Callable[..., Stage]) -> None:
    stage = make()
    with stage.heeded():
        ours: Any = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda number, frame: ours(number, frame))  # noqa: PLW0108 - another object
        terminate()
        assert stage.link.was_told.wait(120)
        signal.signal(signal.SIGTERM, ours)
    assert stage.link.termination == "SIGTERM"


def test_a_forked_child_ends_by_itself_and_its_parent_does_not_mind(make: Callable[..., Stage]) -> None:
    """Data loaders end their processes so."""
    stage = make()
    with stage.heeded():
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            signal.pause()
            os._exit(1)
        time.sleep(0.1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        time.sleep(0.05)
        assert not stage.link.was_told.is_set()
    assert not stage.link.termination


def test_user_code_finds_what_was_announced_and_nothing_outside_of_a_trial(make: Callable[..., Stage]) -> None:
    stage, trial = make(), object()
    with stage.heeded():
        assert session.preempted() is False
        with session.activate(trial):  # type: ignore[arg-type] # is not called
            assert session.get_preemption_info() is None
            terminate()
            info = session.get_preemption_info()
            assert session.preempted() is True
        assert info is not None
        assert info.source == "SIGTERM"
        assert info.remaining_s is not None
        assert 300 < info.remaining_s <= 600
        assert session.get_preemption_info() is None


def test_slurm_may_send_another_signal(make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make()
    with stage.heeded():
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL, "elsewhere it is nobody's notice"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    stage = make(grace_s=0.2)
    with stage.heeded(), session.activate(object()):  # type: ignore[arg-type] # is not called
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stage.link.was_told.wait(120)
        assert stage.link.was_woken
        assert stage.link.notes == [stage.link.termination] == ["SIGUSR1"]
        info = session.get_preemption_info()
        assert info is not None
        assert info.source == "SIGUSR1"
        assert stage.has_died.wait(120)
    assert stage.deaths == [("it did not come to an end within 0.2 s of SIGUSR1", 143)]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@pytest.mark.parametrize("job", ["", "7"])
def test_user_code_may_use_the_signal_of_slurm_for_what_it_likes(
    make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    """Libraries do: to save, to be queued again, to write down where all threads are."""
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    stage = make()
    seen: list[int] = []

    def own(number: int, frame: FrameType | None) -> None:
        del frame
        seen.append(number)

    try:
        with stage.heeded():
            signal.signal(signal.SIGUSR1, own)
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not stage.link.was_told.wait(0.2)
            assert not stage.link.termination
            terminate()
            assert stage.link.was_told.wait(120), "the other signal is heard as ever"
        assert signal.getsignal(signal.SIGUSR1) is own
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert seen == [signal.SIGUSR1] * 2
    assert stage.link.notes == ["SIGTERM"]


def test_a_forked_child_has_the_signal_of_slurm_back(
    make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    stage = make()
    with stage.heeded():
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            os._exit(0 if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_who_is_only_saved_for_the_time_being_is_not_preempted() -> None:
    """User code that comes to a report whenever it is would do so at every batch, for as long as the machine stays."""
    info = PreemptionInfo(deadline=None, source="AWS rebalance recommendation", node="n", ends=False)
    session.announce(info)
    try:
        with session.activate(object()):  # type: ignore[arg-type] # is not called
            assert session.preempted() is False
            assert session.get_preemption_info() is info
    finally:
        session.announce(None)
