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
    assert process.poll() is None, process.communicate()
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
    _, err = process.communicate(timeout=sweeps.PATIENCE_S)
    assert process.returncode == 1
    assert "ExperimentExistsError: another driver has taken over the experiment" in err, err
    assert f"process {by.pid} on " in err


def generations(experiment: str) -> list[int]:
    return [record.generation for record in sweeps.journal(experiment) if isinstance(record, DriverStarted)]


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_one_driver_is_stopped_and_the_next_is_alive_when_they_are_replaced(tmp_path: Path, start: Start) -> None:
    """Promise 1; the workers of a driver that was replaced are gone when it is."""
    experiment, gate = tmp_path / "walks", tmp_path / "gate"
    undisturbed = start(str(tmp_path / "undisturbed"), "--inline", "--samples", "4", "--step-s", "0")
    options = ["--samples", "4", "--step-s", "0.1", "--gate", str(gate)]
    with sweeps.ray_head(num_cpus=6) as address:
        first = start(str(tmp_path), *options, address=address)
        sweeps.wait_for(experiment, first, 5)
        stop(first)
        refused = start(str(tmp_path), *options, address=address)
        _, err = refused.communicate(timeout=sweeps.PATIENCE_S)
        assert refused.returncode == 1
        assert f"another driver is running the experiment in {experiment}: process {first.pid} on " in err
        by_first = sweeps.count_results(experiment)
        second = start(str(tmp_path), *options, "--takeover", address=address)
        sweeps.wait_until(second, lambda: 2 in generations(str(experiment)))
        sweeps.wait_for(experiment, second, 3, beyond=by_first)
        third = start(str(tmp_path), *options, "--takeover", address=address)
        assert_replaced(second, third)
        sweeps.open_gate(gate)
        sweeps.finish(third)
        before, pids = content(str(experiment)), set(sweeps.worker_pids(experiment))
        first.send_signal(signal.SIGCONT)
        assert_replaced(first, third)
        assert content(str(experiment)) == before
        end = time.monotonic() + sweeps.PATIENCE_S
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
    gate = tmp_path / "gate"
    options = ["--inline", "--samples", "3", "--step-s", "0.05", "--gate", str(gate)]
    first = start(root, *options)
    sweeps.wait_for(experiment, first, 2)
    stop(first)
    sweeps.open_gate(gate)
    undisturbed = start(str(tmp_path / "undisturbed"), *options)
    sweeps.finish(start(root, *options, "--takeover"))
    before = content(experiment)
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=sweeps.PATIENCE_S)
    assert first.returncode == 1
    assert "another driver has taken over the experiment" in err
    after = content(experiment)
    assert {name: after.get(name) for name in before} == before
    assert all("/d-1/" in name for name in after.keys() - before.keys()), "more than a trial may write by itself"
    sweeps.finish(undisturbed)
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "undisturbed" / "walks")
    assert generations(experiment) == [1, 2]
