"""Mailbox, post office, sequences: each message exactly once and in order, whatever is lost, repeated, restarted."""

from __future__ import annotations

import threading
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.core.commands import ContinueTrial, StopTrial
from tunekit.core.events import ErrorInfo, Event, ResultReported, TrialRaised, TrialReturned
from tunekit.runtime.mailbox import MAX_GONE, Mailbox
from tunekit.runtime.post import PostOffice
from tunekit.runtime.sequence import Inbox, Outbox
from tunekit.runtime.wire import (
    Download,
    Drain,
    Drained,
    Hello,
    Note,
    Post,
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


def drain(mailbox: Mailbox, instance: int = 0, seen: int = 0, wait_s: float = 0.0) -> Drained:
    return msgspec.msgpack.decode(mailbox.drain(encode(Drain(instance, seen, [], wait_s))), type=Drained)


# -- sequences ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["put", "send", "lose", "repeat", "acknowledge", "forget"]), max_size=60))
def test_each_message_arrives_once_and_in_order(steps: list[str]) -> None:
    """Any pattern of losses, repetitions and restarts, and then silence: everything has come, once."""
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


def test_parcels_stay_until_the_driver_has_seen_them() -> None:
    mailbox = Mailbox()
    exchange(mailbox, b"a", b"b")
    first = drain(mailbox)
    assert [(parcel.number, parcel.message) for parcel in first.parcels] == [(1, b"a"), (2, b"b")]
    assert drain(mailbox).parcels == first.parcels, "the first answer may have been lost"
    assert drain(mailbox, first.instance, first.upto).parcels == []


def test_a_number_of_another_instance_says_nothing() -> None:
    mailbox = Mailbox()
    exchange(mailbox, b"a")
    assert drain(mailbox, instance=drain(mailbox).instance + 1, seen=1).parcels


def test_orders_stay_until_the_worker_has_heeded_them() -> None:
    mailbox = Mailbox()
    mailbox.post(encode(Post([(1, 1, [b"x", b"y"])], [], [])))
    assert exchange(mailbox).orders == [b"x", b"y"]
    assert exchange(mailbox, heeded=1).orders == [b"y"]
    assert exchange(mailbox, heeded=2).orders == []
    assert drain(mailbox).heeded == [(1, 2)]


def test_posts_that_overtake_each_other_are_put_in_order() -> None:
    mailbox = Mailbox()
    mailbox.post(encode(Post([(1, 2, [b"y"])], [], [])))
    assert exchange(mailbox).orders == []
    mailbox.post(encode(Post([(1, 1, [b"x"])], [], [])))
    assert exchange(mailbox).orders == [b"x", b"y"]


def test_a_repeated_order_that_was_heeded_is_said_to_be() -> None:
    mailbox = Mailbox()
    mailbox.post(encode(Post([(1, 1, [b"x"])], [], [])))
    exchange(mailbox, heeded=1)
    drain(mailbox)
    assert drain(mailbox).heeded == []
    mailbox.post(encode(Post([(1, 1, [b"x"])], [], [])))
    assert drain(mailbox).heeded == [(1, 1)]
    assert exchange(mailbox, heeded=1).orders == []


def test_those_who_wait_are_woken() -> None:
    mailbox = Mailbox()
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda: answers.append(exchange(mailbox, wait_s=30.0))),
        threading.Thread(target=lambda: answers.append(drain(mailbox, wait_s=30.0))),
    ]
    for thread in threads:
        thread.start()
    mailbox.post(encode(Post([(1, 1, [b"x"])], [], [], wakes=True)))
    for thread in threads:
        thread.join(timeout=10)
    assert len(answers) == 2


def test_a_wake_that_comes_before_the_drain_is_not_lost() -> None:
    mailbox = Mailbox()
    mailbox.post(encode(Post([], [], [], wakes=True)))
    before = time.monotonic()
    drain(mailbox, wait_s=30.0)
    assert time.monotonic() - before < 15


def test_a_newer_exchange_releases_the_older_one() -> None:
    mailbox = Mailbox()
    thread = threading.Thread(target=exchange, args=(mailbox,), kwargs={"wait_s": 30.0})
    thread.start()
    exchange(mailbox, wait_s=0.2)
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_who_has_no_thread_to_wait_on_is_answered_at_once() -> None:
    mailbox = Mailbox()
    before = time.monotonic()
    answer = mailbox.exchange_at_once(encode(Upload(1, 1, [b"a"], 0, 30.0)))
    assert time.monotonic() - before < 15
    assert msgspec.msgpack.decode(answer, type=Download).orders == []
    assert [parcel.message for parcel in drain(mailbox).parcels] == [b"a"]


def test_a_worker_that_was_given_up_is_told() -> None:
    mailbox = Mailbox()
    assert not exchange(mailbox).is_gone
    mailbox.post(encode(Post([], [], [1])))
    assert exchange(mailbox, wait_s=30.0).is_gone


# -- both ends ---------------------------------------------------------------------------------------------------------


