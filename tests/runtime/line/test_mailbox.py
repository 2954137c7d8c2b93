"""Mailbox and sequences: each message exactly once and in order, whatever is lost and repeated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.core.commands import ContinueTrial, StopTrial
from tunekit.core.events import ErrorInfo, Event, ResultReported, TrialRaised, TrialReturned
from tunekit.runtime.line import mailbox as mailbox_module
from tunekit.runtime.line.mailbox import Mailbox
from tunekit.runtime.line.sequence import Inbox, Outbox
from tunekit.runtime.line.wire import (
    Download,
    Hello,
    Note,
    Upload,
    decode_order,
    decode_said,
    encode_order,
    encode_said,
)

encode = msgspec.msgpack.encode


def exchange(
    mailbox: Mailbox, *messages: bytes, worker: int = 1, first: int = 1, heeded: int = 0, wait_s: float = 0.0
) -> Download:
    frame = encode(Upload(worker, first, list(messages), heeded, wait_s))
    return msgspec.msgpack.decode(mailbox.exchange(frame), type=Download)


def order(number: int, worker: int = 1) -> ContinueTrial:
    return ContinueTrial(trial=worker, attempt=number)


@pytest.fixture
def mailbox() -> Mailbox:
    mailbox = Mailbox()
    mailbox.open(1)
    return mailbox


# -- sequences ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["put", "send", "lose", "repeat", "acknowledge", "forget"]), max_size=60))
def test_each_message_arrives_once_and_in_order(steps: list[str]) -> None:
    """Any pattern of losses and repetitions, and then silence: everything has come, once."""
    outbox, inbox = Outbox(), Inbox()
    put = 0
    got: list[bytes] = []
    last: tuple[int, list[bytes]] = (1, [])
    for step in [*steps, "forget", "send"]:
        if step == "put":
            put += 1
            outbox.put(b"%d" % put)
        elif step in {"send", "lose"}:
            last = outbox.take_unsent()
            if step == "send":
                got += inbox.accept(*last)
        elif step == "repeat":
            got += inbox.accept(*last)
        elif step == "acknowledge":
            outbox.acknowledge(inbox.received)
        else:
            outbox.rewind()
        assert outbox.weight == len(outbox)
    assert got == [b"%d" % number for number in range(1, put + 1)]


def test_nothing_is_accepted_beyond_a_gap() -> None:
    inbox = Inbox()
    assert list(inbox.accept(2, [b"2", b"3"])) == []
    assert list(inbox.accept(1, [b"1", b"2"])) == [b"1", b"2"]
    assert list(inbox.accept(2, [b"2", b"3"])) == [b"3"]


def test_what_is_acknowledged_is_forgotten() -> None:
    outbox = Outbox()
    for weight in (1, 2, 3):
        outbox.put(b"", weight)
    outbox.take_unsent()
    outbox.acknowledge(2)
    outbox.acknowledge(1)
    assert (len(outbox), outbox.weight, outbox.last) == (1, 3, 3)
    assert not outbox.has_unsent
    outbox.rewind()
    assert outbox.take_unsent() == (3, [b""])


# -- the mailbox -------------------------------------------------------------------------------------------------------


def test_orders_stay_until_the_worker_has_heeded_them(mailbox: Mailbox) -> None:
    mailbox.order(1, order(1))
    mailbox.order(1, order(2))
    both = [encode_order(order(1)), encode_order(order(2))]
    assert exchange(mailbox).orders == both
    assert exchange(mailbox).orders == both, "the first answer may have been lost"
    answer = exchange(mailbox, heeded=1)
    assert (answer.first, answer.orders) == (2, both[1:])
    assert exchange(mailbox, heeded=2).orders == []


def test_a_drain_ends_where_it_is_large_and_loses_nothing(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "MAX_DRAIN_BYTES", 1)
    exchange(mailbox, b"aa", b"bb")
    assert [letter.message for letter in mailbox.drain(100.0)] == [b"aa"]
    assert [letter.message for letter in mailbox.drain(100.0)] == [b"bb"]


def test_those_who_wait_are_woken(mailbox: Mailbox) -> None:
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda: answers.append(exchange(mailbox, wait_s=100.0))),
        threading.Thread(target=lambda: answers.append(mailbox.drain(100.0))),
    ]
    for thread in threads:
        thread.start()
    mailbox.order(1, order(1))
    mailbox.deliver()
    mailbox.wake()
    for thread in threads:
        thread.join(timeout=200)
    assert len(answers) == 2


def test_who_waits_gets_all_orders_of_a_turn_at_once(mailbox: Mailbox) -> None:
    answers: list[Download] = []
    thread = threading.Thread(target=lambda: answers.append(exchange(mailbox, wait_s=100.0)))
    thread.start()
    while not mailbox._boxes[1].turn:
        time.sleep(0.001)
    mailbox.order(1, order(1))
    time.sleep(0.02)
    mailbox.order(1, order(2))
    assert answers == []
    mailbox.deliver()
    thread.join(timeout=200)
    assert len(answers[0].orders) == 2


def test_a_wake_that_comes_before_the_drain_is_not_lost(mailbox: Mailbox) -> None:
    mailbox.wake()
    before = time.monotonic()
    mailbox.drain(100.0)
    assert time.monotonic() - before < 90


def test_a_newer_exchange_releases_the_older_one(mailbox: Mailbox) -> None:
    thread = threading.Thread(target=exchange, args=(mailbox,), kwargs={"wait_s": 30.0})
    thread.start()
    exchange(mailbox, wait_s=0.2)
    thread.join(timeout=200)
    assert not thread.is_alive()


def test_who_has_no_thread_to_wait_on_is_answered_at_once(mailbox: Mailbox) -> None:
    before = time.monotonic()
    answer = mailbox.exchange_at_once(encode(Upload(1, 1, [b"a"], 0, 30.0)))
    assert time.monotonic() - before < 90
    assert msgspec.msgpack.decode(answer, type=Download).orders == []
    assert [letter.message for letter in mailbox.drain(0.0)] == [b"a"]


@pytest.mark.parametrize("speaks", [Mailbox.deliver, lambda mailbox: mailbox.drain(0.0)])
def test_a_driver_is_silent_since_its_last_word(
    speaks: Callable[[Mailbox], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(mailbox_module, "time", SimpleNamespace(monotonic=lambda: now))
    mailbox = Mailbox()
    mailbox.open(1)
    now = 105.0
    assert exchange(mailbox).silence_s == 5.0
    speaks(mailbox)
    now = 107.0
    assert exchange(mailbox).silence_s == 2.0


def test_a_worker_that_was_given_up_is_not_heard_and_told_so_for_ever(mailbox: Mailbox) -> None:
    exchange(mailbox, b"a")
    mailbox.order(1, order(1))
    assert [letter.message for letter in mailbox.give_up(1)] == [b"a"]
    mailbox.order(1, order(2))
    mailbox.acknowledge(1, 1)
    mailbox.deliver()
    assert mailbox.drain(0.0) == []
    assert mailbox.give_up(1, 2, [b"b"]) == []
    answer = exchange(mailbox, b"b", first=2, wait_s=100.0)
    assert answer.is_gone
    assert answer.orders == []
    assert mailbox.drain(0.0) == []


def test_nothing_is_kept_of_workers_that_were_given_up(mailbox: Mailbox) -> None:
    for worker in range(2, 100):
        mailbox.open(worker)
        mailbox.order(worker, order(1))
        mailbox.give_up(worker)
        assert exchange(mailbox, b"late", worker=worker).is_gone
    assert set(mailbox._boxes) == {1}
    assert not mailbox._due
    assert not mailbox._left


def test_who_is_given_up_while_he_waits_is_told_at_once(mailbox: Mailbox) -> None:
    answers: list[Download] = []
    thread = threading.Thread(target=lambda: answers.append(exchange(mailbox, wait_s=100.0)))
    thread.start()
    while not mailbox._boxes[1].turn:
        time.sleep(0.001)
    mailbox.give_up(1)
    thread.join(timeout=200)
    assert answers[0].is_gone


def test_last_words_overlap_with_what_came_before(mailbox: Mailbox) -> None:
    exchange(mailbox, b"1", b"2", b"3")
    mailbox.drain(0.0)
    letters = mailbox.give_up(1, 2, [b"2", b"3", b"4"])
    assert [(letter.number, letter.message) for letter in letters] == [(4, b"4")]


def test_what_no_drain_has_taken_comes_before_the_last_words(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "MAX_DRAIN_BYTES", 1)
    mailbox.open(2)
    exchange(mailbox, b"aa", b"bb", b"cc")
    exchange(mailbox, b"xx", worker=2)
    exchange(mailbox, b"bb", b"cc", first=2)
    assert [letter.message for letter in mailbox.drain(0.0)] == [b"aa"]
    letters = mailbox.give_up(1, 3, [b"cc", b"dd"])
    assert [(letter.number, letter.message) for letter in letters] == [(2, b"bb"), (3, b"cc"), (4, b"dd")]
    assert [letter.message for letter in mailbox.drain(0.0)] == [b"xx"], "another worker's"


# -- both ends ---------------------------------------------------------------------------------------------------------


class World:
    """A mailbox and two workers, with calls between them that get lost, and that come twice."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()
        self.workers = {1: (Outbox(), Inbox()), 2: (Outbox(), Inbox())}
        self.sent: dict[int, bytes] = {}
        self.put = dict.fromkeys(self.workers, 0)
        self.ordered = dict.fromkeys(self.workers, 0)
        self.heard: dict[int, list[int]] = {1: [], 2: []}
        self.obeyed: dict[int, list[int]] = {1: [], 2: []}
        for worker in self.workers:
            self.mailbox.open(worker)

    def say(self, worker: int) -> None:
        self.put[worker] += 1
        self.workers[worker][0].put(b"%d" % self.put[worker])

    def order(self, worker: int) -> None:
        self.ordered[worker] += 1
        self.mailbox.order(worker, order(self.ordered[worker], worker))

    def exchange(self, worker: int, *, fault: str = "") -> None:
        outbox, inbox = self.workers[worker]
        first, messages = outbox.take_unsent()
        self.sent[worker] = encode(Upload(worker, first, messages, inbox.received, 0.0))
        if fault == "question lost":
            outbox.rewind()
            return
        answer = self.mailbox.exchange(self.sent[worker])
        if fault == "answer lost":
            outbox.rewind()
            return
        download = msgspec.msgpack.decode(answer, type=Download)
        outbox.acknowledge(download.acknowledged)
        for message in inbox.accept(download.first, download.orders):
            command = decode_order(message)
            assert isinstance(command, ContinueTrial)
            self.obeyed[worker].append(command.attempt)

    def come_late(self, worker: int) -> None:
        """What was given up for lost arrives after all, and perhaps once more."""
        if worker in self.sent:
            self.mailbox.exchange(self.sent[worker])

    def drain(self) -> None:
        for letter in self.mailbox.drain(0.0):
            self.heard[letter.worker].append(int(letter.message))
            self.mailbox.acknowledge(letter.worker, letter.number)

    def settle(self) -> None:
        """Go on without faults."""
        for _ in range(3):
            for worker in self.workers:
                self.exchange(worker)
            self.drain()


