"""A Saving by itself, with a store that can be held back, and without an attempt around it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.runtime.saving.reasons import SaveReason
from tunekit.runtime.saving.saving import Row, Saving, content_of
from tunekit.runtime.saving.staging_slots import SLOTS
from tunekit.store import CheckpointIO
from tunekit.store.local import LocalStore
from tunekit.testing.recording import RecordingChannel

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
        assert self.gate.wait(200)
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


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    """Give a bench, and see at its end that nothing is left behind."""
    made = Bench(folder)
    yield made
    made.store.gate.set()
    made.saving.close()
    assert SLOTS.num_used == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tunekit-saving")]
