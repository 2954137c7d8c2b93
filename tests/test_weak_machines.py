"""A machine whose clock jumps, whose folders vanish, or that has no more descriptors, locks or memory to give."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sweeps
from trainables import Counter, Make, maker

import tunekit as tk
from tunekit.core.codec import encode
from tunekit.errors import JournalCorruptError, StorageError
from tunekit.journal.segments import read_records
from tunekit.schedulers import FIFO
from tunekit.types import TrialStatus


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


def saving(steps: int = 4) -> dict[str, Any]:
    return {"stop": {"training_iteration": steps}, "checkpoint_config": tk.CheckpointConfig(checkpoint_frequency=2)}


# -- clocks ------------------------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """By hours and by months, back and forth, and into another time zone, between any two looks at it."""

    def tells_time(field: str) -> bool:
        return field in {"at", "timestamp"} or field.endswith("_s")

    def events(root: Path) -> list[bytes]:
        tk.inline(
            maker(root)(
                num_samples=4,
                scheduler=tk.ASHA(max_t=4, grace_period=1, reduction_factor=2),
                metric="loss",
                mode="min",
                trainable=square_of_steps,
                run={"checkpoint_config": tk.CheckpointConfig(checkpoint_at_end=False)},
            )
        )
        return [
            encode(
                type(record)(
                    **{name: getattr(record, name) for name in record.__struct_fields__ if not tells_time(name)}
                )
            )
            for record in read_records(root / "exp" / "journal")
        ]

    def square_of_steps(config: dict[str, Any]) -> None:
        for step in range(1, 5):
            tk.report({"loss": config["x"] / step})

    expected = events(tmp_path / "steady")
    chance, real = random.Random(7), time.time
    monkeypatch.setattr(time, "time", lambda: real() + chance.choice([-3600.0, 0.0, 30 * 86400.0, -1e9, 3e8]))
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    request.addfinalizer(time.tzset)
    request.addfinalizer(monkeypatch.undo)
    assert events(tmp_path / "jumpy") == expected


# -- folders that vanish -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [".", "exp", "exp/journal"])
def test_a_sweep_whose_folder_is_removed_says_so_and_stops(tmp_path: Path, what: str) -> None:
    """The system would go on writing files that have no name any more, and all results with them be lost at the end."""
    root = tmp_path / "root"
    root.mkdir()
    begun: list[str] = []

    class Removing(Counter):
        def step(self) -> dict[str, Any]:
            begun.append(self.trial_name)
            if len(begun) == 6:
                shutil.rmtree(root / what)
            return super().step()

    tuner = maker(root)(Removing, run=saving(), num_samples=50)
    with pytest.raises(StorageError, match=r"was removed|could not be read") as raised:
        tk.inline(tuner)
    assert "un the script again" in raised.value.hint
    assert len(set(begun)) < 5


def test_a_sweep_whose_folder_is_moved_away_stops_and_goes_on_where_it_is_now(tmp_path: Path) -> None:
    """Somebody else may drive it there, so this driver does no more; nothing that was recorded is lost."""
    moved: list[Path] = []

    class Moving(Counter):
        def step(self) -> dict[str, Any]:
            if not moved and self.count == 2:
                moved.append(tmp_path / "elsewhere")
                (tmp_path / "exp").rename(moved[0])
            return super().step()

    with pytest.raises(StorageError, match="could not be read") as raised:
        tk.inline(maker(tmp_path)(Moving, run={"stop": {"training_iteration": 4}, "checkpoint_config": never()}))
    assert "moved" in raised.value.hint
    results = tk.inline(tk.Tuner.restore(moved[0], Moving))
    assert [row["count"] for row in results[0].rows] == [1, 2, 3, 4]


def never() -> tk.CheckpointConfig:
    return tk.CheckpointConfig(checkpoint_at_end=False)


def test_trials_without_the_file_that_says_whose_they_are_belong_to_nobody(make: Make, tmp_path: Path) -> None:
    """Else another script of the same name would be given their results for its own."""
    tk.inline(make())
    header = tmp_path / "exp" / "experiment.json"
    content = header.read_bytes()
    header.unlink()
    for seed in (1, 2):
        with pytest.raises(JournalCorruptError, match=r"not the file experiment\.json") as raised:
            tk.inline(make(seed=seed))
        assert "Bring the file back" in raised.value.hint
    assert not header.exists()
    header.write_bytes(content)
    assert [len(result.rows) for result in tk.inline(make())] == [3]


# -- locks, descriptors, memory ----------------------------------------------------------------------------------------


def files_below(folder: Path) -> dict[str, int]:
    """Return the size of each file, by its place."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Two drivers could not be told from one. Nothing is written but the empty file that was to be locked."""

    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    tuner = make()
    assert files_below(tmp_path) == {}
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError, match="could not be locked") as raised:
        tk.inline(tuner)
    assert "supports file locks" in raised.value.hint
    assert files_below(tmp_path) == {"exp/driver.lock": 0}
    monkeypatch.undo()
    assert [result.status for result in tk.inline(tuner)] == [TrialStatus.COMPLETED]


LIMITS: dict[str, Callable[[int], tuple[int, int]]] = {
    "descriptors": lambda pid: (resource.RLIMIT_NOFILE, len([*Path(f"/proc/{pid}/fd").iterdir()])),
    "memory": lambda pid: (resource.RLIMIT_AS, 1 << 20),
    "sizes of files": lambda pid: (resource.RLIMIT_FSIZE, 1),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_process_that_gets_no_more_of_something(tmp_path: Path, name: str) -> None:
    """It may lose saves or end with an error; run again without the limit, it ends as an undisturbed one.

    But for trials that had no memory left for their own work: that is a failure of theirs.
    """
    options = ["--numbers", "2000", "--samples", "2"]
    sweeps.finish(sweeps.start("save_sweep.py", str(tmp_path / "undisturbed"), *options))
    undisturbed = sweeps.table(tmp_path / "undisturbed" / "saves")
    process = sweeps.start("save_sweep.py", str(tmp_path), *options, "--wait")
    assert process.stdout is not None
    process.stdout.readline()
    which, value = LIMITS[name](process.pid)
    resource.prlimit(process.pid, which, (value, value))
    _, err = process.communicate("\n", timeout=sweeps.PATIENCE_S)
    assert process.returncode in {0, 1} or name == "memory", err  # Without memory, not even Python itself can go on.
    before = sweeps.table(tmp_path / "saves")
    again = sweeps.start("save_sweep.py", str(tmp_path), *options)
    _, err = again.communicate(timeout=sweeps.PATIENCE_S)
    after = sweeps.table(tmp_path / "saves")
    failed = set()
    for index, trial in enumerate(sweeps.replayed(tmp_path / "saves", FIFO()).state.trials):
        if trial.status is TrialStatus.FAILED and name == "memory":
            assert trial.error is not None
            assert "MemoryError" in trial.error.type
            failed.add(index)
        else:
            assert trial.status is TrialStatus.COMPLETED
    assert again.returncode == bool(failed), err
    assert before.items() <= after.items() <= undisturbed.items()
    assert {trial for trial, _ in undisturbed.keys() - after.keys()} <= failed
