"""A driver takes the place of another one, which may wake at any moment; either may die at any of its steps."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import pytest

from tunekit.core.codec import Record
from tunekit.core.events import ResultReported
from tunekit.errors import ExperimentExistsError, StorageError
from tunekit.journal.lock import DriverLock
from tunekit.journal.log import Journal, read_records

CALLS = ("open", "write", "fsync", "ftruncate")
"""Functions of ``os`` that a driver's steps are made of."""


def rows(driver: int, first: int, count: int = 2) -> list[Record]:
    return [ResultReported(trial=driver, attempt=1, iteration=first + k, metrics={}) for k in range(count)]


class Died(BaseException):
    """The process is gone: nothing of what it would still have done happens."""


def die() -> None:
    raise Died


class Driver:
    """The part of a driver that writes: lock and journal."""

    def __init__(self, folder: Path, name: int, *, takeover: bool = False, segment_bytes: int = 2**26) -> None:
        self.folder, self.name, self.segment_bytes = folder, name, segment_bytes
        self.acknowledged: list[Record] = []
        self.lock = DriverLock(folder, opening_s=0.0)
        try:
            self.lock.acquire(takeover=takeover)
            self.journal = Journal(
                folder / "journal", segment_bytes=segment_bytes, guard=self.lock.check, closes=self.lock.took_over
            )
            self.lock.end_is_closed()
            self.commit()
            self.lock.opened()
        except Died:
            self.lock.close()
            raise

    def commit(self) -> None:
        batch = rows(self.name, len(self.acknowledged))
        self.journal.append(batch)
        self.journal.commit()
        self.acknowledged += batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ExperimentExistsError):
            self.journal.close()
        self.lock.release()


