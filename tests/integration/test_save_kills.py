"""SIGKILL in the middle of saving, again and again: nothing visible is damaged, only what was under way is lost."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sweeps

from tunekit.core.trial import CheckpointStatus
from tunekit.schedulers import FIFO
from tunekit.store import CheckpointIO, open_store
from tunekit.store.joining import joined

TRIALS = ["Heavy_00000", "Heavy_00001", "Heavy_00002"]
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
    out, _ = process.communicate(timeout=sweeps.PATIENCE_S)
    for trial, iteration in map(str.split, out.splitlines()):
        began[trial] = int(iteration)
    return began


def assert_whole(experiment: str) -> dict[str, list[int]]:
    """Read every byte of every visible checkpoint. Return their iterations by trial."""
    io = CheckpointIO(open_store(experiment, create=False))
    found = {}
    for trial in TRIALS:
        found[trial] = [iteration for iteration, _ in io.visible(trial)]
        for iteration in found[trial]:
            io.verify(trial, iteration)
    return found


def assert_at_most_in_flight_lost(experiment: str, began: dict[str, int]) -> None:
    """What the journal calls published is visible; the newest that can be restored is just behind the last save."""
    visible = assert_whole(experiment)
    for trial in sweeps.replayed(experiment, FIFO()).state.trials:
        name = TRIALS[trial.trial]
        known = {entry.iteration: entry.status for entry in trial.checkpoints.values()}
        published = {iteration for iteration, status in known.items() if status is CheckpointStatus.PUBLISHED}
        assert published <= set(visible[name]), name
        restorable = published | {i for i, status in known.items() if status is CheckpointStatus.STAGED}
        last = began.get(name, 0)
        assert last - 1 - MAX_IN_FLIGHT <= max(restorable, default=0), (name, last, known)


def kill_until(
    wanted: int, where: Callable[[int], tuple[str, str]], form: str, expected: object, *options: str
) -> None:
    """Kill as many sweeps as it takes, each until it is done: each ends with the undisturbed table.

    Args:
        wanted: How many kills.
        where: The ``storage_path`` of the sweep of this number, and the place of its experiment.
        form: How the trainable saves.
        expected: The undisturbed table.
        options: What else the script is given.
    """
    chance = random.Random(form)
    killed = number = 0
    while killed < wanted:
        number += 1
        storage, experiment = where(number)
        while began := kill_while_saving(chance, storage, "--form", form, *options):
            killed += 1
            assert_at_most_in_flight_lost(experiment, began)
        assert sweeps.table(experiment) == expected
        assert [len(kept) for kept in assert_whole(experiment).values()] == [2] * len(TRIALS)


def undisturbed(folder: Path, *options: str) -> object:
    """Return the undisturbed table."""
    sweeps.finish(sweeps.start("save_sweep.py", str(folder), *options))
    table = sweeps.table(folder / "saves")
    assert len(table) == len(TRIALS) * 8
    return table


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> object:
    return undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("form", ["dict", "folder"])
def test_killed_while_saving(tmp_path: Path, form: str, kills: int, expected: object) -> None:
    """S000-14, S003-12: 100 kills each in a full run."""

    def where(number: int) -> tuple[str, str]:
        return str(tmp_path / str(number)), str(tmp_path / str(number) / "saves")

    kill_until(max(6, 100 * (kills - 5) // 25), where, form, expected)


@pytest.mark.chaos
@pytest.mark.s3
@pytest.mark.timeout(1800)
def test_killed_while_saving_to_a_bucket(s3_uri: str, tmp_path: Path, kills: int) -> None:
    """S003-24: the same against a real S3 server, 50 kills in a full run."""
    smaller = ["--numbers", "200000"]  # The server is slow, and takes a file of this size in one piece as well.

    def where(number: int) -> tuple[str, str]:
        return joined(s3_uri, str(number)), joined(s3_uri, str(number), "saves")

    kill_until(max(4, 50 * (kills - 5) // 25), where, "dict", undisturbed(tmp_path, *smaller), *smaller)
