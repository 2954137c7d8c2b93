"""Damage in the middle of a sweep: the trial goes on from the checkpoint before, and one warning names the file.

Each sweep is a class trainable that saves at 2, 4 and 6, damages its newest checkpoint at iteration 7 and dies of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.store import layout
from tunekit.store import manifest as manifests
from tunekit.store.verify import verify_folder
from tunekit.types import TrialStatus

TRIAL = "Summing_00000"
Damage = Callable[[Path], None]
"""Gets the folder of a checkpoint."""


class Summing(tk.Trainable):
    """Its state is in two files, so that each of them matters."""

    def setup(self, config: dict[str, Any]) -> None:
        self.damage = config.get("damage")
        self.total, self.steps = 0, 0

    def step(self) -> dict[str, Any]:
        self.steps += 1
        self.total += self.steps * self.steps
        if self.damage and self.steps == 7:
            self.damage()
            raise RuntimeError("died on purpose")
        return {"total": self.total}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "deep").mkdir()
        Path(checkpoint_dir, "deep", "total").write_text(f"{self.total:04d}")
        Path(checkpoint_dir, "steps").write_text(f"{self.steps:04d}")

    def load_checkpoint(self, checkpoint: str) -> None:
        self.total = int(Path(checkpoint, "deep", "total").read_text())
        self.steps = int(Path(checkpoint, "steps").read_text())


class Sweep:
    """One trial, in which something happens to its checkpoints once."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "sweep"
        self.trial = self.folder / TRIAL
        self.restored: list[int] = []

    def at(self, iteration: int) -> Path:
        return self.trial / layout.checkpoint_name(iteration)

    def run(self, *damages: Callable[[], None], max_failures: int = 5) -> tk.Result:
        """Run it to the end; each damage is done in the attempt after the one before."""
        left = iter(damages)

        class Damaged(Summing):
            def setup(self, config: dict[str, Any]) -> None:
                super().setup(config)
                self.damage = next(left, None)

        Damaged.__name__ = Summing.__name__
        tuner = tk.Tuner(
            Damaged,
            run_config=tk.RunConfig(
                name="sweep",
                storage_path=str(self.folder.parent),
                stop={"training_iteration": 9},
                checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2),
                failure_config=tk.FailureConfig(max_failures=max_failures),
                verbose=0,
            ),
        )
        return tk.inline(tuner)[0]

    def aside(self) -> list[str]:
        folder = self.folder / layout.QUARANTINE
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


TOTAL = sum(step * step for step in range(1, 10))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def flip(name: str, bit: int = 0) -> Damage:
    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(data)

    return damage


def cut(name: str) -> Damage:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - 1)


def delete(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def link(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).rename(folder.parents[1] / "elsewhere")
        (folder / name).symlink_to(folder.parents[1] / "elsewhere")

    return damage


def swap(folder: Path) -> None:
    """Two files of the same size in each other's place."""
    first, second = folder / "deep" / "total", folder / "steps"
    (content, other) = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(content)


def extra(folder: Path) -> None:
    (folder / "deep" / "extra").write_bytes(b"x")


def foreign(folder: Path) -> None:
    """A whole checkpoint, but another one."""
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name(layout.checkpoint_name(2)), folder)


def resealed(**fields: Any) -> Damage:
    """Change the manifest, and make its digest fit."""

    def damage(folder: Path) -> None:
        document = {**manifests.parse((folder / layout.MANIFEST).read_bytes(), ""), **fields}
        document["digest"] = manifests.digest(document)
        (folder / layout.MANIFEST).write_bytes(manifests.encode(document))

    return damage


CASES: dict[str, tuple[str, Damage]] = {
    **{f"flip {name}": (name, flip(name, 3)) for name in ("steps", "deep/total", layout.MANIFEST)},
    **{f"cut {name}": (name, cut(name)) for name in ("steps", "deep/total", layout.MANIFEST)},
    **{f"delete {name}": (name, delete(name)) for name in ("steps", "deep/total", layout.MANIFEST)},
    **{f"link {name}": (name, link(name)) for name in ("steps", "deep/total", layout.MANIFEST)},
    "swap": ("deep/total", swap),
    "extra": ("deep/extra", extra),
    "foreign": (layout.MANIFEST, foreign),
    "of another trial": (layout.MANIFEST, resealed(trial_name="other_00001")),
    "newer": (layout.MANIFEST, resealed(format=2)),
    "files outside": (layout.MANIFEST, resealed(files=[{"name": "../x", "size": 1, "xxh3_128": "0" * 32}])),
}


@pytest.mark.parametrize("case", CASES)
def test_any_damage_ends_in_the_checkpoint_before_and_one_warning(
    sweep: Sweep, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S003-12: quarantined, never restored, never lost; the result is that of an undamaged run."""
    name, damage = CASES[case]
    result = sweep.run(lambda: damage(sweep.at(6)))
    assert (result.status, result.metrics["total"], result.error) == (TrialStatus.COMPLETED, TOTAL, None)
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert warning.startswith(f"{TRIAL} could not go on from iteration 6: ")
    assert str(sweep.at(6)) in warning
    assert name in warning or case == "newer"
    assert warning.endswith("it is put aside, and the trial goes on from iteration 4")
    assert len(sweep.aside()) == 1
    for iteration in (2, 4, 6, 8):
        assert verify_folder(sweep.at(iteration)).iteration == iteration
