"""Saves that fail, are struck or are dropped: told, and nothing half-made stays behind."""

from __future__ import annotations

import errno
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saving_bench import BIG, TRIAL, Bench, Gate, bench_in

from tunekit.core.events import SaveFailed
from tunekit.errors import SaveError
from tunekit.runtime.saving.reasons import SaveReason
from tunekit.runtime.saving.saving import Row
from tunekit.runtime.saving.staging_slots import SLOTS
from tunekit.testing.faulty_store import Faults, FaultyOps


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as made:
        yield made


def test_any_operation_of_the_storage_may_fail(tmp_path: Path) -> None:
    """ENOSPC at each step: the save is told as failed, the one before and the one after are whole."""

    def run(folder: Path, fail_at: int | None) -> tuple[Bench, FaultyOps]:
        folder.mkdir()
        ops = FaultyOps(Faults())
        bench = Bench(folder, ops=ops)
        bench.store.gate.set()
        bench.save(1)
        bench.saving.settle()
        first = ops.faults.count
        ops.faults.fail_at = None if fail_at is None else first + fail_at
        bench.save(2)
        bench.saving.settle()
        ops.faults.fail_at = None
        bench.save(3)
        bench.saving.settle()
        bench.saving.check()
        bench.saving.close()
        ops.close()
        assert SLOTS.num_used == 0
        return bench, ops

    bench, ops = run(tmp_path / "0", None)
    first = next(index for index, name in enumerate(ops.faults.log) if f"{TRIAL}.2.1" in name)
    last = next(index for index, name in enumerate(ops.faults.log) if f"{TRIAL}.3.1" in name)
    for number in range(1, last - first + 1):
        bench, _ = run(tmp_path / str(number), number)
        assert bench.kinds == ["CheckpointStaged 1", "SaveFailed 2", "CheckpointStaged 3"], number
        event = bench.channel.events[1]
        assert isinstance(event, SaveFailed)
        assert "No space left" in event.error.message
        assert bench.staged() == [f"{TRIAL}.1.1", f"{TRIAL}.3.1"]
        bench.check_content(1, 3)


def test_a_save_that_failed_behind_is_not_taken_for_done(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the last save of the trial is tried once more."""
    bench.store.gate.set()
    monkeypatch.setattr(Gate, "persist", _no_space)
    bench.save(1)
    bench.saving.settle()
    assert bench.kinds == ["SaveFailed 1"]
    assert bench.saving.saved_at != 1


def _no_space(self: Gate, staging: str, files: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_save_that_came_to_nothing_is_nobodys_parent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a manifest names as its parent was staged: not what gave way to it, and not what the storage refused."""
    bench.save(1)
    bench.store.arrived.acquire()
    bench.save(2, SaveReason.TIME)
    bench.save(3)  # In the place of 2.
    bench.store.gate.set()
    bench.saving.settle()
    with monkeypatch.context() as patch:
        patch.setattr(Gate, "persist", _no_space)
        bench.save(4)
        bench.save(5)
        bench.saving.settle()
    bench.save(6)
    bench.saving.settle()
    assert [(event.iteration, event.manifest["parent"]) for event in bench.channel.staged] == [
        (1, None),
        (3, 1),
        (6, 3),
    ]


def test_what_user_code_did_wrong_is_raised_at_its_next_report(bench: Bench) -> None:
    def write(folder: str) -> None:
        Path(folder, "model.bin").write_bytes(b"x" * 100_000)
        Path(folder, "link").symlink_to("model.bin")

    bench.store.gate.set()
    bench.save(1)
    bench.saving.save(write, Row(2, {}, 1.0), SaveReason.FREQUENCY)
    bench.saving.settle()
    with pytest.raises(SaveError, match="a symbolic link"):
        bench.saving.check()
    bench.saving.check()
    assert bench.kinds == ["CheckpointStaged 1"]
    assert bench.staged() == [f"{TRIAL}.1.1"]


def test_an_error_that_nobody_asked_for_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.saving._errors.append(SaveError("wrong"))
    bench.saving.close()
    assert "a save failed" in caplog.text


@pytest.mark.parametrize("error", [SaveError("mine"), ValueError("mine"), KeyboardInterrupt()])
def test_an_exception_of_user_code_passes_and_leaves_nothing(bench: Bench, error: BaseException) -> None:
    def write(folder: str) -> None:
        Path(folder, "half").write_text("x")
        raise error

    bench.save(1)
    with pytest.raises(type(error)):
        bench.saving.save(write, Row(2, {}, 1.0), SaveReason.FREQUENCY)
    bench.store.gate.set()
    bench.saving.settle()
    assert bench.kinds == ["CheckpointStaged 1"]
    assert bench.staged() == [f"{TRIAL}.1.1"]


def test_an_unpicklable_value_is_told_by_its_key_at_once(bench: Bench) -> None:
    """S003-7."""
    bench.store.gate.set()
    state = {"w": np.zeros(BIG), "inner": [{"lock": threading.Lock()}]}
    with pytest.raises(SaveError, match="inner/0/lock: it cannot be pickled"):
        bench.saving.save(lambda _: state, Row(1, {}, 1.0), SaveReason.FREQUENCY)
    assert bench.staged() == []


class Struck(BaseException):
    """Raised by a signal handler."""


@pytest.mark.timeout(300, method="thread")  # The other method needs the timer itself.
def test_an_interruption_while_it_waits_leaves_nothing(bench: Bench) -> None:
    """Whoever waits for a place can be struck by a signal; what was in flight is finished all the same."""

    def strike(*_: object) -> None:
        raise Struck

    before = signal.signal(signal.SIGALRM, strike)
    try:
        bench.save(1)
        bench.save(2)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Struck):
            bench.save(3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert bench.staged() == [f"{TRIAL}.1.1", f"{TRIAL}.2.1"]
    bench.store.gate.set()
    bench.saving.settle()
    assert bench.channel.saved == [1, 2]
    assert SLOTS.num_used == 0


@pytest.mark.timeout(300, method="thread")  # The other method needs the timer itself.
def test_interruptions_at_any_moment_leave_nothing(tmp_path: Path) -> None:
    """Struck by a signal here and there, with real threads: what is told is whole, and the rest is gone."""

    def strike(*_: object) -> None:
        raise Struck

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for number in range(40):
            _strike_once(tmp_path / str(number), number * 2e-4 + 1e-5)
    finally:
        signal.signal(signal.SIGALRM, before)


def _strike_once(folder: Path, after_s: float) -> None:
    folder.mkdir()
    bench = Bench(folder)
    bench.store.gate.set()
    assert bench.saving._persister._start()  # Python's own Thread.start() does not survive being struck.
    try:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        try:
            for iteration in range(1, 4):
                bench.save(iteration)
            bench.saving.settle()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)  # It may strike here as well.
    except Struck:
        pass
    finally:
        bench.saving.close()
    assert SLOTS.num_used == 0
    assert set(bench.channel.saved) <= set(range(1, 4))
    bench.check_content(*bench.channel.saved)


