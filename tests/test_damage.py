"""Damage in the middle of a sweep: the trial goes on from the checkpoint before, and one warning names the file.

Each sweep is a class trainable that saves at 2, 4 and 6, and dies at iteration 7.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import tunekit as tk
from tunekit.checkpoint import Checkpoint
from tunekit.errors import CheckpointCorruptError, CheckpointError, TrialError
from tunekit.store import CheckpointIO, LocalStore, layout
from tunekit.store import manifest as manifests
from tunekit.store.verify import verify_folder
from tunekit.types import LossCause, TrialStatus

TRIAL = "Summing_00000"
Damage = Callable[[Path], None]
"""Gets the folder of a checkpoint."""


class Summing(tk.Trainable):
    """Its state is in two files, so that each of them matters."""

    def setup(self, config: dict[str, Any]) -> None:
        self.total, self.steps = 0, 0

    def step(self) -> dict[str, Any]:
        self.steps += 1
        self.total += self.steps * self.steps
        return {"total": self.total}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "deep").mkdir()
        Path(checkpoint_dir, "deep", "total").write_text(f"{self.total:04d}")
        Path(checkpoint_dir, "steps").write_text(f"{self.steps:04d}")

    def load_checkpoint(self, checkpoint: str) -> None:
        self.total = int(Path(checkpoint, "deep", "total").read_text())
        self.steps = int(Path(checkpoint, "steps").read_text())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was warned of, but for the code: what dies in the first run is another class."""
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return [text for text in messages if not text.startswith("the code of")]


class Sweep:
    """One trial, in which something happens to its checkpoints once."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "sweep"
        self.trial = self.folder / TRIAL

    def at(self, iteration: int) -> Path:
        return self.trial / layout.checkpoint_name(iteration)

    def run(self, damage: Callable[[], None] | None = None, *, max_failures: int = 5) -> tk.Result:
        """Run it to the end; the damage is done when the trial has died and is about to be restored."""
        deaths = [damage] if damage else []
        left = list(deaths)

        class Dying(Summing):
            def step(self) -> dict[str, Any]:
                if self.steps == 6 and deaths:
                    deaths.clear()
                    raise RuntimeError("died on purpose")
                return super().step()

        def verify(io: CheckpointIO, trial_name: str, iteration: int) -> Path:
            if left:
                left.pop()()
            return original(io, trial_name, iteration)

        Dying.__name__ = Dying.__qualname__ = Summing.__name__
        tuner = tk.Tuner(
            Dying,
            run_config=tk.RunConfig(
                name="sweep",
                storage_path=str(self.folder.parent),
                stop={"training_iteration": 9},
                checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2),
                failure_config=tk.FailureConfig(max_failures=max_failures),
                verbose=0,
            ),
        )
        original = CheckpointIO.verify
        with mock.patch.object(CheckpointIO, "verify", verify):
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
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{TRIAL} could not go on from iteration 6: ")
    assert str(sweep.at(6)) in warning
    assert name in warning or case == "newer"
    assert warning.endswith("it is put aside, and the trial goes on from iteration 4")
    assert len(sweep.aside()) == 1
    for iteration in (2, 4, 6, 8):
        assert verify_folder(sweep.at(iteration)).iteration == iteration


def test_several_damaged_ones_are_gone_through_one_by_one(sweep: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    def damage() -> None:
        flip("steps")(sweep.at(6))
        cut(layout.MANIFEST)(sweep.at(4))

    result = sweep.run(damage)
    assert (result.status, result.metrics["total"]) == (TrialStatus.COMPLETED, TOTAL)
    messages = warnings(caplog)
    assert [text.rpartition(" ")[2] for text in messages] == ["4", "2"]
    assert len(sweep.aside()) == 2


@pytest.fixture
def ruined(sweep: Sweep) -> Sweep:
    """A sweep whose trial has died and has not one checkpoint that is whole."""

    def damage() -> None:
        for iteration in (2, 4, 6):
            shutil.copytree(sweep.at(iteration), sweep.folder.parent / "good" / str(iteration))
            flip("deep/total")(sweep.at(iteration))

    sweep.run(damage)
    return sweep


def test_a_trial_without_any_usable_one_fails_and_says_what_to_do(
    ruined: Sweep, caplog: pytest.LogCaptureFixture
) -> None:
    """S003-12: starting over would cost all that it has done, so that is for the user to decide."""
    (result,) = tk.inline(tk.Tuner.restore(str(ruined.folder), Summing))
    assert isinstance(result.error, TrialError)
    assert result.error.fields["cause"] is LossCause.RESTORE_FAILED
    assert "CheckpointCorruptError" in str(result.error)
    assert f"{ruined.at(2)} is damaged: deep/total" in str(result.error)
    assert "has no other checkpoint" in str(result.error)
    assert not caplog.records, "it was said when it happened, and nothing has happened since"
    assert "resume_errored=True" in str(result.error)
    assert len(ruined.aside()) == 2


def test_each_damaged_one_on_the_way_down_is_one_warning(sweep: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    def damage() -> None:
        for iteration in (2, 4, 6):
            flip("deep/total")(sweep.at(iteration))

    assert sweep.run(damage, max_failures=-1).status is TrialStatus.FAILED
    messages = warnings(caplog)
    assert [re.findall(r"checkpoint_\d+", text)[0] for text in messages] == [
        "checkpoint_000006",
        "checkpoint_000004",
        "checkpoint_000002",
    ]
    assert messages[-1].endswith("has no other checkpoint to go on from; so it failed")


def test_a_good_copy_put_back_is_gone_on_from(ruined: Sweep) -> None:
    """The first remedy."""
    shutil.rmtree(ruined.at(2))
    shutil.copytree(ruined.folder.parent / "good" / "2", ruined.at(2))
    (result,) = tk.inline(tk.Tuner.restore(str(ruined.folder), Summing, resume_errored=True))
    assert (result.status, result.metrics["total"]) == (TrialStatus.COMPLETED, TOTAL)


def test_starting_over_is_there_for_the_asking(ruined: Sweep) -> None:
    """The second remedy."""
    (result,) = tk.inline(tk.Tuner.restore(str(ruined.folder), Summing, restart_errored=True))
    assert (result.status, result.metrics["total"]) == (TrialStatus.COMPLETED, TOTAL)


def test_whoever_opens_a_damaged_one_gets_the_path_and_the_remedy(sweep: Sweep) -> None:
    result = sweep.run()
    assert result.checkpoint is not None
    flip("steps")(Path(result.checkpoint.path))
    for use in (result.checkpoint.as_directory, result.checkpoint.to_directory, result.checkpoint.verify):
        with pytest.raises(CheckpointCorruptError) as caught, as_context(use()):
            pass
        assert caught.value.fields["file"] == "steps"
        assert result.checkpoint.path in caught.value.message
        assert "use another checkpoint of the trial" in caught.value.hint


def as_context(value: Any) -> AbstractContextManager[Any]:
    return value if hasattr(value, "__enter__") else nullcontext(value)


@pytest.mark.parametrize("case", CASES)
def test_a_restarted_driver_meets_damage_as_a_running_one_does(
    sweep: Sweep, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S003-12: what happens while nothing runs ends in the checkpoint before and in one warning, too."""
    assert sweep.run(lambda: None, max_failures=0).status is TrialStatus.FAILED
    CASES[case][1](sweep.at(6))
    caplog.clear()
    (result,) = tk.inline(tk.Tuner.restore(str(sweep.folder), Summing, resume_errored=True))
    assert (result.status, result.metrics["total"]) == (TrialStatus.COMPLETED, TOTAL)
    (warning,) = warnings(caplog)
    assert "checkpoint_000006" in warning
    assert len(sweep.aside()) == 1


