"""Folders of the user become staged checkpoints: copied, or taken when the user said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunekit.errors import SaveError
from tunekit.store import CheckpointIO, LocalStore
from tunekit.store.ops import Ops

TRIAL = "train_00007"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiment"


@pytest.fixture
def io(root: Path) -> CheckpointIO:
    return CheckpointIO(LocalStore(root))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    (folder / "model").write_bytes(b"weights")
    (folder / "deep" / "opt").write_bytes(b"moments" * 100_000)
    return folder


@pytest.mark.parametrize("move", [False, True])
def test_a_folder_of_the_user_is_copied_or_taken(io: CheckpointIO, mine: Path, move: bool) -> None:  # noqa: FBT001
    number = (mine / "model").stat().st_ino
    io.adopt(mine, TRIAL, 5, 1, move=move)
    io.publish(TRIAL, 5, 1, io.seal(TRIAL, 5, 1, metadata={}))
    folder = io.verify(TRIAL, 5)
    assert (folder / "deep" / "opt").read_bytes() == b"moments" * 100_000
    assert mine.exists() is not move
    assert ((folder / "model").stat().st_ino == number) is move


def test_taking_from_another_file_system_copies_and_deletes(root: Path, mine: Path) -> None:
    class Elsewhere(Ops):
        def rename(self, source: Path, target: Path) -> None:
            if source == mine:
                raise OSError(18, "Invalid cross-device link")
            super().rename(source, target)

    io = CheckpointIO(LocalStore(root), ops=Elsewhere())
    io.adopt(mine, TRIAL, 5, 1, move=True)
    assert [entry["name"] for entry in io.seal(TRIAL, 5, 1, metadata={})["files"]] == ["deep/opt", "model"]
    assert not mine.exists()


def test_a_published_checkpoint_is_copied_whatever_was_said(io: CheckpointIO) -> None:
    """Reporting what get_checkpoint gave must not take the published one away."""
    (io.begin(TRIAL, 5, 1) / "model").write_bytes(b"5 by 1")
    io.publish(TRIAL, 5, 1, io.seal(TRIAL, 5, 1, metadata={}))
    io.adopt(io.verify(TRIAL, 5), TRIAL, 6, 1, move=True)
    io.publish(TRIAL, 6, 1, io.seal(TRIAL, 6, 1, metadata={}))
    assert io.visible(TRIAL) == [(5, 1), (6, 1)]
    assert (io.verify(TRIAL, 6) / "model").read_bytes() == b"5 by 1"


def test_a_link_to_a_folder_is_copied(io: CheckpointIO, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(mine)
    folder = io.adopt(tmp_path / "link", TRIAL, 5, 1, move=True)
    assert (folder / "model").read_bytes() == b"weights"
    assert not folder.is_symlink()
    assert mine.exists()


def test_what_is_no_folder_is_refused(io: CheckpointIO, mine: Path, root: Path) -> None:
    with pytest.raises(SaveError, match="is not a folder"):
        io.adopt(mine / "model", TRIAL, 5, 1, move=False)
    with pytest.raises(SaveError, match="does not exist"):
        io.adopt(mine / "nothing", TRIAL, 5, 1, move=False)
    assert list(root.iterdir()) == []


def test_a_folder_around_the_experiment_is_refused(io: CheckpointIO, root: Path) -> None:
    """It would be copied into itself without end, or moved away."""
    for move in (False, True):
        with pytest.raises(SaveError, match="contains the experiment's own folder"):
            io.adopt(root.parent, TRIAL, 5, 1, move=move)
    assert list(root.iterdir()) == []


def test_links_in_a_folder_of_the_user_are_refused_and_it_is_left_alone(io: CheckpointIO, mine: Path) -> None:
    (mine / "link").symlink_to("/etc/hostname")
    with pytest.raises(SaveError, match="'link': it is a symbolic link"):
        io.adopt(mine, TRIAL, 5, 1, move=False)
    assert (mine / "model").exists()