STEPS = ["say", "order", "exchange", "question lost", "answer lost", "comes late", "drain"]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([1, 2])), max_size=80))
@settings(max_examples=200)
def test_both_ends_hear_everything_once_whatever_the_line_loses_and_repeats(steps: list[tuple[str, int]]) -> None:
    world = World()
    for step, worker in steps:
        match step:
            case "say":
                world.say(worker)
            case "order":
                world.order(worker)
            case "exchange" | "question lost" | "answer lost":
                world.exchange(worker, fault=step)
            case "comes late":
                world.come_late(worker)
            case _:
                world.drain()
    world.settle()
    for worker in world.workers:
        assert world.heard[worker] == list(range(1, world.put[worker] + 1))
        assert world.obeyed[worker] == list(range(1, world.ordered[worker] + 1))
        assert len(world.workers[worker][0]) == 0, "everything is acknowledged"


# -- the wire ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metrics",
    [
        {"loss": 0.5, "nested": {"a": [1, None, True]}},
        {"nan": float("inf"), "big": 2**80},
        {"text": "half of a pair: \ud800"},
    ],
)
def test_what_a_worker_says_comes_through(metrics: dict[str, object]) -> None:
    said: list[Event | Note] = [
        Hello(pid=1, node="n"),
        ResultReported(trial=1, attempt=2, iteration=3, metrics=metrics),
        TrialRaised(trial=1, attempt=2, error=ErrorInfo(type="E", message="m")),
        TrialReturned(trial=1, attempt=2),
    ]
    assert decode_said(encode_said(said)) == said


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_said(b"m" + encode([StopTrial(trial=1, attempt=1)]))
    with pytest.raises(TypeError, match="StopTrial"):
        decode_said(b"j" + encode([(False, msgspec.json.encode(StopTrial(trial=1, attempt=1)))]))


def test_orders_come_through() -> None:
    order = StopTrial(trial=1, attempt=2, reason="r", pause=True)
    assert decode_order(encode_order(order)) == order