@pytest.fixture
def no_power_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes stop and die here, also within a write, and the machine does not: no step has to wait for the disk."""
    write = os.write
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:-40] or data))


class Moment:
    """Something happens just before the n-th call of the system that is made from here on, once."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        at: int,
        act: Callable[[], None],
        *,
        thread: threading.Thread | None = None,
    ) -> None:
        self.left, self._act, self._thread = at, act, thread
        for call in CALLS:
            monkeypatch.setattr(os, call, self._watched(getattr(os, call)))
        for call in ("read_bytes", "replace", "unlink"):
            monkeypatch.setattr(Path, call, self._watched(getattr(Path, call)))

    def _watched(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._thread not in {None, threading.current_thread()}:
                return real(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                self._act()
            if self.left <= 0 and self._act is die:
                die()  # also what it would clean up on its way out
            return real(*args, **kwargs)

        return call

    @property
    def has_come(self) -> bool:
        return self.left <= 0


def in_journal(folder: Path) -> list[Record]:
    return list(read_records(folder / "journal"))


def without_others(found: list[Record], *drivers: Driver) -> Iterator[tuple[Driver, list[Record]]]:
    for driver in drivers:
        yield driver, [record for record in found if isinstance(record, ResultReported) and record.trial == driver.name]


def check_all(folder: Path, *drivers: Driver) -> None:
    """Whatever was acknowledged is there, in order, one driver after the other, and at most one batch of each more."""
    found = in_journal(folder)
    names = [record.trial for record in found if isinstance(record, ResultReported)]
    assert names == sorted(names)
    for driver, records in without_others(found, *drivers):
        assert records[: len(driver.acknowledged)] == driver.acknowledged
        assert len(records) <= len(driver.acknowledged) + 2


def test_a_driver_that_was_replaced_says_by_whom_and_writes_nothing(tmp_path: Path) -> None:
    with Driver(tmp_path, 1) as first:
        with pytest.raises(ExperimentExistsError, match=r"another driver is running.*\n\nhint: .*fit\(takeover=True\)"):
            Driver(tmp_path, 2)
        with Driver(tmp_path, 2, takeover=True) as second:
            assert (first.lock.generation, second.lock.generation) == (1, 2)
            before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
            with pytest.raises(
                ExperimentExistsError, match=rf"has taken over .*process {os.getpid()} on .*nothing more"
            ):
                first.commit()
            assert first.journal.closed
            with pytest.raises(StorageError, match="closed"):
                first.journal.append(rows(1, 9))
            first.lock.release()
            assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
            with pytest.raises(ExperimentExistsError, match="another driver is running"):
                Driver(tmp_path, 3)
            second.commit()
    assert not {path.name for path in tmp_path.iterdir()} & {"driver.takeover", "driver.opening"}
    with Driver(tmp_path, 3) as third:
        check_all(tmp_path, first, second, third)
        assert third.lock.generation == 3


def test_with_nobody_there_a_takeover_is_a_start(tmp_path: Path) -> None:
    with Driver(tmp_path, 1, takeover=True) as first:
        assert not first.lock.took_over
    with Driver(tmp_path, 2, takeover=True) as second:
        check_all(tmp_path, first, second)
    assert len(list((tmp_path / "journal").iterdir())) == 1, "an end that nobody can reach is not closed"


def test_a_driver_that_is_just_opening_cannot_be_replaced(tmp_path: Path) -> None:
    with DriverLock(tmp_path) as first:
        with pytest.raises(ExperimentExistsError, match="It is just opening"):
            DriverLock(tmp_path, opening_s=0.05).acquire(takeover=True)
        first.check()
        first.opened()
        DriverLock(tmp_path, opening_s=0.05).acquire(takeover=True)
        with pytest.raises(ExperimentExistsError, match="taken over"):
            first.check()


def test_a_lock_that_is_gone_is_not_taken_for_ours(tmp_path: Path) -> None:
    with Driver(tmp_path, 1) as first:
        (tmp_path / "driver.lock").unlink()
        with pytest.raises(StorageError, match="who drives the experiment"):
            first.commit()
        first.journal.close()


@pytest.mark.usefixtures("no_power_failure")
@pytest.mark.parametrize(
    ("stopped_at", "segment_bytes"), [(2, 1), (3, 1), (4, 1), (8, 1), (2, 2**26), (3, 2**26), (5, 2**26)]
)
def test_a_driver_that_stops_in_a_commit_and_wakes_in_the_middle_of_a_takeover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int, segment_bytes: int
) -> None:
    """At every pair of steps. A commit that is acted upon is there before anything that the new driver writes."""
    for at in range(1, 200):
        folder = tmp_path / str(at)
        with Driver(folder, 1, segment_bytes=segment_bytes) as first:
            first.commit()
            stopped, woken = threading.Event(), threading.Event()

            def stop() -> None:
                stopped.set()  # noqa: B023 - called here
                woken.wait()  # noqa: B023

            def commit() -> None:
                with contextlib.suppress(ExperimentExistsError):
                    first.commit()
                stopped.set()  # noqa: B023

            old = threading.Thread(target=commit)

            def wake() -> None:
                woken.set()  # noqa: B023
                old.join()  # noqa: B023

            with monkeypatch.context() as patch:
                steps = Moment(patch, stopped_at, stop, thread=old)
                old.start()
                stopped.wait()
                moment = Moment(patch, at, wake, thread=threading.current_thread())
                second = Driver(folder, 2, takeover=True, segment_bytes=segment_bytes)
                wake()
            with second:
                with pytest.raises((ExperimentExistsError, StorageError)):
                    first.commit()
                second.commit()
                check_all(folder, first, second)
            with Driver(folder, 3) as third:
                check_all(folder, first, second, third)
        assert steps.has_come
        if not moment.has_come:
            assert at > 20
            return
    pytest.fail("a takeover has so many steps?")


@pytest.mark.parametrize("segment_bytes", [1, 2**26])
def test_what_a_replaced_driver_takes_back_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment_bytes: int
) -> None:
    """Its disk fails in a commit in the middle of which another one has taken over."""
    with Driver(tmp_path, 1, segment_bytes=segment_bytes) as first:
        taken: list[Driver] = []

        def fail(*_: object) -> None:
            monkeypatch.undo()
            taken.append(Driver(tmp_path, 2, takeover=True, segment_bytes=segment_bytes))
            taken[0].commit()
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(ExperimentExistsError, match="taken over"):
            first.commit()
        with taken[0] as second:
            second.commit()
            check_all(tmp_path, first, second)


