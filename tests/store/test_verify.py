"""Damage: every file and the manifest, cut, flipped, emptied, deleted, replaced, or joined by another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunekit.errors import CheckpointCorruptError, CheckpointNotFoundError, StorageError, TunekitError
from tunekit.store import CheckpointIO, LocalStore, MemoryStore, folders, layout
from tunekit.store.verify import verify_folder

TRIAL = "train_00007"
FILES = {"model.pt": b"weights" * 100, "deep/er/opt.bin": b"moments" * 100, "one": b"1", "empty": b""}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def flip_first(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def flip_last(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 0x80]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path) -> None:
    path.unlink()


def to_link(path: Path) -> None:
    """The same content, but elsewhere, where it may change."""
    path.rename(path.parents[3] / "elsewhere")
    path.symlink_to(path.parents[3] / "elsewhere")


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE = [cut, grow, flip_first, flip_last, empty, delete, to_link, to_folder, to_pipe]
CASES = [
    (name, damage)
    for name in [*FILES, layout.MANIFEST]
    for damage in DAMAGE
    if name != "empty" or damage not in {cut, flip_first, flip_last, empty}
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiment"


@pytest.fixture
def io(root: Path) -> CheckpointIO:
    io = CheckpointIO(LocalStore(root))
    for iteration in (4, 5):
        folder = io.begin(TRIAL, iteration, 1)
        for name, data in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        io.publish(TRIAL, iteration, 1, io.seal(TRIAL, iteration, 1, metadata={}))
    return io


@pytest.mark.parametrize(("name", "damage"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_any_damage_is_noticed_and_named(
    io: CheckpointIO, root: Path, name: str, damage: Callable[[Path], None]
) -> None:
    """S000-14, S003-12: never accepted, never a crash; the one before is still there."""
    damage(root / TRIAL / "checkpoint_000005" / name)
    with pytest.raises(CheckpointCorruptError) as caught:
        io.verify(TRIAL, 5)
    assert caught.value.fields["file"] == name
    assert str(root / TRIAL / "checkpoint_000005") in caught.value.message
    assert "another checkpoint" in caught.value.hint
    assert (io.verify(TRIAL, 4) / "model.pt").read_bytes() == FILES["model.pt"]
    io.quarantine(TRIAL, 5, 1)
    assert io.visible(TRIAL) == [(4, 1)]


@pytest.mark.parametrize(("name", "damage"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_the_cheap_look_lists_only_what_may_be_whole(
    io: CheckpointIO, root: Path, name: str, damage: Callable[[Path], None]
) -> None:
    """A flipped byte in a file is the one damage that only the hashes find."""
    damage(root / TRIAL / "checkpoint_000005" / name)
    only_hashes = name != layout.MANIFEST and damage in {flip_first, flip_last}
    assert io.visible(TRIAL) == ([(4, 1), (5, 1)] if only_hashes else [(4, 1)])


@pytest.mark.parametrize("name", ["extra", "deep/extra", "deep/er/opt.bin.bak", "deep/MANIFEST.json"])
def test_a_file_that_does_not_belong_there_is_noticed(io: CheckpointIO, root: Path, name: str) -> None:
    """A loader that reads all files of a folder would read it too."""
    (root / TRIAL / "checkpoint_000005" / name).write_bytes(b"x")
    with pytest.raises(CheckpointCorruptError, match="it is not in the manifest"):
        io.verify(TRIAL, 5)


@pytest.mark.parametrize("name", [".DS_Store", "deep/Thumbs.db", ".nfs000000000012"])
def test_what_desktops_leave_behind_is_no_damage(io: CheckpointIO, root: Path, name: str) -> None:
    (root / TRIAL / "checkpoint_000005" / name).write_bytes(b"x")
    io.verify(TRIAL, 5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(place=st.integers(0, 10**6), flip=st.integers(1, 255), name=st.sampled_from([*FILES, layout.MANIFEST]))
def test_no_changed_byte_is_ever_accepted(io: CheckpointIO, root: Path, place: int, flip: int, name: str) -> None:
    path = root / TRIAL / "checkpoint_000005" / name
    data = path.read_bytes()
    if data:
        damaged = bytearray(data)
        damaged[place % len(data)] ^= flip
        path.write_bytes(damaged)
        # The whitespace between the fields of a manifest carries nothing, so one kind of it may stand for another.
        harmless = name == layout.MANIFEST and {data[place % len(data)], damaged[place % len(data)]} <= set(b" \n\t\r")
        if not harmless:
            with pytest.raises(CheckpointCorruptError):
                io.verify(TRIAL, 5)
        path.write_bytes(data)
    io.verify(TRIAL, 5)


def test_a_missing_checkpoint_says_so(io: CheckpointIO, root: Path) -> None:
    for trial, iteration in ((TRIAL, 6), ("train_00008", 5)):
        with pytest.raises(CheckpointNotFoundError, match="there is no checkpoint at"):
            io.verify(trial, iteration)
    (root / TRIAL / "checkpoint_000006").symlink_to(root / TRIAL / "checkpoint_000005")
    with pytest.raises(CheckpointCorruptError):
        io.verify(TRIAL, 6)


def test_storage_that_cannot_be_read_is_no_damage(
    io: CheckpointIO, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale handle or a missing permission must not put a good checkpoint aside; a bad sector must."""
    from tunekit.store import folders

    def refuse(number: int) -> Iterator[None]:
        def digest(path: Path) -> tuple[int, str]:
            raise OSError(number, os.strerror(number), str(path))

        with monkeypatch.context() as patch:
            patch.setattr(folders, "digest", digest)
            yield

    for _ in refuse(116):
        with pytest.raises(StorageError, match="Stale file handle"):
            io.verify(TRIAL, 5)
    for _ in refuse(5):
        with pytest.raises(CheckpointCorruptError, match="it cannot be read"):
            io.verify(TRIAL, 5)


