"""Attempts under a clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tunekit.runtime.attempt import attempt
from tunekit.runtime.attempt.trial_run import TrialRun
from tunekit.runtime.line.channel import Channel
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.runtime.saving.saving import Saving


@dataclass
class World:
    """The clock of the attempts, and the attempts themselves, the one that runs being the last."""

    now: float = 100.0
    runs: list[TrialRun] = field(default_factory=list)

    def make(self, sweep: SweepSpec, spec: AttemptSpec, channel: Channel, saving: Saving) -> TrialRun:
        """Begin an attempt."""
        saving.clock = lambda: self.now
        self.runs.append(TrialRun(sweep, spec, channel, saving, lambda: self.now))
        return self.runs[-1]

    def settle(self) -> None:
        """Have each save end before the next row, so that none by the clock gives way to a newer one."""
        self.runs[-1].saving.settle()


@contextmanager
def patched() -> Iterator[World]:
    """Have the attempts inside the block run by the clock of the world that it is given."""
    world = World()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "TrialRun", world.make)
        yield world


class Saver:
    """Saves next to nothing."""

    value = 0

    def save_checkpoint(self, path: str) -> None:
        Path(path, "value").write_text(str(self.value))

    def load_checkpoint(self, path: str) -> None:
        self.value = int(Path(path, "value").read_text())
