"""On an object store: what was committed is there, each record once, and only one driver writes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.codec import Record
from tunekit.core.events import ResultReported, TimerFired
from tunekit.errors import ExperimentExistsError, JournalCorruptError, ReportError, StorageError
from tunekit.journal.lease import LEASE_NAME, DriverLease
from tunekit.journal.log import Journal, read_records
from tunekit.journal.remote import RemoteJournal
from tunekit.journal.remote_segments import read_remote_records
from tunekit.journal.segments import segment_name
from tunekit.store.base import PutOutcome, Store
from tunekit.store.memory import MemoryStore
from tunekit.testing.faulty_store import Faults, FaultyStore, SimulatedCrash, When

_NUMBER = itertools.count()
BATCHES = 4
"""Commits of a scenario."""


def new_store() -> MemoryStore:
    return MemoryStore(f"memory://journals/{next(_NUMBER)}")


def rows(batch: int, by: int = 1) -> list[Record]:
    return [
        ResultReported(trial=number, attempt=by, iteration=batch + 1, metrics={"loss": number / 7, "text": "@ä"})
        for number in range(batch % 3 + 1)
    ]


class Time:
    """Passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds


class Driver:
    """Holds the lease of a store, and writes its journal."""

    def __init__(self, store: Store, by: int = 1, told: list[Record] | None = None) -> None:
        time = Time()
        self.by = by
        self.lease = DriverLease(store, clock=lambda: time.now, pause=time.pause, renews=False)
        self.lease.acquire()
        self.found: list[Record] = []
        self.journal = RemoteJournal(store, "journal", self.lease, read=self.found.extend, pause=time.pause)
        self.told: list[Record] = [] if told is None else told
        """What it was told is durable."""

    def write(self, batches: Sequence[int]) -> None:
        for batch in batches:
            records = rows(batch, self.by)
            self.journal.append(records)
            self.journal.commit()
            self.told += records

    def end(self) -> None:
        self.journal.close()
        self.lease.release()


class Interposed:
    """A store in which something happens before its n-th write, or whose n-th answers get lost."""

    def __init__(self, store: Store, at: int, action: Callable[[], None] | None = None, deaf: int = 0) -> None:
        self.store = store
        self.count = 0
        self.at = at
        self.action = action
        self.deaf = deaf

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def put_if_absent(self, key: str, data: bytes) -> PutOutcome:
        return PutOutcome.UNKNOWN if self._interposed() else self.store.put_if_absent(key, data)

    def replace(self, key: str, data: bytes, tag: str | None) -> PutOutcome:
        return PutOutcome.UNKNOWN if self._interposed() else self.store.replace(key, data, tag)

    def _interposed(self) -> bool:
        self.count += 1
        if self.count == self.at and self.action is not None:
            action, self.action = self.action, None
            action()
        return self.at <= self.count < self.at + self.deaf


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.sizes("")}


def flat(by: int = 1, batches: int = BATCHES) -> list[Record]:
    return [record for batch in range(batches) for record in rows(batch, by)]


def goes_on(store: Store) -> list[Record]:
    """Let the next driver go on, and return what it found."""
    driver = Driver(store, by=9)
    driver.write([7])
    driver.end()
    assert list(read_remote_records(store, "journal")) == [*driver.found, *rows(7, 9)]
    return driver.found


def scenario(store: Store, told: list[Record] | None = None) -> Driver:
    driver = Driver(store, told=told)
    driver.write(range(BATCHES))
    driver.end()
    return driver


def num_writes() -> int:
    faulty = FaultyStore(new_store())
    scenario(faulty)
    return faulty.faults.count


WRITES = num_writes()

# -- in good order -----------------------------------------------------------------------------------------------------


def test_each_commit_is_a_segment_of_its_own_and_an_empty_one_is_nothing() -> None:
    store = new_store()
    driver = Driver(store)
    driver.journal.append(rows(0))
    assert (driver.journal.num_records, list(store.sizes("journal"))) == (0, [])
    driver.journal.append([TimerFired(at=1.0)])
    driver.journal.commit()
    driver.journal.commit()
    expected = [*rows(0), TimerFired(at=1.0)]
    assert (driver.journal.num_records, list(driver.journal.records())) == (2, expected)
    driver.write([1])
    driver.end()
    driver.journal.close()
    assert driver.journal.closed
    assert list(store.sizes("journal")) == [segment_name(1), segment_name(2)]
    assert goes_on(store) == [*expected, *rows(1)]


