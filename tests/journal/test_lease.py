"""Who may drive an experiment on an object store, told without believing any clock."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading

import msgspec
import pytest

from tunekit.errors import ExperimentExistsError, StorageError
from tunekit.journal.holder import Holder, is_gone, parse_holder, process_start, this_machine
from tunekit.journal.lease import LEASE_NAME, DriverLease
from tunekit.store.base import PutOutcome
from tunekit.store.memory import MemoryStore
from tunekit.testing.faulty_store import Faults, FaultyStore

_NUMBER = itertools.count()


def new_store() -> MemoryStore:
    return MemoryStore(f"memory://leases/{next(_NUMBER)}")


class World:
    """Time that passes while somebody waits, and drivers that renew meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.alive: list[DriverLease] = []

    def pause(self, seconds: float) -> None:
        self.now += seconds
        for lease in self.alive:
            lease.renew()

    def lease(self, store: MemoryStore | FaultyStore, lease_s: float = 30.0, *, drives: bool = True) -> DriverLease:
        return DriverLease(
            store, lease_s=lease_s, clock=lambda: self.now, pause=self.pause, renews=False, drives=drives
        )


def held(store: MemoryStore) -> Holder:
    holder = parse_holder(store.read(LEASE_NAME))
    assert holder is not None
    return holder


def elsewhere(store: MemoryStore, **changes: object) -> None:
    """Let the lease be held by a driver on another machine."""
    changed = msgspec.structs.replace(held(store), machine="another", pid=7, host="far", **changes)
    store.write(LEASE_NAME, msgspec.json.encode(changed))


def test_each_driver_gets_the_next_generation_and_does_not_wait_for_one_that_ended_in_peace() -> None:
    store, world = new_store(), World()
    for generation in (1, 2, 3):
        lease = world.lease(store)
        assert lease.generation == 0
        with lease as taken:
            assert (taken.generation, taken.took_over) == (generation, False)
            assert not held(store).released
        assert held(store).released
    assert world.now == 0
    lease.release()


def test_a_second_driver_is_told_who_holds_it_as_soon_as_that_one_shows_that_it_lives() -> None:
    store, world = new_store(), World()
    first = world.lease(store)
    first.acquire()
    world.alive.append(first)
    with pytest.raises(ExperimentExistsError) as caught:
        world.lease(store).acquire()
    for shown in (store.uri, f"process {os.getpid()} on {socket.gethostname()}, since 20"):
        assert shown in caught.value.message
    assert caught.value.fields == {"path": store.uri, "pid": os.getpid()}
    assert "30 s" in caught.value.hint
    assert world.now < 30
    assert held(store).generation == 1, "a refused driver counts for nothing"


def test_a_driver_that_died_elsewhere_is_waited_for_no_longer_than_it_promised() -> None:
    store, world = new_store(), World()
    world.lease(store, lease_s=12.0).acquire()
    elsewhere(store, since=0.0)
    lease = world.lease(store)
    assert lease.acquire() == 2
    assert lease.took_over
    assert world.now == pytest.approx(12.0)


def test_who_takes_over_waits_for_nobody() -> None:
    """Neither the driver that lives nor the one that comes after it; each that is replaced learns by whom."""
    store, world = new_store(), World()
    leases = [world.lease(store) for _ in range(3)]
    for generation, lease in enumerate(leases, start=1):
        assert lease.acquire(takeover=True) == generation
        assert lease.took_over == (generation > 1)
    assert world.now == 0
    for lease in leases[:2]:
        lease.check()
        lease.renew()
        with pytest.raises(ExperimentExistsError, match=rf"taken over .* process {os.getpid()} on "):
            lease.check()
    leases[2].renew()
    leases[2].check()
    leases[0].release()
    assert not held(store).released


def test_a_tool_that_keeps_drivers_away_is_not_taken_over_from() -> None:
    store, world = new_store(), World()
    tool = world.lease(store, drives=False)
    tool.acquire()
    world.alive.append(tool)
    with pytest.raises(ExperimentExistsError):
        world.lease(store).acquire(takeover=True)
    tool.check()


