"""A driver that lives, or is stopped and wakes later, is taken over from: it ends, and has changed nothing."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import sweeps

from tunekit.core.events import DriverStarted
from tunekit.journal.holder import process_start
from tunekit.store import open_store

Start: TypeAlias = Callable[..., "subprocess.Popen[str]"]

STEP = ["--step-s", "0.1", "--samples", "7"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts drivers, none of which outlives the test, stopped or not."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
            process = sweeps.start("walk_sweep.py", *arguments, **options)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield start


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)


def content(experiment: str) -> dict[str, bytes]:
    """Return every file of an experiment that counts: without renewals, and what a trial left half done."""
    store = open_store(experiment, create=False)
    names = [name for name in store.sizes("") if name != "driver.lease" and not name.startswith(".staging/")]
    return {name: store.read(name) for name in names}


def assert_replaced(process: subprocess.Popen[str], by: subprocess.Popen[str]) -> None:
    """A driver has ended, with an error that says who took over from it."""
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ExperimentExistsError: another driver has taken over the experiment" in err, err
    assert f"process {by.pid} on " in err


def wait_for_generation(experiment: str, process: subprocess.Popen[str], generation: int) -> None:
    """Wait until the driver of this generation has begun and reported two rows more."""
    end = time.monotonic() + 90
    while generation not in generations(experiment):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it does not begin"
        time.sleep(0.05)


def generations(experiment: str) -> list[int]:
    return [record.generation for record in sweeps.journal(experiment) if isinstance(record, DriverStarted)]


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_one_driver_is_stopped_and_the_next_is_alive_when_they_are_replaced(tmp_path: Path, start: Start) -> None:
    """Promise 1; the workers of a driver that was replaced are gone when it is."""
    experiment = tmp_path / "walks"
    undisturbed = start(str(tmp_path / "undisturbed"), "--inline", *STEP[2:], "--step-s", "0")
    with sweeps.ray_head(num_cpus=6) as address:
        first = start(str(tmp_path), *STEP, address=address)
        assert sweeps.wait_for(experiment, first, 5)
        stop(first)
        refused = start(str(tmp_path), *STEP, address=address)
        _, err = refused.communicate(timeout=60)
        assert refused.returncode == 1
        assert f"another driver is running the experiment in {experiment}: process {first.pid} on " in err
        second = start(str(tmp_path), *STEP, "--takeover", address=address)
        wait_for_generation(str(experiment), second, 2)
        assert sweeps.wait_for(experiment, second, 5)
        third = start(str(tmp_path), *STEP, "--takeover", address=address)
        assert_replaced(second, third)
        sweeps.finish(third)
        before, pids = content(str(experiment)), set(sweeps.worker_pids(experiment))
        first.send_signal(signal.SIGCONT)
        assert_replaced(first, third)
        assert content(str(experiment)) == before
        end = time.monotonic() + 20
        while any(process_start(pid) is not None for pid in pids):
            assert time.monotonic() < end, "a worker lives on"
            time.sleep(0.05)
    sweeps.finish(undisturbed)
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "undisturbed" / "walks")
    assert generations(str(experiment)) == [1, 2, 3]


@pytest.mark.parametrize("place", ["folder", pytest.param("bucket", marks=pytest.mark.s3)])
def test_a_driver_that_wakes_writes_nothing(
    place: str, tmp_path: Path, request: pytest.FixtureRequest, start: Start
) -> None:
    """Nobody waits for its death, in a bucket neither; and neither does it write when it wakes."""
    root = str(tmp_path) if place == "folder" else request.getfixturevalue("s3_uri")
    experiment = f"{root}/walks"
    options = ["--inline", "--samples", "3", "--step-s", "0.05"]
    undisturbed = start(str(tmp_path / "undisturbed"), *options)
    first = start(root, *options)
    wait_for_generation(experiment, first, 1)
    time.sleep(0.5)
    stop(first)
    sweeps.finish(start(root, *options, "--takeover"))
    before = content(experiment)
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "another driver has taken over the experiment" in err
    after = content(experiment)
    assert {name: after.get(name) for name in before} == before
    assert all("/d-1/" in name for name in after.keys() - before.keys()), "more than a trial may write by itself"
    sweeps.finish(undisturbed)
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "undisturbed" / "walks")
    assert generations(experiment) == [1, 2]