def test_a_copied_folder_is_as_good(io: CheckpointIO, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / TRIAL / "checkpoint_000005", tmp_path / "copy")
    assert verify_folder(tmp_path / "copy").iteration == 5
    with pytest.raises(CheckpointNotFoundError):
        verify_folder(tmp_path / "nothing")


@pytest.mark.parametrize("name", [*FILES, layout.MANIFEST])
def test_damage_in_memory_is_noticed_too(name: str) -> None:
    store = MemoryStore(f"memory://damage/{name}")
    io = CheckpointIO(store)
    folder = io.begin(TRIAL, 5, 1)
    for file, data in FILES.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    io.publish(TRIAL, 5, 1, io.seal(TRIAL, 5, 1, metadata={}))
    io.verify(TRIAL, 5)
    store.write(f"layout/{name}", b"")
    store.write(f"{layout.checkpoint_path(TRIAL, 5)}/{name}", b"junk")
    with pytest.raises(CheckpointCorruptError):
        io.verify(TRIAL, 5)
    assert io.visible(TRIAL) == []


@pytest.mark.parametrize("act", ["seal", "verify"])
def test_a_link_that_is_put_in_place_after_the_look_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """Between listing a folder and reading its files, a file can be exchanged."""
    io = CheckpointIO(LocalStore(tmp_path / "e"))
    (io.begin(TRIAL, 5, 1) / "model").write_bytes(b"weights")
    if act == "verify":
        io.publish(TRIAL, 5, 1, io.seal(TRIAL, 5, 1, metadata={}))
    (tmp_path / "elsewhere").write_bytes(b"weights")
    real = folders.digest

    def exchanged(path: Path) -> tuple[int, str]:
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
        return real(path)

    monkeypatch.setattr(folders, "digest", exchanged)
    with pytest.raises(TunekitError):
        io.seal(TRIAL, 5, 1, metadata={}) if act == "seal" else io.verify(TRIAL, 5)
