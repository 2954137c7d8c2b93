"""The worker's end of the line, against a mailbox in the same process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tunekit.core.commands import ContinueTrial, InterruptTrial, StopTrial
from tunekit.core.events import (
    ErrorInfo,
    Event,
    ResultReported,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialStarted,
)
from tunekit.runtime import lease
from tunekit.runtime import link as link_module
from tunekit.runtime.channel import Preempted
from tunekit.runtime.link import Link
from tunekit.runtime.mailbox import Mailbox
from tunekit.runtime.post import PostOffice
from tunekit.runtime.wire import Assign, Hello, Leave, Note, Order, Recall, Returned, Terminating, decode_said
from tunekit.session import TrialStopped


class Line:
    """A link, and the driver at the other end of it."""

    def __init__(self, lease_s: float = 60.0, grace_s: float = 10.0) -> None:
        self.mailbox = Mailbox()
        self.office = PostOffice()
        self.office.open(1)
        self.is_cut = False
        self.deaths: list[str] = []
        self.interrupts: list[tuple[int, int]] = []
        self.rearmed = 0
        self.link = Link(
            worker=1,
            hello=Hello(pid=7, node="n"),
            call=self.call,
            lease_s=lease_s,
            grace_s=grace_s,
            rearm=self.rearm,
            interrupt=lambda trial, attempt: self.interrupts.append((trial, attempt)),
            die=self.deaths.append,
        )

    def rearm(self) -> None:
        self.rearmed += 1

    def call(self, frame: bytes, timeout_s: float) -> bytes:
        assert timeout_s > 0
        if self.is_cut:
            raise ConnectionError
        return self.mailbox.exchange(frame)

    def order(self, *orders: Order) -> None:
        for order in orders:
            self.office.order(1, order)
        frame = self.office.post(acknowledges=True)
        if frame is not None:
            self.mailbox.post(frame)

    def hear(self) -> list[Event | Note]:
        """Return what is new, and acknowledge it."""
        letters = self.office.receive(self.mailbox.drain(self.office.drain(0.0)))
        for letter in letters:
            self.office.acknowledge(1, letter.number)
        self.order()
        return [said for letter in letters for said in decode_said(letter.message)]

    def begin(self, trial: int = 1) -> Assign:
        self.order(assign(trial))
        begun = self.link.next_assignment()
        assert begun is not None
        return begun


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def pumped(line: Line) -> Iterator[Line]:
    line.link.start_pump()
    yield line
    line.link.close()


def assign(trial: int) -> Assign:
    return Assign(trial=trial, attempt=1, spec=b"")


def row(iteration: int = 1) -> ResultReported:
    return ResultReported(trial=1, attempt=1, iteration=iteration, metrics={})


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_the_first_word_is_hello(line: Line) -> None:
    line.begin()
    assert line.hear() == [Hello(pid=7, node="n")]


def test_a_first_start_is_sent_while_user_code_begins(pumped: Line) -> None:
    pumped.begin()
    pumped.hear()
    pumped.link.send(TrialStarted(trial=1, attempt=1))
    eventually(lambda: pumped.hear() == [TrialStarted(trial=1, attempt=1)])


def test_the_start_of_a_later_attempt_is_with_the_driver_before_user_code_runs(line: Line) -> None:
    """A trial that kills its worker at once is charged for it, the second time at the latest."""
    line.begin()
    line.hear()
    line.link.send(TrialStarted(trial=1, attempt=2))
    assert line.hear() == [TrialStarted(trial=1, attempt=2)]


def test_a_start_takes_along_how_the_previous_trial_ended(line: Line) -> None:
    """Both are with the driver before user code runs: a crash is never charged to the trial before."""
    line.order(assign(1), assign(2))
    line.link.next_assignment()
    line.link.send(TrialStarted(trial=1, attempt=2))
    line.hear()
    line.link.send(TrialReturned(trial=1, attempt=1))
    assert line.hear() == []
    line.link.next_assignment()
    line.link.send(TrialStarted(trial=2, attempt=1))
    assert line.hear() == [TrialReturned(trial=1, attempt=1), TrialStarted(trial=2, attempt=1)]


def test_waiting_at_the_horizon_brings_the_answer(line: Line) -> None:
    line.begin()
    line.link.send(row())
    answer = ContinueTrial(trial=1, attempt=1, until=5)
    thread = threading.Timer(0.05, line.order, [answer])
    thread.start()
    assert line.link.wait() == answer
    thread.join()
    assert line.hear()[-1] == row()


def test_an_answer_that_the_pump_brings_ends_the_wait(line: Line) -> None:
    """The pump is in the middle of an exchange when the main thread begins to wait."""
    line.begin()
    answer = ContinueTrial(trial=1, attempt=1, until=5)
    line.order(answer)
    link = line.link
    assert link._wire.acquire(blocking=False)
    thread = threading.Thread(target=lambda: answers.append(link.wait()), daemon=True)
    answers: list[object] = []
    thread.start()
    time.sleep(0.05)
    link._exchange_locked(0.0)
    link._wire.release()
    thread.join(timeout=5)
    assert answers == [answer]


def test_a_stop_beats_an_answer(line: Line) -> None:
    line.begin()
    stop = StopTrial(trial=1, attempt=1, reason="enough")
    line.order(ContinueTrial(trial=1, attempt=1, until=5), stop)
    assert line.link.wait() == stop
    assert line.link.pending_stop() == stop


def test_what_is_meant_for_another_attempt_is_not_heeded(line: Line) -> None:
    line.begin()
    line.order(StopTrial(trial=1, attempt=2), ContinueTrial(trial=2, attempt=1), InterruptTrial(trial=9, attempt=1))
    line.link.flush()
    assert line.link.pending_stop() is None
    assert line.interrupts == []
    line.order(InterruptTrial(trial=1, attempt=1))
    line.link.flush()
    assert line.interrupts == [(1, 1)]


def test_orders_of_one_attempt_do_not_reach_the_next(line: Line) -> None:
    line.begin(1)
    line.order(StopTrial(trial=1, attempt=1), ContinueTrial(trial=1, attempt=1))
    line.link.flush()
    line.begin(2)
    assert line.link.pending_stop() is None


def test_a_thread_that_a_trial_left_behind_takes_no_answer_of_the_next(line: Line) -> None:
    line.begin(1)
    ends: list[object] = []

    def wait() -> None:
        try:
            ends.append(line.link.wait())
        except TrialStopped:
            ends.append("stopped")

    stray = threading.Thread(target=wait, daemon=True)
    stray.start()
    time.sleep(0.05)
    line.begin(2)
    answer = ContinueTrial(trial=2, attempt=1, until=5)
    line.order(answer)
    stray.join(5)
    main = threading.Thread(target=wait, daemon=True)
    main.start()
    main.join(5)
    assert ends == ["stopped", answer]


def test_nobody_waits_between_two_trials(line: Line) -> None:
    with pytest.raises(TrialStopped):
        line.link.wait()


def test_an_interrupt_is_repeated_until_the_attempt_has_ended(pumped: Line) -> None:
    """At the first one user code may just have been inside of a report."""
    pumped.begin()
    pumped.order(InterruptTrial(trial=1, attempt=1))
    eventually(lambda: len(pumped.interrupts) > 2)
    assert set(pumped.interrupts) == {(1, 1)}
    pumped.link.send(TrialHalted(trial=1, attempt=1))
    pumped.begin(2)
    count = len(pumped.interrupts)
    time.sleep(2 * link_module.PUMP_S)
    assert len(pumped.interrupts) == count


@pytest.mark.parametrize("place", ["encode", "put before", "put after", "take"])
def test_a_termination_in_the_middle_of_sending_loses_and_repeats_nothing(
    line: Line, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """SIGTERM raises SystemExit wherever the main thread is, and user code may catch it and go on."""
    line.begin()
    line.hear()
    line.link.send(row(1))
    target: Any = link_module if place == "encode" else line.link._outbox
    original = getattr(target, name := {"encode": "encode_said", "take": "take_unsent"}.get(place, "put"))

    def terminate(*arguments: Any, **named: Any) -> None:
        if place in {"put after", "take"}:
            original(*arguments, **named)
        raise SystemExit

    monkeypatch.setattr(target, name, terminate)
    with pytest.raises(SystemExit):
        line.link.flush()
    monkeypatch.undo()
    line.link.send(row(2))
    line.link.flush()
    assert line.hear() == [row(1), row(2)]


def test_a_waiting_attempt_can_be_stopped_and_recalled(line: Line) -> None:
    line.order(*(assign(trial) for trial in range(1, 5)))
    line.link.next_assignment()
    line.order(StopTrial(trial=2, attempt=1), Recall(trial=3, attempt=1), Recall(trial=1, attempt=1))
    line.link.flush()
    line.link.flush()
    assert line.hear()[1:] == [TrialHalted(trial=2, attempt=1), Returned(trial=3, attempt=1)]
    following = line.link.next_assignment()
    assert following is not None
    assert following.trial == 4


def test_leaving_comes_after_what_was_assigned(line: Line) -> None:
    line.order(assign(1), Leave())
    assert line.link.next_assignment() == assign(1)
    assert line.link.next_assignment() is None


def test_the_pump_delivers_and_fetches_while_user_code_runs(pumped: Line) -> None:
    pumped.begin()
    pumped.hear()
    pumped.link.send(row())
    eventually(lambda: pumped.hear() == [row()])
    pumped.order(StopTrial(trial=1, attempt=1))
    eventually(pumped.link.pending_stop)


def test_a_new_mailbox_gets_everything_again(line: Line) -> None:
    line.begin()
    line.hear()
    line.link.send(row(1))
    line.link.flush()
    line.mailbox = Mailbox()  # It takes the row with it.
    line.link.send(row(2))
    line.link.flush()
    line.link.flush()
    assert line.hear() == [row(1), row(2)]


def test_a_failed_call_is_made_good(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.begin()
    line.hear()
    line.is_cut = True
    line.link.send(row())
    monkeypatch.setattr(time, "sleep", lambda seconds: setattr(line, "is_cut", False))
    line.link.flush()
    assert line.hear() == [row()]


def test_last_words_are_what_is_not_acknowledged(line: Line) -> None:
    line.begin()
    line.hear()
    line.link.flush()  # Learns of the acknowledgement.
    line.link.send(row(1))
    line.link.flush()
    line.link.send(TrialReturned(trial=1, attempt=1))
    first, messages = line.link.remaining()
    assert first == 2
    assert [said for message in messages for said in decode_said(message)] == [
        row(1),
        TrialReturned(trial=1, attempt=1),
    ]


def test_a_worker_far_ahead_of_the_driver_waits(pumped: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_UNACKNOWLEDGED", 100)
    pumped.begin()

    def report() -> None:
        for iteration in range(1, 301):
            pumped.link.send(row(iteration))

    thread = threading.Thread(target=report)
    thread.start()
    thread.join(timeout=0.3)
    assert thread.is_alive(), "nobody has acknowledged anything"
    heard: list[Event | Note] = []

    def hear() -> bool:
        heard.extend(pumped.hear())
        return not thread.is_alive() and heard[-1] == row(300)

    eventually(hear)
    assert [said for said in heard if isinstance(said, ResultReported)] == [row(number) for number in range(1, 301)]


def test_without_word_from_the_driver_the_trial_stops_and_then_the_process() -> None:
    line = Line(lease_s=0.05, grace_s=0.1)
    line.begin()
    assert line.link.pending_stop() is None
    line.is_cut = True
    time.sleep(0.06)
    stop = line.link.pending_stop()
    assert stop is not None
    assert "no word from the driver" in stop.reason
    assert line.link.wait() is stop
    line.link.start_pump()
    eventually(lambda: line.deaths)
    line.link.close()


def test_a_mailbox_that_has_lost_the_driver_renews_nothing() -> None:
    line = Line(lease_s=0.05, grace_s=0.1)
    line.begin()
    line.order()
    time.sleep(0.06)
    line.link.flush()
    assert line.link.pending_stop() is not None
    time.sleep(0.1)
    line.link.flush()
    assert line.deaths


def test_an_exchange_renews_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_REARM_S", 0.0)
    line = Line(lease_s=0.2)
    line.begin()
    for _ in range(10):
        time.sleep(0.05)
        line.hear()
        line.link.flush()
        assert line.link.pending_stop() is None
    assert line.rearmed >= 10
    assert not line.deaths


def test_a_worker_that_was_given_up_ends_itself(line: Line) -> None:
    line.begin()
    line.office.give_up(1)
    line.order()
    line.link.flush()
    assert line.deaths == ["the driver has given this worker up"]


def test_what_user_code_raises_when_the_process_is_terminated_is_no_fault_of_its_own(line: Line) -> None:
    line.begin()
    line.hear()
    error = TrialRaised(trial=1, attempt=1, error=ErrorInfo(type="SystemExit", message=""))
    line.link.terminate("SIGTERM")
    line.link.send(error)
    line.link.deliver(0.1)
    assert line.hear() == [TrialPreempted(trial=1, attempt=1, reason="SIGTERM, and it raised SystemExit: ")]
    assert line.link.next_assignment() is None, "it takes nothing more, and says so at once"


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
    line.link.tell_termination()
    line.link.deliver(0.1)
    assert line.hear() == [Hello(pid=7, node="n"), row(), Terminating(reason="SIGTERM")]


def test_a_signal_reaches_a_main_thread_that_does_not_wait_as_a_word_only(line: Line) -> None:
    line.begin()
    threading.Thread(target=line.link.wait, daemon=True).start()
    eventually(lambda: line.link._poller)
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
    line.link.deliver(10)
    assert heard[1:] == [row()]
