"""SIGKILL in the middle of saving, again and again: nothing visible is damaged, only what was under way is lost."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
import sweeps

from tunekit.core.trial import CheckpointStatus
from tunekit.schedulers import FIFO
from tunekit.store import CheckpointIO, open_store

MAX_IN_FLIGHT = 2
"""Saves of a trial that may be under way when another one begins: one being persisted, one staged behind it."""


def kill_while_saving(chance: random.Random, *arguments: str) -> dict[str, int]:
    """Kill the sweep at a random moment after a random save has begun.

    Returns:
        By trial, the iteration whose save began last; nothing if the sweep has ended by itself.
    """
    process = sweeps.start("save_sweep.py", *arguments)
    assert process.stdout is not None
    began: dict[str, int] = {}
    for _ in range(chance.randint(1, 6)):
        line = process.stdout.readline()
        if not line:
            sweeps.finish(process)
            return {}
        trial, iteration = line.split()
        began[trial] = int(iteration)
    time.sleep(chance.uniform(0, 0.03))
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    for trial, iteration in map(str.split, out.splitlines()):
        began[trial] = int(iteration)
    return began


def assert_whole(experiment: Path) -> dict[str, list[int]]:
    """Read every byte of every visible checkpoint. Return their iterations by trial."""
    io = CheckpointIO(open_store(str(experiment), create=False))
    found = {}
    for trial in experiment.glob("Heavy_*"):
        found[trial.name] = [iteration for iteration, _ in io.visible(trial.name)]
        for iteration in found[trial.name]:
            io.verify(trial.name, iteration)
    return found


def assert_at_most_in_flight_lost(experiment: Path, began: dict[str, int]) -> None:
    """What the journal calls published is visible; the newest that can be restored is just behind the last save."""
    visible = assert_whole(experiment)
    for trial in sweeps.replayed(experiment, FIFO()).state.trials:
        name = f"Heavy_{trial.trial:05d}"
        known = {entry.iteration: entry.status for entry in trial.checkpoints.values()}
        published = {iteration for iteration, status in known.items() if status is CheckpointStatus.PUBLISHED}
        assert published <= set(visible.get(name, [])), name
        restorable = published | {i for i, status in known.items() if status is CheckpointStatus.STAGED}
        last = began.get(name, 0)
        assert last - 1 - MAX_IN_FLIGHT <= max(restorable, default=0), (name, last, known)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("form", ["dict", "folder"])
def test_killed_while_saving(tmp_path: Path, form: str, kills: int) -> None:
    """S000-14, S003-12: as many sweeps as it takes, each killed until it is done, each with an undisturbed table."""
    sweeps.finish(sweeps.start("save_sweep.py", str(tmp_path / "undisturbed"), "--form", form))
    expected = sweeps.table(tmp_path / "undisturbed" / "saves")
    assert len(expected) == 3 * 8
    chance = random.Random(form)
    killed, wanted, number = 0, max(6, 100 * (kills - 5) // 25), 0
    while killed < wanted:
        number += 1
        arguments = [str(tmp_path / str(number)), "--form", form]
        while began := kill_while_saving(chance, *arguments):
            killed += 1
            assert_at_most_in_flight_lost(tmp_path / str(number) / "saves", began)
        assert sweeps.table(tmp_path / str(number) / "saves") == expected
        assert all(len(kept) == 2 for kept in assert_whole(tmp_path / str(number) / "saves").values())