def test_many_segments_are_read_in_order_and_a_look_at_some_records_decodes_no_others() -> None:
    store = new_store()
    driver = Driver(store)
    driver.write(range(50))
    driver.journal.append([TimerFired(at=2.0)])
    driver.end()
    assert list(read_remote_records(store, "journal")) == [*flat(batches=50), TimerFired(at=2.0)]
    assert list(read_remote_records(store, "journal", holding=b'"timer_fired"')) == [TimerFired(at=2.0)]
    assert goes_on(store) == [*flat(batches=50), TimerFired(at=2.0)]


def test_a_journal_that_is_not_there_has_no_records() -> None:
    assert list(read_remote_records(new_store(), "journal")) == []


def test_a_record_without_a_form_is_refused_and_takes_no_other_with_it() -> None:
    driver = Driver(new_store())
    with pytest.raises(ReportError):
        driver.journal.append([ResultReported(trial=0, attempt=1, iteration=1, metrics={"a": object()})])
    driver.write([0])
    assert driver.journal.num_records == len(rows(0))


# -- crashes and lost replies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, WRITES + 1))
def test_a_crash_at_any_write_loses_nothing_that_was_called_durable(number: int, when: When) -> None:
    store = new_store()
    faulty = FaultyStore(store, Faults(crash_at=number, when=when))
    told: list[Record] = []
    with pytest.raises(SimulatedCrash):
        scenario(faulty, told)
    found = goes_on(store)
    assert found[: len(told)] == told
    assert found == flat()[: len(found)], "and nothing else than the whole commit that it died in"
    assert found in [flat(batches=count) for count in range(BATCHES + 1)]


@pytest.mark.parametrize("number", range(1, WRITES + 1))
def test_a_lost_reply_changes_nothing(number: int) -> None:
    """The write was done, and nobody said so: the next try finds our own bytes."""
    store = new_store()
    driver = scenario(FaultyStore(store, Faults(fail_at=number)))
    assert driver.told == flat()
    assert goes_on(store) == flat()


@pytest.mark.parametrize("deaf", [1, 3])
@pytest.mark.parametrize("number", range(1, WRITES + 1))
def test_a_lost_request_is_made_again(number: int, deaf: int) -> None:
    store = new_store()
    scenario(Interposed(store, number, deaf=deaf))
    assert goes_on(store) == flat()


@pytest.mark.parametrize("written", [True, False])
def test_a_store_that_says_nothing_any_more_closes_the_journal(written: bool) -> None:  # noqa: FBT001 - a case
    store = new_store()
    before = Driver(store)
    before.write([0])
    before.end()
    lost = FaultyStore(store, Faults(fail_at=2, persistent=True)), Interposed(store, 2, deaf=10**6)
    driver = Driver(lost[not written])
    with pytest.raises(StorageError, match="what became of segment 2"):
        driver.write([1])
    with pytest.raises(StorageError, match="is closed"):
        driver.journal.append(rows(2))
    assert goes_on(store) == [*rows(0), *(rows(1) if written else [])]


# -- two drivers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(2, WRITES + 1))
def test_a_second_driver_at_any_write_fences_the_first_which_writes_nothing_more(number: int) -> None:
    """The first sleeps for so long that it counts as dead, and then goes on as if nothing had happened."""
    store = new_store()
    seconds: list[Driver] = []
    seen: list[dict[str, bytes]] = []

    def take_over() -> None:
        seconds.append(Driver(store, by=2))
        seconds[0].write(range(2))
        seen.append(contents(store))

    first = Driver(Interposed(store, number, take_over))
    if number < WRITES:
        with pytest.raises(ExperimentExistsError, match=r"taken over .*: process \d+ on "):
            first.write(range(BATCHES))
        with pytest.raises(StorageError, match="is closed"):
            first.journal.append(rows(0))
    else:
        first.write(range(BATCHES))
    first.end()
    [second] = seconds
    assert contents(store) == seen[0], "the first wrote after it had lost its place"
    assert second.found == first.told == flat(batches=number - 2)
    second.write([2])
    second.end()
    assert list(read_remote_records(store, "journal")) == [*second.found, *flat(2, 3)]


