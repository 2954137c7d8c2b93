"""The worker's end of the line when its process is told to end."""

from __future__ import annotations

import threading
import time

import pytest
from lines import Line, row

from tunekit import session
from tunekit.core.commands import StopTrial
from tunekit.core.events import ErrorInfo, Event, TrialPreempted, TrialRaised
from tunekit.runtime.line.channel import Preempted
from tunekit.runtime.line.wire import Hello, Terminating, Warn
from tunekit.testing.events import launch_failed, restore_failed


@pytest.fixture
def line() -> Line:
    return Line()


def test_what_user_code_raises_when_the_process_is_terminated_is_no_fault_of_its_own(line: Line) -> None:
    line.begin()
    line.hear()
    error = TrialRaised(trial=1, attempt=1, error=ErrorInfo(type="SystemExit", message=""), blocked_s=4.0)
    line.link.terminate("SIGTERM")
    line.link.send(error)
    line.link.deliver(0.1)
    told = TrialPreempted(trial=1, attempt=1, reason="SIGTERM, and it raised SystemExit: ", blocked_s=4.0)
    assert line.hear() == [told], "what it waited for saves is counted as such"
    assert line.link.next_assignment() is None, "it takes nothing more, and says so at once"


@pytest.mark.parametrize("failure", [launch_failed(1), restore_failed(1, 3)], ids=["launch", "restore"])
def test_what_it_cannot_begin_any_more_is_not_said_and_the_driver_not_waited_for(
    line: Line, monkeypatch: pytest.MonkeyPatch, failure: Event
) -> None:
    line.begin()
    line.hear()
    line.link.terminate("SIGTERM")
    line.link.send(failure)
    monkeypatch.setattr(line.mailbox, "exchange", lambda frame: pytest.fail("it is waited for"))
    line.link.flush()
    monkeypatch.undo()
    line.link.deliver(0.1)
    assert line.hear() == []
    assert line.link.next_assignment() is None


@pytest.mark.parametrize("at", ["idle", "horizon"])
def test_a_process_that_is_told_to_end_waits_no_longer(line: Line, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """S003-10: in peace: what was said before is sent again, and the driver gives what is queued to others."""
    line.begin()
    line.link.send(row())

    went_on = False

    def call(frame: bytes) -> bytes:
        nonlocal went_on
        line.link.terminate("SIGTERM", wakes=True)
        went_on = True
        raise ConnectionError

    monkeypatch.setattr(line.mailbox, "exchange", call)
    if at == "idle":
        assert line.link.next_assignment() is None
    else:
        assert line.link.wait() == Preempted("SIGTERM")
    monkeypatch.undo()
    assert not went_on
    line.link.tell(Terminating(reason="SIGTERM"))
    line.link.deliver(0.1)
    assert line.hear() == [Hello(pid=7, node="n"), row(), Terminating(reason="SIGTERM")]


def test_a_signal_reaches_a_main_thread_that_does_not_wait_as_a_word_only(line: Line) -> None:
    line.begin()
    threading.Thread(target=line.link.wait, daemon=True).start()
    while not line.link._poller:
        time.sleep(0.001)
    line.link.terminate("SIGTERM", wakes=True)  # In another thread than the one that waits.
    assert line.link.pending_stop() == Preempted("SIGTERM")


def test_an_order_of_the_driver_goes_before_a_preemption(line: Line) -> None:
    line.begin()
    line.link.terminate("SIGTERM")
    line.order(stop := StopTrial(trial=1, attempt=1))
    line.link.flush()
    assert line.link.pending_stop() == stop


def test_last_words_are_delivered_when_the_driver_has_journalled_them(line: Line) -> None:
    line.begin()
    line.link.send(row())
    heard: list[object] = []
    threading.Timer(0.1, lambda: heard.extend(line.hear())).start()
    line.link.deliver(120)
    assert heard[1:] == [row()]


@pytest.mark.parametrize("saves", [True, False])
def test_a_warning_of_the_driver_ends_the_process_after_the_next_row(line: Line, *, saves: bool) -> None:
    line.begin()
    line.order(Warn(source="Ray", deadline=5.0, saves=saves))
    assert line.link.wait() == Preempted("Ray: its machine is taken away", saves=saves), "it is not left waiting"
    assert session._announced is not None
    assert (session._announced.source, session._announced.deadline) == ("Ray", 5.0)
    assert session._announced.ends
    session.announce(None)
    assert line.link.next_assignment() is None


def test_who_is_to_leave_is_never_told_that_he_may_stay(line: Line) -> None:
    """User code that asks would begin a step for which there is no time."""
    line.begin()
    line.order(Warn(source="AWS", deadline=9e9), Warn(source="advice", ends=False))
    line.link.flush()
    assert session._announced is not None
    assert (session._announced.source, session._announced.ends) == ("AWS", True)
    line.order(Warn(source="Ray", deadline=8e9))
    line.link.flush()
    assert session._announced.deadline == 8e9, "but it hears of a nearer end"
    session.announce(None)


@pytest.mark.parametrize("leaves", [True, False])
def test_a_notice_that_is_taken_back_is_forgotten_unless_the_process_leaves(line: Line, *, leaves: bool) -> None:
    """Trials to come would be saved at their first row, for a notice that nobody gives any more."""
    line.begin()
    line.order(Warn(source="AWS", deadline=9e9, ends=leaves), Warn(source="AWS", is_withdrawn=True))
    line.link.flush()
    assert (session._announced is not None) is leaves
    session.announce(None)


def test_an_idle_process_leaves_when_its_machine_is_to_go(line: Line) -> None:
    line.order(Warn(source="Ray"))
    assert line.link.next_assignment() is None
    session.announce(None)


def test_a_machine_that_may_stay_ends_nothing(line: Line) -> None:
    line.begin()
    line.order(Warn(source="AWS", ends=False))
    line.link.flush()
    assert line.link.pending_stop() is None
    assert session._announced is not None
    assert not session._announced.ends
    session.announce(None)
    assert line.begin(2).trial == 2