def test_close_drops_what_is_in_flight(bench: Bench) -> None:
    bench.save(1)
    assert bench.store.arrived.acquire(timeout=120)
    bench.save(2)
    closing = threading.Thread(target=bench.saving.close)
    closing.start()
    while f"{TRIAL}.2.1" in bench.staged():  # It goes after the one at work has been told to stop.
        assert closing.is_alive()
    bench.store.gate.set()
    closing.join(120)
    assert bench.kinds == []
    assert bench.staged() == []


def test_without_room_for_a_buffer_it_is_done_on_the_spot(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SLOTS, "take", lambda *_, **__: None)
    bench.store.gate.set()
    bench.save(1)
    assert bench.channel.saved == [1]
    assert bench.store.threads == [threading.main_thread()]
    bench.check_content(1)


def test_without_a_thread_it_is_done_on_the_spot(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    bench.store.gate.set()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        bench.save(1)
    assert bench.channel.saved == [1]
    bench.save(2)
    bench.saving.settle()
    bench.check_content(1, 2)


# -- failure checkpoints -----------------------------------------------------------------------------------------------


def test_a_failure_checkpoint_is_beside_the_others(bench: Bench) -> None:
    bench.store.gate.set()
    bench.save(3)
    bench.saving.save_failed(lambda _: {"w": np.ones(BIG)}, Row(3, {}, 1.0))
    assert [(event.iteration, event.exact) for event in bench.channel.staged] == [(3, True), (3, False)]
    manifest = bench.channel.staged[1].manifest
    assert (manifest["exact"], manifest["reason"], manifest["parent"]) == (False, "failure", 3)
    assert bench.saving.saved_at == 3


def _raise(error: BaseException) -> Callable[[str], None]:
    def write(folder: str) -> None:
        Path(folder, "half").write_text("x")
        raise error

    return write


@pytest.mark.parametrize("error", [ValueError("no"), OSError(errno.ENOSPC, "full"), SystemExit(1), OSError("no")])
def test_trouble_with_a_failure_checkpoint_is_logged_and_nothing_else(
    bench: Bench, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        bench.saving.save_failed(_raise(error), Row(3, {}, 1.0))
    assert "no checkpoint of its failure" in caplog.text
    assert bench.kinds == []
    assert bench.staged() == []