def test_a_driver_that_ends_while_it_is_watched_is_followed_at_once() -> None:
    store, world = new_store(), World()
    first = world.lease(store)
    first.acquire()
    elsewhere(store)
    second = DriverLease(store, clock=lambda: 0.0, pause=lambda _: first.release(), renews=False)
    assert second.acquire() == 2
    assert not second.took_over


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for() -> None:
    code = (
        "import sys, time\n"
        "from tunekit.journal.holder import Holder, process_start, this_machine\n"
        "import msgspec, os\n"
        "h = Holder(token='t', generation=4, pid=os.getpid(), host='here', machine=this_machine(),\n"
        "           started=process_start(os.getpid()) or '', since=1.0, lease_s=30.0)\n"
        "print(msgspec.json.encode(h).decode(), flush=True)\n"
        "time.sleep(600)\n"
    )
    store, world = new_store(), World()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        holder = parse_holder(line)
        assert holder is not None
        assert not is_gone(holder)
        assert is_gone(msgspec.structs.replace(holder, started="1")), "its number was given to another process"
        assert not is_gone(msgspec.structs.replace(holder, started="1", machine="another"))
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(holder), "it is dead, and its parent has not yet noticed"
        process.wait()
    assert is_gone(holder)
    store.write(LEASE_NAME, line)
    lease = world.lease(store)
    assert (lease.acquire(), lease.took_over, world.now) == (5, True, 0)


def test_this_process_is_known_to_itself() -> None:
    assert this_machine() == this_machine() != ""
    assert process_start(os.getpid())


def test_a_driver_that_lost_its_lease_is_told_by_whom_and_leaves_it_alone() -> None:
    store, world = new_store(), World()
    first = world.lease(store)
    first.acquire()
    elsewhere(store)
    second = world.lease(store)
    second.acquire()
    before = store.read(LEASE_NAME)
    first.check()
    first.renew()
    with pytest.raises(ExperimentExistsError, match=rf"taken over .*: process {os.getpid()}"):
        first.check()
    first.renew()
    first.release()
    assert store.read(LEASE_NAME) == before
    second.check()
    second.release()
    assert held(store).released


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 3}'])
def test_a_lease_that_cannot_be_read_binds_nobody_and_its_writer_is_shut_out(content: bytes) -> None:
    store, world = new_store(), World()
    store.write(LEASE_NAME, content)
    lease = world.lease(store)
    assert (lease.acquire(), lease.took_over, world.now) == (1, True, 0)


def test_a_lease_that_somebody_removed_is_written_again() -> None:
    store, world = new_store(), World()
    lease = world.lease(store)
    lease.acquire()
    store.remove(LEASE_NAME)
    lease.renew()
    assert held(store).token == lease.token


@pytest.mark.parametrize("number", [1, 2, 3])
def test_lost_replies_cost_nothing(number: int) -> None:
    store, world = new_store(), World()
    lease = world.lease(FaultyStore(store, Faults(fail_at=number)))
    assert lease.acquire() == 1
    lease.renew()
    lease.check()
    lease.release()
    assert held(store).released
    assert world.now == 0


def test_a_store_that_takes_nothing_is_an_error_after_a_few_tries() -> None:
    class Deaf(MemoryStore):
        def replace(self, key: str, data: bytes, tag: str | None) -> PutOutcome:
            return PutOutcome.UNKNOWN

    with pytest.raises(StorageError, match="not granted"):
        World().lease(Deaf("memory://leases/deaf")).acquire()


def test_a_thread_renews_it_until_it_is_released() -> None:
    store = new_store()
    lease = DriverLease(store, lease_s=0.06)
    with lease:
        seen = threading.Event()
        while held(store).renewals < 2:
            assert not seen.wait(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "tunekit-lease"]
    after = store.read(LEASE_NAME)
    seen.wait(0.05)
    assert store.read(LEASE_NAME) == after


def test_a_forked_child_gives_nothing_back() -> None:
    store = new_store()
    lease = DriverLease(store, renews=False)
    lease.acquire()
    lease._pid += 1
    lease.release()
    assert not held(store).released


def test_a_store_that_does_not_answer_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is gone for good is asked for minutes: the error that says so must not wait for that."""
    store, world, answers = new_store(), World(), threading.Event()
    lease = world.lease(store)
    lease.acquire()
    monkeypatch.setattr("tunekit.journal.lease._FAREWELL_S", 0.01)
    monkeypatch.setattr(store, "read_tagged", lambda _: answers.wait(120) and pytest.fail("nobody waits for this"))
    lease.release()
    assert not answers.is_set()
    monkeypatch.undo()
    assert not held(store).released
    answers.set()