def test_of_two_that_begin_at_once_the_later_one_goes_on_with_all_of_the_other() -> None:
    """Here nobody renews, so the one that finds its place taken waits, and takes it for a dead driver's."""
    store = new_store()
    others: list[Driver] = []

    def be_quicker() -> None:
        others.append(Driver(store, by=2))
        others[0].write([0])

    driver = Driver(Interposed(store, 1, be_quicker))
    assert driver.found == rows(0, 2)
    assert (others[0].lease.generation, driver.lease.generation) == (1, 2)
    with pytest.raises(ExperimentExistsError):
        others[0].write([1])
    driver.write([1])
    assert list(read_remote_records(store, "journal")) == [*rows(0, 2), *rows(1)]


@pytest.mark.parametrize("number", [1, 2])
def test_what_a_slow_driver_still_writes_is_read_by_the_one_that_takes_its_place(number: int) -> None:
    """While the second takes the lease and closes the end, the first is awake again: that is replayed as well."""
    store = new_store()
    first = Driver(store)
    first.write([0])
    second = Driver(Interposed(store, number, lambda: first.write([1])), by=2)
    assert second.found == flat(batches=2)
    with pytest.raises(ExperimentExistsError, match="taken over") as raised:
        first.write([2])
    assert raised.value.fields["pid"] == os.getpid()
    second.write([5])
    assert list(read_remote_records(store, "journal")) == [*second.found, *rows(5, 2)]


def test_two_that_would_write_the_same_are_told_apart() -> None:
    """Somebody has removed the lease, so that both believe that they are alone."""
    store = new_store()
    first = Driver(store)
    store.remove(LEASE_NAME)
    second = Driver(store)
    second.write([0])
    with pytest.raises(ExperimentExistsError):
        first.write([0])
    assert list(read_remote_records(store, "journal")) == rows(0)


# -- damage, and journals that come from a disk ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_damage_is_refused_and_named(number: int) -> None:
    store = new_store()
    scenario(store)
    key = f"journal/{segment_name(number)}"
    data = store.read(key)
    store.write(key, data[:40] + bytes([data[40] ^ 1]) + data[41:])
    with pytest.raises(JournalCorruptError, match=segment_name(number)) as raised:
        Driver(store)
    assert "first 0 bytes" in raised.value.hint
    store.remove(key)
    with pytest.raises(JournalCorruptError, match=segment_name(number)):
        list(read_remote_records(store, "journal"))


@pytest.mark.parametrize("torn", [0, 1, 30, 200])
@pytest.mark.parametrize("whole", [0, 2])
def test_a_journal_from_a_disk_goes_on_here_and_back_on_the_disk(tmp_path: Path, whole: int, torn: int) -> None:
    """S003-5, promise 5: it was copied after a crash, so its end may be torn."""
    disk = Journal.open(tmp_path)
    for batch in range(whole):
        disk.append(rows(batch))
        disk.commit()
    kept = disk._size
    disk.append(rows(5) * 9)
    disk.close()
    store = new_store()
    [segment] = tmp_path.iterdir()
    store.write(f"journal/{segment.name}", segment.read_bytes()[: kept + torn])
    expected = flat(batches=whole)
    assert list(read_remote_records(store, "journal")) == expected
    assert goes_on(store) == expected
    for name in store.sizes("journal"):
        (tmp_path / name).write_bytes(store.read(f"journal/{name}"))
    again, found = Journal.replayed(tmp_path, list)
    assert found == [*expected, *rows(7, 9)]
    again.append(rows(1))
    again.close()
    assert list(Journal.open(tmp_path).records()) == [*found, *rows(1)]


def test_a_place_that_was_taken_over_goes_on_on_a_disk(tmp_path: Path) -> None:
    """The segment that closes the end holds nothing, and is none the worse for that."""
    store = new_store()
    Driver(store).write([0])
    second = Driver(store, by=2)
    second.write([1])
    assert second.journal._number == 3
    for name in store.sizes("journal"):
        (tmp_path / name).write_bytes(store.read(f"journal/{name}"))
    journal, found = Journal.replayed(tmp_path, list)
    assert found == [*rows(0), *rows(1, 2)]
    journal.append(rows(2))
    journal.close()
    assert list(read_records(tmp_path)) == [*found, *rows(2)]
    Driver(store, by=3)
    for name in ("000000000004.jsonl", "000000000003.jsonl", "000000000002.jsonl"):
        (tmp_path / name).write_bytes(store.read(f"journal/{name}"))
    journal, found = Journal.replayed(tmp_path, list)
    journal.append(rows(2))
    journal.close()
    assert list(read_records(tmp_path)) == [*rows(0), *rows(1, 2), *rows(2)]
