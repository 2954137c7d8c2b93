"""A disk that is full at any moment of a save: that save is lost, all else goes on, and nothing is left over."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.store import CheckpointIO, layout
from tunekit.store.ops import Ops
from tunekit.store.verify import verify_folder
from tunekit.types import TrialStatus

LAST = 4
TOTAL = sum(range(1, LAST + 1))


class Disk:
    """Counts what asks for room among the checkpoints, and has none at a given moment.

    Args:
        full_at: The operation, counted from 1, for which there is no room.
        for_good: Whether there is none from then on.
    """

    def __init__(self, full_at: int = 0, *, for_good: bool = False) -> None:
        self.full_at = full_at
        self.for_good = for_good
        self.log: list[str] = []

    def take(self, what: str, path: Path) -> None:
        inside = {layout.STAGING, layout.TRASH} & set(path.parts) or any("_0000" in part for part in path.parts)
        if not inside or ".probe" in str(path):
            return
        self.log.append(f"{what} {path.name}")
        count = len(self.log)
        if self.full_at and (count == self.full_at or (self.for_good and count > self.full_at)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def ops_on(disk: Disk) -> type[Ops]:
    class OnDisk(Ops):
        def mkdir(self, path: Path, mode: int = 0o777) -> None:
            disk.take("mkdir", path)
            super().mkdir(path, mode)

        def write(self, path: Path, data: bytes) -> None:
            disk.take("write", path)
            super().write(path, data)

        def copy(self, source: Path, target: Path) -> None:
            disk.take("copy", target)
            super().copy(source, target)

        def fsync(self, path: Path) -> None:
            disk.take("fsync", path)

        def rename(self, source: Path, target: Path) -> None:
            disk.take("rename", target)
            super().rename(source, target)

    return OnDisk


class Files(tk.Trainable):
    """Writes files into the folder that it is given."""

    def setup(self, config: dict[str, Any]) -> None:
        self.total = self.steps = 0

    def step(self) -> dict[str, Any]:
        self.steps += 1
        self.total += self.steps
        return {"total": self.total}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        Path(checkpoint_dir, "deep").mkdir()
        Path(checkpoint_dir, "deep", "state").write_text(f"{self.steps} {self.total}")
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.steps, self.total = map(int, Path(checkpoint, "deep", "state").read_text().split())


class Dicts(Files):
    """Returns its state."""

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"steps": self.steps, "total": self.total}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.steps, self.total = checkpoint["steps"], checkpoint["total"]


class Torn(Files):
    """Meets the full disk itself, in the middle of writing."""

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        super().save_checkpoint(checkpoint_dir)
        if self.steps == LAST // 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), checkpoint_dir)


def folders(config: dict[str, Any]) -> None:
    """Report folders that are the user's own."""
    total = 0
    for step in range(1, LAST + 1):
        total += step
        folder = Path(config["mine"], str(step))
        (folder / "deep").mkdir(parents=True, exist_ok=True)
        (folder / "deep" / "state").write_text(f"{step} {total}")
        tk.report({"total": total}, checkpoint=tk.Checkpoint.from_directory(folder))


def run(root: Path, trainable: Any) -> tk.Result:
    is_class = isinstance(trainable, type)
    tuner = tk.Tuner(
        trainable,
        param_space={"mine": str(root / "mine")},
        run_config=tk.RunConfig(
            name="sweep",
            storage_path=str(root),
            stop={"training_iteration": LAST},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=1 if is_class else 0),
            verbose=0,
        ),
    )
    return tk.inline(tuner)[0]


def check(root: Path, result: tk.Result) -> list[int]:
    """Return which checkpoints there are, after finding them whole and nothing beside them."""
    assert (result.status, result.metrics["total"], result.error) == (TrialStatus.COMPLETED, TOTAL, None)
    sweep = root / "sweep"
    assert [path.name for path in (sweep / layout.STAGING).rglob("*") if path.is_file()] == []
    assert [path.name for path in (sweep / layout.QUARANTINE).rglob("*")] == []
    shown = sorted(sweep.glob("*/checkpoint_*"))
    for path in shown:
        assert verify_folder(path).iteration == layout.parse_checkpoint_name(path.name)
    return [layout.parse_checkpoint_name(path.name) or 0 for path in shown]


def use(disk: Disk, patch: pytest.MonkeyPatch) -> None:
    for place in ("tunekit.store.local.Ops", "tunekit.store.checkpoint_io.Ops"):
        patch.setattr(place, ops_on(disk))


@pytest.fixture(autouse=True)
def nobody_sweeps_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a save leaves behind would otherwise be gone at the end of the sweep."""
    monkeypatch.setattr(CheckpointIO, "sweep", lambda self, live=(), attempts=None: [])


@pytest.mark.parametrize("trainable", [Files, Dicts, folders], ids=lambda value: value.__name__)
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_a_full_disk_costs_saves_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trainable: Callable[..., Any],
    for_good: bool,  # noqa: FBT001
) -> None:
    """S003-12, S003-19: at each operation of each save; the checkpoints before it stay as they are."""
    counted = Disk()
    use(counted, monkeypatch)
    assert check(tmp_path / "0", run(tmp_path / "0", trainable)) == list(range(1, LAST + 1))
    assert len(counted.log) > 5 * LAST
    for number in range(1, len(counted.log) + 1):
        disk = Disk(number, for_good=for_good)
        use(disk, monkeypatch)
        root = tmp_path / str(number)
        found = check(root, run(root, trainable))
        before = [name for name in disk.log[: number - 1] if name.startswith("rename checkpoint_")]
        assert len(found) >= (LAST - 1 if not for_good else len(before)), disk.log[number - 1]


def test_user_code_that_meets_a_full_disk_loses_that_save_alone(tmp_path: Path) -> None:
    assert check(tmp_path, run(tmp_path, Torn)) == [step for step in range(1, LAST + 1) if step != LAST // 2]
