"""What is saved after an exception lies apart, is whole like any other, and never stands in for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunekit.checkpoint import Checkpoint
from tunekit.errors import CheckpointCorruptError, CheckpointNotFoundError
from tunekit.store import layout
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.store.local import LocalStore
from tunekit.store.memory import MemoryStore
from tunekit.store.opening import open_store

TRIAL = "train_00007"


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def io(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointIO:
    if request.param == "s3":
        return CheckpointIO(open_store(request.getfixturevalue("s3_uri")))
    return CheckpointIO(LocalStore(tmp_path) if request.param == "local" else MemoryStore(request.node.name))


def stage(io: CheckpointIO, iteration: int, attempt: int = 1, *, exact: bool = False) -> dict[str, Any]:
    (io.begin(TRIAL, iteration, attempt, exact=exact) / "state").write_text(f"{iteration} {attempt} {exact}")
    return io.seal(TRIAL, iteration, attempt, metadata={"reason": "failure"}, exact=exact)


def save(io: CheckpointIO, iteration: int, attempt: int = 1, *, exact: bool = False) -> None:
    manifest = stage(io, iteration, attempt, exact=exact)
    io.publish(TRIAL, iteration, attempt, manifest, exact=exact)


def test_both_kinds_at_one_iteration_do_not_meet(io: CheckpointIO) -> None:
    """Even while both are staged."""
    regular, failed = stage(io, 5, exact=True), stage(io, 5)
    io.publish(TRIAL, 5, 1, failed, exact=False)
    assert io.visible(TRIAL) == []
    io.publish(TRIAL, 5, 1, regular)
    save(io, 5, 2)
    assert io.visible(TRIAL) == [(5, 1)]
    assert io.visible_failures(TRIAL) == [(5, 1), (5, 2)]
    assert (io.verify(TRIAL, 5) / "state").read_text() == "5 1 True"


def test_it_says_of_itself_that_it_is_inexact(tmp_path: Path) -> None:
    io = CheckpointIO(LocalStore(tmp_path))
    save(io, 5, 3)
    found = Checkpoint.from_directory(tmp_path / TRIAL / "failure_000005_3")
    assert found.metadata["exact"] is False
    assert found.metadata["reason"] == "failure"


def test_one_is_never_restored_as_the_checkpoint_of_its_iteration(io: CheckpointIO) -> None:
    save(io, 5)
    with pytest.raises(CheckpointNotFoundError):
        io.verify(TRIAL, 5)


def test_one_cannot_be_published_as_the_other(io: CheckpointIO) -> None:
    failed, regular = stage(io, 5), stage(io, 5, exact=True)
    with pytest.raises(CheckpointCorruptError):
        io.publish(TRIAL, 5, 1, failed)
    with pytest.raises(CheckpointCorruptError):
        io.publish(TRIAL, 5, 1, regular, exact=False)


def test_publishing_and_deleting_again_change_nothing(io: CheckpointIO) -> None:
    manifest = stage(io, 5)
    for _ in range(2):
        io.publish(TRIAL, 5, 1, manifest, exact=False)
    assert io.visible_failures(TRIAL) == [(5, 1)]
    for _ in range(2):
        io.delete(TRIAL, 5, 1)
        assert io.visible_failures(TRIAL) == [(5, 1)]
    for _ in range(2):
        io.delete(TRIAL, 5, 1, exact=False)
        assert io.visible_failures(TRIAL) == []


def test_discarding_one_leaves_the_other(io: CheckpointIO) -> None:
    stage(io, 5)
    regular = stage(io, 5, exact=True)
    io.discard(TRIAL, 5, 1, exact=False)
    io.publish(TRIAL, 5, 1, regular)
    assert io.visible(TRIAL) == [(5, 1)]


def test_sweeping_spares_a_live_one(io: CheckpointIO) -> None:
    manifest = stage(io, 5)
    stage(io, 5, exact=True)
    io.sweep({layout.staging_name(TRIAL, 5, 1, exact=False)})
    io.publish(TRIAL, 5, 1, manifest, exact=False)
    assert io.visible_failures(TRIAL) == [(5, 1)]


def test_a_damaged_one_is_put_aside(tmp_path: Path) -> None:
    io = CheckpointIO(LocalStore(tmp_path))
    save(io, 5)
    io.quarantine(TRIAL, 5, 1, exact=False)
    assert io.visible_failures(TRIAL) == []
    assert (tmp_path / layout.quarantine_name(TRIAL, 5, 1, exact=False) / "state").is_file()
