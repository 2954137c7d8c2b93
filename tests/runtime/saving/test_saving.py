"""Saves are finished behind the trial: nothing is lost, and nothing is changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from saving_bench import BIG, TRIAL, Bench, Gate, bench_in

import tunekit as tk
from tunekit.core.events import TrialRaised
from tunekit.runtime.saving import saving as module
from tunekit.runtime.saving.reasons import SaveReason
from tunekit.runtime.saving.saving import Row
from tunekit.runtime.saving.staging_slots import SLOTS
from tunekit.store import CheckpointIO
from tunekit.testing.recording import RecordedTrial


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as made:
        yield made


def test_the_trial_goes_on_while_its_save_is_finished(bench: Bench) -> None:
    bench.save(1)
    assert bench.store.arrived.acquire(timeout=120)
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
    while bench.staged() != [f"{TRIAL}.{iteration}.1" for iteration in (1, 2, 3)]:
        assert third.is_alive()
    third.join(0.1)
    assert third.is_alive()
    bench.store.gate.set()
    third.join(120)
    bench.saving.settle()
    assert bench.channel.saved == [1, 2, 3]
    bench.check_content(1, 2, 3)


@pytest.mark.parametrize("newer", [SaveReason.TIME, SaveReason.DEMAND, SaveReason.AT_END])
def test_a_save_by_time_that_waits_gives_way_to_a_newer_one(bench: Bench, newer: SaveReason) -> None:
    bench.save(1, SaveReason.TIME)
    assert bench.store.arrived.acquire(timeout=120)
    bench.save(2, SaveReason.TIME)
    third = bench.in_thread(3, newer)
    if newer is not SaveReason.AT_END:
        third.join(120)
    while f"{TRIAL}.2.1" in bench.staged():
        assert third.is_alive()
    bench.store.gate.set()
    third.join(120)
    bench.saving.settle()
    assert bench.channel.saved == [1, 3]
    bench.check_content(1, 3)


@pytest.mark.parametrize("second", [SaveReason.DEMAND, SaveReason.FREQUENCY, SaveReason.USER])
def test_only_saves_by_time_give_way(bench: Bench, second: SaveReason) -> None:
    bench.save(1, SaveReason.TIME)
    assert bench.store.arrived.acquire(timeout=120)
    bench.save(2, second)
    third = bench.in_thread(3, SaveReason.TIME)
    third.join(0.05)
    assert third.is_alive()
    bench.store.gate.set()
    third.join(120)
    bench.saving.settle()
    assert bench.channel.saved == [1, 2, 3]


def test_a_pinned_save_never_gives_way(bench: Bench) -> None:
    bench.save(1, SaveReason.TIME)
    assert bench.store.arrived.acquire(timeout=120)
    bench.save(2, SaveReason.TIME, pin=True)
    third = bench.in_thread(3, SaveReason.TIME)
    bench.store.gate.set()
    third.join(120)
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


def test_what_a_class_returned_can_be_looked_at_without_pickle(tmp_path: Path) -> None:
    config = tk.CheckpointConfig(checkpoint_frequency=2)
    RecordedTrial(tmp_path, Learner, stop={"training_iteration": 2}, checkpoint=config).run()
    content = tk.Checkpoint(tmp_path / TRIAL / "checkpoint_000002").to_dict()
    assert (len(content["history"]), content[7][0]) == (2, 2)


def test_all_saves_are_told_before_the_error_that_ends_a_trial(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        saver = Numbers()
        for _ in range(3):
            tk.report({"loss": 0.0}, checkpoint=saver)
        raise ValueError("mine")

    config = tk.CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=False)
    channel = RecordedTrial(tmp_path, train, checkpoint=config).run()
    assert channel.saved == [1, 2, 3]
    assert channel.kinds[-1] == "TrialRaised"


class Numbers:
    def save_checkpoint(self, path: str) -> Any:
        return {"w": np.zeros(BIG)}

    def load_checkpoint(self, path: Any) -> None:
        """Nothing is restored here."""


def test_ctrl_c_in_user_code_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Gate(tmp_path)

    def train(config: dict[str, Any]) -> None:
        for _ in range(2):
            tk.report({"loss": 0.0}, checkpoint=Numbers())
        store.arrived.acquire()
        threading.Timer(0.05, store.gate.set).start()
        raise KeyboardInterrupt

    made = RecordedTrial(tmp_path, train, checkpoint=tk.CheckpointConfig(checkpoint_frequency=1))
    made.io = CheckpointIO(store)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert list(tmp_path.glob(".staging/*")) == []
    assert SLOTS.num_used == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tunekit-saving")]


def test_the_manifest_tells_where_it_comes_from(tmp_path: Path) -> None:
    config = tk.CheckpointConfig(checkpoint_frequency=2)
    channel = RecordedTrial(tmp_path, Learner, stop={"training_iteration": 4}, checkpoint=config).run()
    manifests = [event.manifest for event in channel.staged]
    assert [manifest["parent"] for manifest in manifests] == [None, 2]
    assert manifests[0]["environment"]["torch"] == torch.__version__