# -- each bit and each byte of a small checkpoint ----------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The folder of a checkpoint with two files."""
    io = CheckpointIO(LocalStore(tmp_path / "e"))
    folder = io.begin("train_00007", 5, 1)
    (folder / "model").write_bytes(b"weights" * 8)
    (folder / "opt").write_bytes(b"moments")
    metadata = {"metrics": {"loss": float("nan"), "ü": 1}, "environment": {"device": "cpu"}, "parent": 4}
    io.publish("train_00007", 5, 1, io.seal("train_00007", 5, 1, metadata=metadata))
    return tmp_path / "e" / "train_00007" / "checkpoint_000005"


def problem_of(use: Callable[[], object]) -> CheckpointError | None:
    try:
        use()
    except CheckpointError as error:
        return error
    return None


@pytest.mark.parametrize("name", [layout.MANIFEST, "model", "opt"])
def test_no_flipped_bit_is_accepted(small: Path, name: str) -> None:
    """S003-12: every single bit of a checkpoint. ``NaN`` for ``nan`` is the same number, spelt in another way."""
    io, good = CheckpointIO(LocalStore(small.parents[1])), manifests.parse((small / layout.MANIFEST).read_bytes(), "")
    data = (small / name).read_bytes()
    for bit in range(8 * len(data)):
        flip(name, bit)(small)
        problem = problem_of(lambda: io.verify("train_00007", 5))
        if problem:
            assert str(small) in problem.message
            assert problem.hint
            assert bit % 8 or problem_of(Checkpoint(small).verify)
        else:
            found = manifests.parse((small / layout.MANIFEST).read_bytes(), "")
            assert (name, repr(found)) == (layout.MANIFEST, repr(good)), f"bit {bit}"
        (small / name).write_bytes(data)
    io.verify("train_00007", 5)


@pytest.mark.parametrize("name", [layout.MANIFEST, "model", "opt"])
def test_no_cut_is_accepted(small: Path, name: str) -> None:
    data = (small / name).read_bytes()
    for length in range(len(data)):
        (small / name).write_bytes(data[:length])
        with pytest.raises(CheckpointCorruptError) as caught:
            Checkpoint(small).verify()
        assert caught.value.fields["file"] == name
    (small / name).write_bytes(data)
    Checkpoint(small).verify()