class World:
    """A post office and two workers, with a mailbox between them that dies, and calls that get lost."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()
        self.office = PostOffice()
        self.workers = {1: (Outbox(), Inbox()), 2: (Outbox(), Inbox())}
        self.instances = dict.fromkeys(self.workers, 0)
        self.put = dict.fromkeys(self.workers, 0)
        self.ordered = dict.fromkeys(self.workers, 0)
        self.heard: dict[int, list[int]] = {1: [], 2: []}
        self.obeyed: dict[int, list[int]] = {1: [], 2: []}
        for worker in self.workers:
            self.office.open(worker)

    def say(self, worker: int) -> None:
        self.put[worker] += 1
        self.workers[worker][0].put(b"%d" % self.put[worker])

    def order(self, worker: int) -> None:
        self.ordered[worker] += 1
        self.office.order(worker, ContinueTrial(trial=worker, attempt=self.ordered[worker]))

    def exchange(self, worker: int, *, answer_is_lost: bool = False) -> None:
        outbox, inbox = self.workers[worker]
        first, messages = outbox.take_unsent()
        download = exchange(self.mailbox, *messages, worker=worker, first=first, heeded=inbox.received)
        if answer_is_lost:
            outbox.rewind()
            return
        outbox.acknowledge(download.acknowledged)
        if download.instance != self.instances[worker]:
            self.instances[worker] = download.instance
            outbox.rewind()
        for order in inbox.accept(download.first, download.orders):
            command = decode_order(order)
            assert isinstance(command, ContinueTrial)
            self.obeyed[worker].append(command.attempt)

    def drain(self, *, answer_is_lost: bool = False) -> None:
        answer = self.mailbox.drain(self.office.drain(0.0))
        if answer_is_lost:
            return
        for letter in self.office.receive(answer):
            self.heard[letter.worker].append(int(letter.message))
            self.office.acknowledge(letter.worker, letter.number)

    def post(self, *, is_lost: bool = False) -> None:
        frame = self.office.post()
        if frame is not None and not is_lost:
            self.mailbox.post(frame)

    def settle(self) -> None:
        """Go on without faults."""
        for _ in range(4):
            self.office.repeat()
            self.post()
            for worker in self.workers:
                self.exchange(worker)
            self.drain()


STEPS = ["say", "order", "exchange", "exchange, answer lost", "drain", "drain, answer lost", "post", "post lost", "die"]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([1, 2])), max_size=80))
@settings(max_examples=200)
def test_both_ends_hear_everything_once_through_a_mailbox_that_dies(steps: list[tuple[str, int]]) -> None:
    world = World()
    for step, worker in steps:
        match step:
            case "say":
                world.say(worker)
            case "order":
                world.order(worker)
            case "exchange" | "exchange, answer lost":
                world.exchange(worker, answer_is_lost="lost" in step)
            case "drain" | "drain, answer lost":
                world.drain(answer_is_lost="lost" in step)
            case "post" | "post lost":
                world.post(is_lost="lost" in step)
            case _:
                world.mailbox = Mailbox()
    world.settle()
    for worker in world.workers:
        assert world.heard[worker] == list(range(1, world.put[worker] + 1))
        assert world.obeyed[worker] == list(range(1, world.ordered[worker] + 1))
        assert len(world.workers[worker][0]) == 0, "everything is acknowledged"


def test_the_numbers_of_a_dead_mailbox_mean_nothing_to_the_next() -> None:
    """What the new one counts as 1 to 3 is not what the old one did."""
    world = World()
    for _ in range(3):
        world.say(1)
        world.exchange(1)
    world.drain()
    world.mailbox = Mailbox()
    world.drain()
    world.say(1)
    world.exchange(1)
    world.drain()
    assert world.heard[1] == [1, 2, 3, 4]


def test_a_worker_that_was_given_up_is_not_heard() -> None:
    world = World()
    world.say(1)
    world.exchange(1)
    world.office.give_up(1)
    world.drain()
    assert world.heard[1] == []
    world.post()
    assert exchange(world.mailbox, worker=1).is_gone
    world.mailbox = Mailbox()
    assert not exchange(world.mailbox, worker=1, heeded=2).is_gone
    world.drain()
    world.post()
    assert exchange(world.mailbox, worker=1).is_gone, "a new mailbox is told as soon as that worker turns up"


def test_nothing_grows_with_the_number_of_workers_that_are_gone() -> None:
    world = World()
    for worker in range(3, 5000):
        world.office.open(worker)
        exchange(world.mailbox, b"hello", worker=worker)
        world.office.receive(world.mailbox.drain(world.office.drain(0.0)))
        world.office.give_up(worker)
        world.post()
    assert set(world.mailbox._boxes) <= {1, 2}
    assert len(world.mailbox._gone) == MAX_GONE
    assert not world.office._gone
    world.mailbox = Mailbox()
    world.drain()
    assert world.office.post() is None, "a new mailbox is not told of all who are gone"


def test_one_who_was_forgotten_is_told_when_he_turns_up() -> None:
    world = World()
    for worker in range(3, 5000):
        world.mailbox.post(encode(Post([], [], [worker])))
    assert not exchange(world.mailbox, worker=3).is_gone
    world.drain()
    world.post()
    assert exchange(world.mailbox, worker=3).is_gone


def test_who_is_given_up_while_he_waits_is_told_at_once() -> None:
    mailbox = Mailbox()
    answers: list[Download] = []
    thread = threading.Thread(target=lambda: answers.append(exchange(mailbox, wait_s=30.0)))
    thread.start()
    while not (mailbox._boxes and mailbox._boxes[1].turn):
        time.sleep(0.001)
    mailbox.post(encode(Post([], [], [1])))
    thread.join(timeout=10)
    assert answers[0].is_gone


def test_last_words_overlap_with_what_came_before() -> None:
    world = World()
    for _ in range(3):
        world.say(1)
    world.exchange(1)
    world.drain()
    letters = world.office.accept(1, 2, [b"2", b"3", b"4"])
    assert [(letter.number, letter.message) for letter in letters] == [(4, b"4")]


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