@pytest.mark.usefixtures("no_power_failure")
@pytest.mark.parametrize("next_one", ["starts", "takes over"])
@pytest.mark.parametrize("stopped_at", [None, 2, 4])
def test_a_driver_that_dies_at_any_step_of_a_takeover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int | None, next_one: str
) -> None:
    """The driver before goes on if nothing has come of it, and else stops; the one after takes what is there.

    With ``stopped_at``, the driver before is stopped there in a commit while all of this happens.
    """
    for at in range(1, 200):
        folder = tmp_path / str(at)
        others: list[Driver] = []
        came: list[bool] = []

        def meanwhile() -> None:
            with monkeypatch.context() as patch:
                moment = Moment(patch, at, die)  # noqa: B023 - called here
                with contextlib.suppress(Died):
                    others.append(Driver(folder, 2, takeover=True, segment_bytes=1))  # noqa: B023
                came.append(moment.has_come)  # noqa: B023
            in_journal(folder)  # noqa: B023 - whoever only reads finds no damage
            if not others:  # noqa: B023
                with contextlib.suppress(ExperimentExistsError):
                    others.append(Driver(folder, 3, takeover=next_one == "takes over", segment_bytes=1))  # noqa: B023

        with Driver(folder, 1, segment_bytes=1) as first, contextlib.ExitStack() as stack:
            if stopped_at is None:
                meanwhile()
                with contextlib.suppress(ExperimentExistsError):
                    first.commit()
            else:
                with monkeypatch.context() as patch:
                    Moment(patch, stopped_at, meanwhile)
                    with contextlib.suppress(ExperimentExistsError):
                        first.commit()
            for other in others:
                stack.enter_context(other)
                other.commit()
            check_all(folder, first, *others)
        with Driver(folder, 4) as last:
            check_all(folder, first, *others, last)
        if not came[0]:
            assert at > 20
            return
    pytest.fail("a takeover has so many steps?")


RACER = Path(__file__).with_name("racing_driver.py")


@contextlib.contextmanager
def racing(folder: Path, *ways: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run drivers that start at once, and end all of them."""
    with contextlib.ExitStack() as stack:
        processes = []
        for name, way in enumerate(ways):
            out = stack.enter_context((folder / f"{name}.out").open("wb"))
            command = [sys.executable, str(RACER), str(folder), str(name), way]
            processes.append(stack.enter_context(subprocess.Popen(command, stdout=out)))
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()


def check_race(folder: Path, num: int) -> list[list[str]]:
    """Return what the drivers printed. One driver after the other wrote, each of a generation of its own."""
    printed = [(folder / f"{name}.out").read_text().split() for name in range(num)]
    found = [record for record in in_journal(folder) if isinstance(record, ResultReported)]
    blocks = [(key, [record.iteration for record in group]) for key, group in groupby(found, _writer)]
    assert len({name for (name, _), _ in blocks}) == len(blocks), "a driver wrote after another one had begun"
    generations = [generation for (_, generation), _ in blocks]
    assert generations == sorted(set(generations)), "two drivers of one generation"
    written = {name: iterations for (name, _), iterations in blocks}
    for name, lines in enumerate(printed):
        acknowledged = sum(line.isdigit() for line in lines)
        iterations = written.get(name, [])
        assert iterations == [*range(1, len(iterations) + 1)]
        assert acknowledged <= len(iterations) <= acknowledged + 1
    return printed


def _writer(record: ResultReported) -> tuple[int, int]:
    return record.trial, record.attempt


@pytest.mark.parametrize(
    "round_", [*range(3), *(pytest.param(round_, marks=pytest.mark.soak) for round_ in range(3, 50))]
)
def test_drivers_that_start_at_once(tmp_path: Path, round_: int) -> None:
    """Some take over, one is stopped in the middle and goes on when it is no driver any more."""
    rng = random.Random(round_)
    ways = ["start", "takeover", "start", "takeover", "takeover"]
    rng.shuffle(ways)
    with racing(tmp_path, *ways) as processes:
        for _ in range(8):
            time.sleep(rng.uniform(0.02, 0.2))
            stopped = rng.choice(processes)
            stopped.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.0, 0.1))
            rng.choice(processes).send_signal(signal.SIGCONT)
        for process in processes:
            process.send_signal(signal.SIGCONT)
        _wait_until_one_drives(tmp_path, processes)
    printed = check_race(tmp_path, len(ways))
    ends = [lines[-1] if lines else "" for lines in printed]
    assert sum(end.isdigit() for end in ends) == 1, ends
    with Driver(tmp_path, 99) as last:
        assert last.lock.generation > 1


def _wait_until_one_drives(folder: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait until all others have ended, and it has committed something."""
    deadline = time.monotonic() + 240
    while True:
        living = [name for name, process in enumerate(processes) if process.poll() is None]
        if len(living) <= 1 and all((folder / f"{name}.out").read_text().strip() for name in living):
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)
