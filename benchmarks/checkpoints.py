"""What a checkpoint costs, side by side with ``torch.save`` and Ray Tune, in one run on one machine.

The state is a dict of 64 float32 tensors. Everything but Ray Tune is measured in this process, in turns, so that a busy
minute of the machine is shared; medians are shown.

    python benchmarks/checkpoints.py [--quick] [--mb 256] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import tunekit as tk
from tunekit.core.events import CheckpointStaged, Event
from tunekit.runtime.saving.saving import content_of
from tunekit.store import CheckpointIO
from tunekit.store.local import LocalStore
from tunekit.testing.recording import RecordedTrial, RecordingChannel

ROOT = Path(__file__).resolve().parents[1]
NUM_TENSORS = 64
TRIAL = "trial_00000"


def make_state(mb: float) -> dict[str, torch.Tensor]:
    items = int(mb * 1e6 / 4 / NUM_TENSORS)
    generator = torch.Generator().manual_seed(1)
    return {f"layer_{index}": torch.randn(items, generator=generator) for index in range(NUM_TENSORS)}


def num_bytes(state: dict[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in state.values())


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def written_bytes() -> int:
    """Return how many bytes this process has had written to disks."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


class State:
    """What a user hands to ``report``."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors

    def save_checkpoint(self, path: str) -> dict[str, torch.Tensor]:
        return self.tensors

    def load_checkpoint(self, path: Any) -> None:
        """Nothing is restored here."""


class Folders(State):
    """The same, with a file of its own making."""

    def save_checkpoint(self, path: str) -> Any:
        torch.save(self.tensors, Path(path, "state.pt"))


class Driver(RecordingChannel):
    """Publishes what is staged, as the driver would, and notes when."""

    def __init__(self, publish: Callable[..., None]) -> None:
        super().__init__()
        self.published = threading.Semaphore(0)
        self.publish_s: list[float] = []
        self.done_at: list[float] = []
        self._publish = publish

    def send(self, event: Event) -> None:
        super().send(event)
        if isinstance(event, CheckpointStaged):
            place = (TRIAL, event.iteration, event.attempt)
            self.publish_s.append(seconds(lambda: self._publish(*place, event.manifest)))
            self.done_at.append(time.perf_counter())
            self.published.release()


class Trial(RecordedTrial):
    """Its checkpoints are published by its channel."""

    def saves(self, saver: State, repeats: int) -> dict[str, Any]:
        """Save so often, each time after the save before is published, and return what was measured."""
        publish, self.io.publish = self.io.publish, lambda *_, **__: None  # type: ignore[method-assign]
        driver = Driver(publish)
        began, blocked = [], []

        def train(config: dict[str, Any]) -> None:
            for _ in range(repeats):
                began.append(time.perf_counter())
                blocked.append(seconds(lambda: tk.report({"loss": 0.0}, checkpoint=saver)))
                driver.published.acquire()

        self.trainable = train
        before = written_bytes()
        self.run(driver)
        return {
            "blocked": blocked,
            "durable": [done - start for done, start in zip(driver.done_at, began, strict=True)],
            "publish": driver.publish_s,
            "written": (written_bytes() - before) / repeats / num_bytes(saver.tensors),
        }


def measure(mb: float, repeats: int, folder: Path) -> dict[str, Any]:
    state = make_state(mb)
    memory = torch.zeros(num_bytes(state) // 4)
    file = folder / "raw.pt"

    def copy() -> None:
        start = 0
        for tensor in state.values():
            memory[start : start + tensor.numel()].copy_(tensor)
            start += tensor.numel()

    def save_and_sync() -> None:
        torch.save(state, file)
        sync(file)

    found: dict[str, list[float]] = {"raw": [], "raw_sync": [], "copy": []}
    for _ in range(repeats):
        found["raw"].append(seconds(lambda: torch.save(state, file)))
        found["raw_sync"].append(seconds(save_and_sync))
        found["copy"].append(seconds(copy))
    found["copy"] = found["copy"][1:]
    found["load"] = [seconds(lambda: torch.load(file)) for _ in range(repeats)]
    file.unlink()
    ours = trial(folder / "ours", State(state), repeats)
    theirs = trial(folder / "folders", Folders(state), repeats)
    return {**found, "ours": ours, "folders": theirs, "restore": restore(folder / "ours", repeats)}


def trial(folder: Path, saver: State, repeats: int) -> dict[str, Any]:
    folder.mkdir()
    config = tk.CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=False)
    return Trial(folder, None, checkpoint=config, capture_output=False).saves(saver, repeats)


def restore(folder: Path, repeats: int) -> list[float]:
    io = CheckpointIO(LocalStore(folder))
    return [seconds(lambda: content_of(io.verify(TRIAL, 1))) for _ in range(repeats)]


def ray_blocked(mb: float, repeats: int) -> list[float] | None:
    """Return how long Ray Tune blocks a trial for each save; None: it is not there."""
    if find_spec("ray") is None or find_spec("tensorboardX") is None:
        return None
    command = [sys.executable, "-m", "benchmarks.peers.ray_checkpoints", str(mb), str(repeats)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("measured: ")]
    if not lines:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    times: list[float] = json.loads(lines[-1].removeprefix("measured: "))
    return times


def ms(values: list[float]) -> str:
    return f"{statistics.median(values) * 1000:.3g} ms"


def table(mb: float, found: dict[str, Any], small: dict[str, Any], ray: list[float] | None) -> list[str]:
    ours, folders = found["ours"], found["folders"]
    share = f"{statistics.median(ours['blocked'][1:]) / statistics.median(found['raw']):.2f} of the first line"
    size = mb / 1000
    rows = [
        ("`torch.save` alone, page cache", ms(found["raw"])),
        ("`torch.save` alone, and fsync", ms(found["raw_sync"])),
        ("copy of the state into memory used before", ms(found["copy"])),
        ("tunekit, a dict is returned: trial blocked, first save", ms(ours["blocked"][:1])),
        (
            "tunekit, a dict is returned: trial blocked, later saves",
            f"{ms(ours['blocked'][1:])} ({share})",
        ),
        ("tunekit, a dict is returned: until durable and visible", ms(ours["durable"][1:])),
        ("tunekit, a dict is returned: bytes to disk per byte of state", f"{ours['written']:.2f}"),
        ("tunekit, `torch.save` into the folder: trial blocked", ms(folders["blocked"][1:])),
        ("tunekit, `torch.save` into the folder: until durable and visible", ms(folders["durable"][1:])),
        ("tunekit, `torch.save` into the folder: bytes to disk per byte of state", f"{folders['written']:.2f}"),
        ("tunekit, publishing 1 MB", ms(small["ours"]["publish"])),
        (f"tunekit, publishing {mb:g} MB", ms(ours["publish"])),
        ("`torch.load` alone, nothing verified", f"{size / statistics.median(found['load']):.2f} GB/s"),
        ("tunekit, verified restore", f"{size / statistics.median(found['restore']):.2f} GB/s"),
        ("Ray Tune, trial blocked for a save", "not installed" if ray is None else ms(ray)),
    ]
    return [f"| {mb:g} MB of float32 in {NUM_TENSORS} tensors | |", "|---|---:|", *(f"| {a} | {b} |" for a, b in rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything, and no Ray")
    parser.add_argument("--mb", type=float, default=256.0, help="size of the state")
    parser.add_argument("--repeats", type=int, default=5, help="saves of each kind")
    options = parser.parse_args()
    mb, repeats = (32.0, 3) if options.quick else (options.mb, options.repeats)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="bench-checkpoints-", dir=os.environ.get("BENCH_DIR")))
    try:
        (folder / "small").mkdir()
        small = measure(1.0, repeats, folder / "small")
        found = measure(mb, repeats, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(table(mb, found, small, None if options.quick else ray_blocked(mb, repeats))))


if __name__ == "__main__":
    main()
