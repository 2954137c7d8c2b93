"""Saves are finished behind the trial: nothing is lost, nothing is changed, nothing stays behind."""

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
import torch

import tunekit as tk
from tunekit.core.events import SaveFailed, TrialRaised
from tunekit.errors import SaveError
from tunekit.runtime import saving as module
from tunekit.runtime.saving import Row, SaveReason, Saving, content_of
from tunekit.runtime.spec import AttemptSpec, SweepSpec
from tunekit.runtime.staging_slots import SLOTS
from tunekit.store import CheckpointIO
from tunekit.store.local import LocalStore
from tunekit.testing.faulty_store import Faults, FaultyOps
from tunekit.testing.recording import RecordedTrial, RecordingChannel

BIG = 20_000
"""Numbers of eight bytes: more than is finished on the spot."""
TRIAL = "trial_00000"


class Gate(LocalStore):
    """A store whose ``persist`` waits until the gate is open."""

    def __init__(self, root: Path, **options: Any) -> None:
        super().__init__(root, **options)
        self.gate = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def persist(self, staging: str, files: Any) -> None:
        self.threads.append(threading.current_thread())
        self.arrived.release()
        assert self.gate.wait(60)
        super().persist(staging, files)


class Bench:
    """A Saving with a store that can be held back."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.store = Gate(folder, **options)
        self.io = CheckpointIO(self.store, ops=options.get("ops"))
        self.channel = RecordingChannel()
        sweep = SweepSpec(experiment="e", path=str(folder), seed=1)
        spec = AttemptSpec(trial=0, attempt=1, trial_name=TRIAL, config={})
        self.saving = Saving(sweep, spec, self.channel, self.io)
        self.state: dict[str, Any] = {"w": np.zeros(BIG), "n": 0}

    def save(self, iteration: int, reason: SaveReason = SaveReason.FREQUENCY, **options: Any) -> None:
        """Save a state that tells its iteration, and change it at once."""
        self.state["w"][:] = iteration
        self.state["n"] = iteration
        self.saving.save(lambda _: self.state, Row(iteration, {"loss": 0.5}, 1.0), reason, **options)
        self.state["w"][:] = -1
        self.state["n"] = -1

    def in_thread(self, iteration: int, reason: SaveReason = SaveReason.FREQUENCY) -> threading.Thread:
        thread = threading.Thread(target=self.save, args=[iteration, reason])
        thread.start()
        return thread

    @property
    def kinds(self) -> list[str]:
        return self.channel.kinds

    def staged(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob(".staging/*"))

    def content(self, iteration: int) -> Any:
        event = next(event for event in self.channel.staged if event.iteration == iteration)
        self.io.publish(TRIAL, iteration, 1, event.manifest)
        return content_of(self.io.verify(TRIAL, iteration))

    def check_content(self, *iterations: int) -> None:
        for iteration in iterations:
            content = self.content(iteration)
            assert content["n"] == iteration
            assert (content["w"] == iteration).all()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.gate.set()
    made.saving.close()
    assert SLOTS.num_used == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tunekit-saving")]


def test_the_trial_goes_on_while_its_save_is_finished(bench: Bench) -> None:
    bench.save(1)
    assert bench.store.arrived.acquire(timeout=60)
    assert bench.kinds == []
    assert bench.saving.saved_at == 1
    bench.save(2)
    bench.store.gate.set()
    bench.saving.settle()
    assert bench.kinds == ["CheckpointStaged 1", "CheckpointStaged 2"]
    assert threading.main_thread() not in bench.store.threads
    bench.check_content(1, 2)


def test_a_third_save_waits_for_a_place(bench: Bench) -> None:
    """One is being finished and one waits, at most: demanded saves are never dropped."""
    bench.save(1)
    bench.save(2, SaveReason.DEMAND)
    third = bench.in_thread(3)
    third.join(0.1)
    assert third.is_alive()
    assert bench.staged() == [f"{TRIAL}.{iteration}.1" for iteration in (1, 2, 3)]
    bench.store.gate.set()
    third.join(60)
    bench.saving.settle()
    assert bench.channel.saved == [1, 2, 3]
    bench.check_content(1, 2, 3)


@pytest.mark.parametrize("newer", [SaveReason.TIME, SaveReason.DEMAND, SaveReason.AT_END])
def test_a_save_by_time_that_waits_gives_way_to_a_newer_one(bench: Bench, newer: SaveReason) -> None:
    bench.save(1, SaveReason.TIME)
    assert bench.store.arrived.acquire(timeout=60)
    bench.save(2, SaveReason.TIME)
    third = bench.in_thread(3, newer)
    if newer is not SaveReason.AT_END:
        third.join(60)
    while f"{TRIAL}.2.1" in bench.staged():
        assert third.is_alive()
    bench.store.gate.set()
    third.join(60)
    bench.saving.settle()
    assert bench.channel.saved == [1, 3]
    bench.check_content(1, 3)


@pytest.mark.parametrize("second", [SaveReason.DEMAND, SaveReason.FREQUENCY, SaveReason.USER])
def test_only_saves_by_time_give_way(bench: Bench, second: SaveReason) -> None:
    bench.save(1, SaveReason.TIME)
    assert bench.store.arrived.acquire(timeout=60)
    bench.save(2, second)
    third = bench.in_thread(3, SaveReason.TIME)
    third.join(0.05)
    assert third.is_alive()
    bench.store.gate.set()
    third.join(60)
    bench.saving.settle()
    assert bench.channel.saved == [1, 2, 3]


def test_a_pinned_save_never_gives_way(bench: Bench) -> None:
    bench.save(1, SaveReason.TIME)
    assert bench.store.arrived.acquire(timeout=60)
    bench.save(2, SaveReason.TIME, pin=True)
    third = bench.in_thread(3, SaveReason.TIME)
    bench.store.gate.set()
    third.join(60)
    bench.saving.settle()
    assert [(event.iteration, event.pinned) for event in bench.channel.staged] == [(1, False), (2, True), (3, False)]


@pytest.mark.parametrize("reason", [SaveReason.AT_END, SaveReason.PAUSE, SaveReason.PREEMPTION])
def test_the_last_save_is_done_on_the_spot_after_the_others(bench: Bench, reason: SaveReason) -> None:
    bench.save(1)
    bench.store.gate.set()
    bench.save(2, reason)
    assert bench.channel.saved == [1, 2]
    assert bench.store.threads[-1] is threading.main_thread()
    bench.check_content(1, 2)


def test_a_small_save_is_done_on_the_spot(bench: Bench) -> None:
    bench.store.gate.set()
    bench.state["w"] = np.zeros(3)
    bench.save(1)
    assert bench.channel.saved == [1]
    assert bench.store.threads == [threading.main_thread()]


def test_a_small_save_is_not_waited_for_where_storage_is_slow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FAST_S", 0.0)
    bench.store.gate.set()
    bench.state["w"] = np.zeros(3)
    bench.save(1)
    bench.store.gate.clear()
    bench.save(2)
    bench.store.gate.set()
    bench.saving.settle()
    assert bench.channel.saved == [1, 2]
    assert (bench.store.threads[0] is threading.main_thread(), bench.store.threads[1].daemon) == (True, True)


def test_a_folder_that_user_code_writes_is_sealed_behind(bench: Bench, tmp_path: Path) -> None:
    def write(folder: str) -> None:
        Path(folder, "model.bin").write_bytes(b"x" * 100_000)

    bench.saving.save(write, Row(1, {}, 1.0), SaveReason.FREQUENCY)
    folder = bench.saving.hand_out(2)
    (folder / "model.bin").write_bytes(b"y" * 100_000)
    bench.saving.adopt(tk.Checkpoint.from_directory(folder), Row(2, {}, 1.0))
    assert bench.kinds == []
    bench.store.gate.set()
    bench.saving.settle()
    assert bench.channel.saved == [1, 2]
    assert Path(bench.content(2), "model.bin").read_bytes() == b"y" * 100_000


def test_a_reported_folder_may_be_changed_after_the_report(bench: Bench, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model.bin").write_bytes(b"x" * 100_000)
    bench.saving.adopt(tk.Checkpoint.from_directory(mine), Row(1, {}, 1.0))
    (mine / "model.bin").write_bytes(b"changed")
    bench.store.gate.set()
    bench.saving.settle()
    assert Path(bench.content(1), "model.bin").read_bytes() == b"x" * 100_000


# -- what can go wrong -------------------------------------------------------------------------------------------------


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
    try:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        for iteration in range(1, 4):
            bench.save(iteration)
        bench.saving.settle()
    except Struck:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        bench.saving.close()
    assert SLOTS.num_used == 0
    assert set(bench.channel.saved) <= set(range(1, 4))
    bench.check_content(*bench.channel.saved)


def test_close_drops_what_is_in_flight(bench: Bench) -> None:
    bench.save(1)
    assert bench.store.arrived.acquire(timeout=60)
    bench.save(2)
    closing = threading.Thread(target=bench.saving.close)
    closing.start()
    while f"{TRIAL}.2.1" in bench.staged():
        assert closing.is_alive()
    bench.store.gate.set()
    closing.join(60)
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


# -- whole trials ------------------------------------------------------------------------------------------------------


class Learner(tk.Trainable):
    """Trains in place, as optimizers do, and returns live objects."""

    def setup(self, config: dict[str, Any]) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Linear(200, 100)
        self.marks = torch.zeros(30_000, dtype=torch.bfloat16)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.history: list[float] = []

    def step(self) -> dict[str, Any]:
        loss = self.model(torch.ones(3, 200)).square().sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.marks += 1
        self.history.append(loss.item())
        return {"loss": loss.item()}

    def save_checkpoint(self, path: str) -> Any:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "marks": self.marks,
            "history": self.history,
            7: (self.iteration, self.model.weight[::2], np.float32(0.1), 2**80, float("nan")),
        }

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.history, self.marks = checkpoint["history"], checkpoint["marks"]
        assert checkpoint[7][0] == len(self.history) == int(self.marks[-1])
        assert torch.equal(checkpoint[7][1], self.model.weight[::2])
        assert (type(checkpoint[7][2]), checkpoint[7][3]) == (np.float32, 2**80)


def test_every_checkpoint_of_a_trial_goes_on_exactly(tmp_path: Path) -> None:
    """Each was copied while the state stood still, and written while it changed."""
    config = tk.CheckpointConfig(checkpoint_frequency=1)
    made = RecordedTrial(tmp_path, Learner, stop={"training_iteration": 8}, checkpoint=config)
    straight = made.run()
    assert straight.saved == list(range(1, 9))
    losses = [row.metrics["loss"] for row in straight.rows]
    for iteration in range(1, 8):
        again = made.run(resume_from=iteration)
        assert [row.metrics["loss"] for row in again.rows] == losses[iteration:]


def test_a_folder_that_cannot_be_a_checkpoint_ends_the_trial_at_its_next_report(tmp_path: Path) -> None:
    class Linking(tk.Trainable):
        def step(self) -> dict[str, Any]:
            return {}

        def save_checkpoint(self, path: str) -> None:
            Path(path, "model.bin").write_bytes(b"x" * 100_000)
            Path(path, "link").symlink_to("model.bin")

        def load_checkpoint(self, path: Any) -> None:
            """Nothing is restored here."""

    config = tk.CheckpointConfig(checkpoint_frequency=2, checkpoint_at_end=False)
    channel = RecordedTrial(tmp_path, Linking, stop={"training_iteration": 50}, checkpoint=config).run()
    last = channel.events[-1]
    assert isinstance(last, TrialRaised)
    assert "a symbolic link" in last.error.message
    assert not last.retryable
    assert list(tmp_path.glob(".staging/*")) == []


def test_the_manifest_tells_where_it_comes_from(tmp_path: Path) -> None:
    config = tk.CheckpointConfig(checkpoint_frequency=2)
    channel = RecordedTrial(tmp_path, Learner, stop={"training_iteration": 4}, checkpoint=config).run()
    manifests = [event.manifest for event in channel.staged]
    assert [manifest["parent"] for manifest in manifests] == [None, 2]
    assert manifests[0]["environment"]["torch"] == torch.__version__
