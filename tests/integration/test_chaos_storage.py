"""A disk that is full while a sweep runs: saves are lost, or the sweep stops and says why; with room it goes on."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sweeps

from tunekit.core.events import SaveFailed

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

OPTIONS = ["--numbers", "100000", "--samples", "3"]
SAVED = 800_000
"""Bytes of one checkpoint."""


def may_mount() -> bool:
    """Return whether this user may mount file systems."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with room for five checkpoints and a bit, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    size = 5 * SAVED + SAVED // 2
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def make_room(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    sweeps.finish(sweeps.start("save_sweep.py", str(folder), *OPTIONS))
    return folder / "saves"


def failed_saves(experiment: Path) -> list[SaveFailed]:
    return [record for record in sweeps.journal(experiment) if isinstance(record, SaveFailed)]


@pytest.mark.parametrize("form", ["dict", "folder"])
def test_files_that_may_not_grow_cost_saves_and_nothing_else(tmp_path: Path, undisturbed: Path, form: str) -> None:
    """A limit that every user may set: each save fails, no trial does, and nothing is left of them."""
    process = sweeps.start("save_sweep.py", str(tmp_path), *OPTIONS, "--form", form, "--wait")
    go_on = begun(process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (SAVED // 2, SAVED // 2))
    go_on()
    sweeps.finish(process)
    experiment = tmp_path / "saves"
    assert sweeps.table(experiment) == sweeps.table(undisturbed)
    assert len({(failed.trial, failed.iteration) for failed in failed_saves(experiment)}) == 3 * 8
    assert sweeps.weights(experiment) == {}
    assert not [path for path in experiment.glob(".staging/**/*") if path.is_file()]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("on_ray", ["--ray"] if may_mount() else [])
def test_a_disk_that_fills_up(tmp_path: Path, undisturbed: Path, disk: Path, on_ray: str) -> None:
    """The journal keeps its place or the sweep stops; with more room the rest is done, and every bit is right."""
    experiment = disk / "saves"
    with sweeps.ray_head() as address:
        process = sweeps.start("save_sweep.py", str(disk), *OPTIONS, on_ray, address=address)
        _, err = process.communicate(timeout=sweeps.PATIENCE_S)
        if process.returncode == 0:
            assert failed_saves(experiment), "the disk was not full"
        else:
            assert "No space left" in err, err  # The journal met it first.
        make_room(disk)
        sweeps.finish(sweeps.start("save_sweep.py", str(disk), *OPTIONS, on_ray, address=address))
    assert sweeps.table(experiment) == sweeps.table(undisturbed)
    assert len(sweeps.weights(experiment)) == 2 * len(list(experiment.glob("Heavy_*/checkpoint_*")))


@pytest.mark.parametrize("room", ["none"] if may_mount() else [])
def test_a_full_disk_stops_the_journal_and_the_sweep_says_so(
    tmp_path: Path, undisturbed: Path, disk: Path, room: str
) -> None:
    """What cannot be written down has not happened: the driver ends with one clear error and can be run again."""
    experiment = disk / "saves"
    process = sweeps.start("save_sweep.py", str(disk), *OPTIONS, "--wait")
    go_on = begun(process)
    fill(disk)
    go_on()
    while process.poll() is None:
        fill(disk)
        time.sleep(0.001)
    _, err = process.communicate()
    assert process.returncode != 0
    assert "No space left" in err
    before = sweeps.table(experiment)
    assert len(before) < 3 * 8
    (disk / "filler").unlink()
    make_room(disk)
    sweeps.finish(sweeps.start("save_sweep.py", str(disk), *OPTIONS))
    assert sweeps.table(experiment) == sweeps.table(undisturbed)
    assert before.items() <= sweeps.table(experiment).items()
    assert sweeps.weights(experiment) == sweeps.weights(undisturbed)


def begun(process: subprocess.Popen[str]) -> Callable[[], None]:
    """Wait until the first save has begun, and return what lets it go on."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    stdin = process.stdin

    def go_on() -> None:
        stdin.write("\n")
        stdin.flush()

    return go_on


def fill(disk: Path) -> None:
    with (disk / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
