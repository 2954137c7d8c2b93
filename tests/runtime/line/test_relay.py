"""The way to the mailbox for workers on other machines, in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tunekit.runtime.line.door import Door, Errand, door_name
from tunekit.runtime.line.relay import Relay

Make = Callable[[str, int], Relay]


class Driver:
    """A door whose patient exchanges wait until they are released."""

    def __init__(self) -> None:
        self.name = door_name()
        self.num_waiting = 0
        self.release = threading.Event()
        self.door = self.open()

    def open(self) -> Door:
        return Door(self.name, {Errand.EXCHANGE: self.wait, Errand.EXCHANGE_AT_ONCE: lambda frame: b"now: " + frame})

    def wait(self, frame: bytes) -> bytes:
        self.num_waiting += 1
        self.release.wait(120)
        return b"re: " + frame


@pytest.fixture
def relay() -> Iterator[Make]:
    made: list[Relay] = []

    def make(name: str, max_waiting: int) -> Relay:
        made.append(Relay(name, max_waiting))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.release.set()
    driver.door.close()


def test_who_finds_no_thread_to_wait_on_is_answered_at_once(driver: Driver, relay: Make) -> None:
    through = relay(driver.name, 2)
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda number=number: answers.append(through.exchange(b"%d" % number, 120.0)))
        for number in range(2)
    ]
    for thread in threads:
        thread.start()
    while driver.num_waiting < 2:
        time.sleep(0.001)
    assert through.exchange(b"2", 120.0) == b"now: 2"
    driver.release.set()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(answers) == [b"re: 0", b"re: 1"]
    assert through.exchange(b"3", 120.0) == b"re: 3", "there is a place again"


def test_without_a_driver_an_exchange_fails_and_takes_no_place(driver: Driver, relay: Make) -> None:
    driver.release.set()
    through = relay("nobody", 1)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            through.exchange(b"x", 120.0)
    through = relay(driver.name, 1)
    for frame in [b"x", b"y"]:
        assert through.exchange(frame, 120.0) == b"re: " + frame
