"""A checkpoint staged a second time, for another trial: nothing is copied, and the two are independent."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest

from tunekit.errors import StorageError
from tunekit.store import CheckpointIO, LocalStore, MemoryStore, Store, layout
from tunekit.store.layout import CheckpointKey
from tunekit.store.manifest import Manifest
from tunekit.store.verify import verify_folder
from tunekit.testing.faulty_store import Faults, FaultyOps

DONOR, HEIR = "train_00003", "train_00007"
FILES = {"model.pt": b"weights" * 100, "deep/er/opt.bin": b"moments" * 10, "empty": b""}
_COUNT = itertools.count()


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "e") if request.param == "local" else MemoryStore(f"memory://clone/{next(_COUNT)}")


def publish_donor(store: Store) -> str:
    io = CheckpointIO(store)
    folder = io.begin(DONOR, 4, 1)
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    io.publish(DONOR, 4, 1, io.seal(DONOR, 4, 1, metadata={}))
    return layout.checkpoint_path(DONOR, 4)


def publish_clone(store: Store, donor: str) -> str:
    """Clone, and publish under a manifest of its own."""
    from tunekit.store import manifest as manifests

    staging, folder = layout.staging_name(HEIR, 9, 2), layout.checkpoint_path(HEIR, 9)
    files = manifests.decode(store.read(f"{donor}/{layout.MANIFEST}"), donor).files
    store.clone(donor, staging)
    document = manifests.seal(CheckpointKey(HEIR, 9, 2), files, {"donor": donor})
    store.commit(staging, folder, manifests.encode(document))
    return folder


def verified(store: Store, folder: str) -> Manifest:
    return verify_folder(store.local(folder))


def test_a_clone_is_a_checkpoint_of_its_own(store: Store) -> None:
    """S003-1: its files are the donor's, its record is not."""
    donor = publish_donor(store)
    heir = publish_clone(store, donor)
    found = verified(store, heir)
    assert (found.key, found.donor) == ((HEIR, 9, 2, True), donor)
    for name, data in FILES.items():
        assert store.read(f"{heir}/{name}") == data
    assert verified(store, donor).key == (DONOR, 4, 1, True)


@pytest.mark.parametrize("first", ["donor", "heir"])
def test_one_is_deleted_and_the_other_stays(store: Store, first: str) -> None:
    donor = publish_donor(store)
    heir = publish_clone(store, donor)
    gone, left = (donor, heir) if first == "donor" else (heir, donor)
    store.remove(gone)
    assert store.sizes(gone) == {}
    verified(store, left)


def test_cloning_again_begins_anew(store: Store) -> None:
    donor = publish_donor(store)
    staging = layout.staging_name(HEIR, 9, 2)
    (store.scratch(staging) / "old").write_bytes(b"x")
    store.persist(staging, ["old"])
    store.clone(donor, staging)
    store.clone(donor, staging)
    assert {name for name in store.sizes(staging) if not name.endswith("/")} == set(FILES)


def test_what_is_not_there_cannot_be_cloned(store: Store) -> None:
    staging = layout.staging_name(HEIR, 9, 2)
    with pytest.raises(FileNotFoundError):
        store.clone(layout.checkpoint_path(DONOR, 4), staging)
    assert store.sizes(staging) == {}


def test_files_inside_a_data_folder_are_cloned_from_there(store: Store) -> None:
    """As after a copy from an object store: the caller names the folder of the files."""
    donor = publish_donor(store)
    staging = layout.staging_name(HEIR, 9, 2)
    store.clone(f"{donor}/deep", staging)
    assert store.sizes(staging) == {"er/opt.bin": len(FILES["deep/er/opt.bin"])}


def test_locally_nothing_is_copied(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "e")
    donor = publish_donor(store)
    heir = publish_clone(store, donor)
    for name in FILES:
        assert (tmp_path / "e" / donor / name).samefile(tmp_path / "e" / heir / name)
    assert not (tmp_path / "e" / donor / layout.MANIFEST).samefile(tmp_path / "e" / heir / layout.MANIFEST)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS])
def test_where_files_cannot_be_linked_they_are_copied(tmp_path: Path, number: int) -> None:
    class NoLinks(FaultyOps):
        def link(self, source: Path, target: Path) -> None:
            raise OSError(number, os.strerror(number), str(target))

    ops = NoLinks()
    store = LocalStore(tmp_path / "e", ops=ops)
    donor = publish_donor(store)
    heir = publish_clone(store, donor)
    verified(store, heir)
    for name in FILES:
        assert not (tmp_path / "e" / donor / name).samefile(tmp_path / "e" / heir / name)
    synced = {entry for entry in ops.faults.log if entry.startswith("fsync")}
    assert {"fsync model.pt", "fsync opt.bin", "fsync er", "fsync deep"} <= synced
    ops.close()


def test_a_clone_survives_a_loss_of_power(tmp_path: Path) -> None:
    """Its names are synced as well, not only its bytes."""
    root = tmp_path / "e"
    ops = FaultyOps()
    store = LocalStore(root, ops=ops)
    donor = publish_donor(store)
    heir = publish_clone(store, donor)
    ops.lose_power(root)
    assert verified(LocalStore(root), heir).key == (HEIR, 9, 2, True)


def test_a_full_disk_leaves_nothing_of_a_clone(tmp_path: Path) -> None:
    root = tmp_path / "e"
    donor = publish_donor(LocalStore(root))
    staging = layout.staging_name(HEIR, 9, 2)
    counted = FaultyOps()
    LocalStore(root, ops=counted).clone(donor, staging)
    LocalStore(root).remove(staging)
    assert counted.faults.count > 5
    for number in range(1, counted.faults.count + 1):
        faulty = LocalStore(root, ops=FaultyOps(Faults(fail_at=number)))
        with pytest.raises(StorageError) as caught:
            faulty.clone(donor, staging)
        assert "disk is full" in caught.value.hint
        assert store_is_tidy(root), counted.faults.log[number - 1]
        verified(LocalStore(root), donor)
    counted.close()


def store_is_tidy(root: Path) -> bool:
    return not [path for path in (root / layout.STAGING).rglob("*") if path.is_file()]
