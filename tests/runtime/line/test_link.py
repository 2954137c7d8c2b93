"""The worker's end of the line, against a mailbox in the same process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lines import Clock, Line, assign, row

from tunekit.core.cadence import Outlook
from tunekit.core.commands import ContinueTrial, InterruptTrial, StopTrial, TellOutlook
from tunekit.core.events import (
    Event,
    ResultReported,
    TrialHalted,
    TrialReturned,
    TrialSaving,
    TrialStarted,
)
from tunekit.runtime.line import lease
from tunekit.runtime.line import link as link_module
from tunekit.runtime.line.wire import Hello, Leave, Note, Recall, Returned, decode_said
from tunekit.session import TrialStopped


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def pumped(line: Line) -> Iterator[Line]:
    line.link.start_pump()
    yield line
    line.link.close()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
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
    thread.join(timeout=120)
    assert answers == [answer]


def test_what_a_trial_may_expect_is_for_that_attempt_alone(line: Line) -> None:
    line.order(assign(1), assign(2))
    line.link.next_assignment()
    assert line.link.outlook() is None
    news = Outlook(losses=2.0, blocked_s=0.5)
    line.order(TellOutlook(trial=1, attempt=1, outlook=news), TellOutlook(trial=2, attempt=1, outlook=Outlook()))
    line.link.send(TrialStarted(trial=1, attempt=2))  # An exchange.
    assert line.link.outlook() == news
    line.link.send(TrialReturned(trial=1, attempt=1))
    line.link.next_assignment()
    assert line.link.outlook() is None


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
    eventually(lambda: line.link._poller)
    line.begin(2)
    answer = ContinueTrial(trial=2, attempt=1, until=5)
    line.order(answer)
    stray.join(120)
    main = threading.Thread(target=wait, daemon=True)
    main.start()
    main.join(120)
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
    assert len(pumped.interrupts) <= count + 1, "one may have been under way"


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


@pytest.mark.parametrize("is_saving", [False, True])
def test_who_is_told_to_stop_in_the_middle_of_a_save_asks_for_patience(line: Line, *, is_saving: bool) -> None:
    """It hears of the stop only after the save, which may take longer than a stop is given."""
    line.order(assign(1))
    line.link.next_assignment()
    line.link.is_saving = is_saving
    line.order(StopTrial(trial=2, attempt=1), StopTrial(trial=1, attempt=1))
    line.link.flush()
    line.link.flush()
    said = [event for event in line.hear() if isinstance(event, TrialSaving)]
    assert said == ([TrialSaving(trial=1, attempt=1, final=True)] if is_saving else [])


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


def test_without_word_from_the_driver_the_trial_stops_and_then_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, line = Clock(monkeypatch), Line(lease_s=60.0, grace_s=10.0)
    line.begin()
    assert line.link.pending_stop() is None
    line.is_cut = True
    clock.pass_by(61)
    stop = line.link.pending_stop()
    assert stop is not None
    assert "no word from the driver" in stop.reason
    assert line.link.wait() is stop
    assert not line.deaths
    line.link.start_pump()

    def has_died() -> bool:
        clock.pass_by(1)
        return bool(line.deaths)

    eventually(has_died)
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
    clock, line = Clock(monkeypatch), Line(lease_s=60.0)
    line.begin()
    for _ in range(10):
        clock.pass_by(50)
        line.hear()
        line.link.flush()
        assert line.link.pending_stop() is None
    assert line.rearmed >= 10
    assert not line.deaths


def test_a_worker_that_was_given_up_ends_itself(line: Line) -> None:
    line.begin()
    line.mailbox.give_up(1)
    line.link.flush()
    assert line.deaths == ["the driver has given this worker up"]
