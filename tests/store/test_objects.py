"""What a store in a bucket promises beyond the published suite, over a service in memory."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from tunekit.errors import StorageError
from tunekit.store import CheckpointIO, PutOutcome, layout, probe
from tunekit.store.layout import checkpoint_path, quarantine_name, staging_name
from tunekit.store.object_client import ConflictError, Patience, RequestError
from tunekit.store.object_folders import LocalFolders
from tunekit.store.object_shelf import ObjectShelf
from tunekit.store.objects import ObjectStore
from tunekit.store.opening import begin
from tunekit.store.verify import verify_folder
from tunekit.testing.faulty_objects import FaultyObjects, MemoryObjects, no_waiting
from tunekit.testing.faulty_store import Faults, SimulatedCrash, When

TRIAL = "train_00007"
FOLDER = checkpoint_path(TRIAL, 5)
_COUNT = itertools.count()


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[LocalFolders]:
    with closing(LocalFolders(tmp_path)) as made:
        yield made


@pytest.fixture
def bucket() -> MemoryObjects:
    return MemoryObjects(f"objects-{next(_COUNT)}")


@pytest.fixture
def io(bucket: MemoryObjects, folders: LocalFolders) -> CheckpointIO:
    return CheckpointIO(ObjectStore(bucket, patience=no_waiting(), local_folders=folders))


def faulty(io: CheckpointIO, bucket: MemoryObjects, faults: Faults, *, reply_lost: bool = False) -> ObjectStore:
    assert isinstance(io.store, ObjectStore)
    return ObjectStore(
        FaultyObjects(bucket, faults, reply_lost=reply_lost),
        patience=no_waiting(),
        local_folders=io.store._folders,
    )


def save(io: CheckpointIO, attempt: int, iteration: int = 5) -> dict[str, object]:
    folder = io.begin(TRIAL, iteration, attempt)
    (folder / "model").write_bytes(b"weights of %d" % attempt)
    (folder / "more").write_bytes(b"")
    return dict(io.seal(TRIAL, iteration, attempt, metadata={}))


def publish(io: CheckpointIO, attempt: int, iteration: int = 5) -> None:
    io.publish(TRIAL, iteration, attempt, save(io, attempt, iteration))


def names(bucket: MemoryObjects) -> set[str]:
    return set(bucket.held)


# -- the order of things -----------------------------------------------------------------------------------------------


def test_the_layout_is_that_of_the_design(io: CheckpointIO, bucket: MemoryObjects) -> None:
    publish(io, 1)
    assert names(bucket) == {f"{FOLDER}/d-1/model", f"{FOLDER}/d-1/more", f"{FOLDER}/MANIFEST.json"}
    assert json.loads(bucket.get(f"{FOLDER}/MANIFEST.json")[0])["data"] == "d-1"


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_replacing_shows_the_old_one_or_the_new_one_at_every_moment(io: CheckpointIO, when: When) -> None:
    """A bucket replaces a manifest in one request, so there is no moment with nothing to restore."""
    for number in itertools.count(1):
        bucket = MemoryObjects(f"replacing-{when}-{number}")
        calm = CheckpointIO(faulty(io, bucket, Faults()))
        publish(calm, 1)
        manifest = save(calm, 2)
        try:
            CheckpointIO(faulty(io, bucket, Faults(crash_at=number, when=when))).publish(TRIAL, 5, 2, manifest)
        except SimulatedCrash:
            [(iteration, attempt)] = calm.visible(TRIAL)
            shown = calm.verify(TRIAL, iteration)
            assert (shown / "model").read_bytes() == b"weights of %d" % attempt
        else:
            assert number > 2
            return


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_what_is_put_aside_is_whole_whenever_the_process_dies(io: CheckpointIO, when: When) -> None:
    """Copied first, data before manifest; the original goes afterwards."""
    aside = quarantine_name(TRIAL, 5, 1)
    for number in itertools.count(1):
        bucket = MemoryObjects(f"aside-{when}-{number}")
        calm = CheckpointIO(faulty(io, bucket, Faults()))
        publish(calm, 1)
        try:
            faulty(io, bucket, Faults(crash_at=number, when=when)).remove(FOLDER, aside=aside)
        except SimulatedCrash:
            calm.store.remove(FOLDER, aside=aside)
        else:
            assert number > 4
            return
        assert calm.visible(TRIAL) == []
        kept = {name.partition("/")[0] for name in calm.store.sizes(layout.QUARANTINE)}
        assert kept in ({f"{TRIAL}.5.1"}, {f"{TRIAL}.5.1", f"{TRIAL}.5.1-2"})
        for name in kept:
            verify_folder(calm.store.local(f"{layout.QUARANTINE}/{name}"))


def test_a_delete_takes_the_manifest_first(io: CheckpointIO, bucket: MemoryObjects) -> None:
    publish(io, 1)
    faults = Faults()
    faulty(io, bucket, faults).remove(FOLDER)
    assert [f"{FOLDER}/MANIFEST.json" in line for line in faults.log] == [True, False]
    assert names(bucket) == set()


def test_a_damaged_one_gives_way_to_the_next_attempt(io: CheckpointIO, bucket: MemoryObjects) -> None:
    """Whose files lie beside a manifest that nobody can read is not known, so none is deleted before it is swept."""
    publish(io, 1)
    manifest = save(io, 2)
    bucket.put(f"{FOLDER}/MANIFEST.json", b'{"torn')
    io.publish(TRIAL, 5, 2, manifest)
    assert io.visible(TRIAL) == [(5, 2)]
    assert (io.verify(TRIAL, 5) / "model").read_bytes() == b"weights of 2"
    assert io.store.read(f"{layout.QUARANTINE}/{TRIAL}.5.0/d-1/model") == b"weights of 1"


def test_a_download_leaves_out_what_other_attempts_left(io: CheckpointIO, bucket: MemoryObjects) -> None:
    publish(io, 2)
    bucket.put(f"{FOLDER}/d-1/late", b"of a zombie")
    assert sorted(path.name for path in io.store.local(FOLDER).iterdir()) == ["MANIFEST.json", "d-2"]
    assert io.sweep() == [staging_name(TRIAL, 5, 1)]
    assert io.visible(TRIAL) == [(5, 2)]


def test_a_checkpoint_from_a_local_disk_is_one(io: CheckpointIO, bucket: MemoryObjects) -> None:
    """Its files lie beside its manifest, and a folder of the user may look like an attempt's."""
    manifest = {**save(io, 1)}
    manifest.pop("data")
    for name in ("model", "d-7/model"):
        bucket.put(f"{FOLDER}/{name}", b"copied")
    bucket.put(f"{FOLDER}/MANIFEST.json", json.dumps(manifest).encode())
    assert set(io.store.sizes(FOLDER)) == {"MANIFEST.json", "model", "d-7/model", "d-1/model", "d-1/more"}
    assert io.sweep() == []
    io.store.remove(FOLDER)
    assert {key for key in names(bucket) if "/d-" not in key} == set()


# -- lost replies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [None, "the tag"], ids=["create", "replace"])
def test_a_lost_reply_is_told_from_a_lost_race(io: CheckpointIO, bucket: MemoryObjects, tag: str | None) -> None:
    if tag is not None:
        bucket.put("key", b"before")
        tag = bucket.get("key")[1]
    store = faulty(io, bucket, Faults(fail_at=1), reply_lost=True)
    assert store.replace("key", b"ours", tag) is PutOutcome.MINE
    assert store.replace("key", b"theirs", tag) is PutOutcome.LOST
    assert bucket.get("key")[0] == b"ours"


def test_a_service_that_is_gone_leaves_it_unknown(
    io: CheckpointIO, bucket: MemoryObjects, caplog: pytest.LogCaptureFixture
) -> None:
    faults = Faults(fail_at=1, persistent=True)
    store = faulty(io, bucket, faults)
    assert store.put_if_absent("key", b"ours") is PutOutcome.UNKNOWN
    assert faults.count == 4
    assert "could not write objects://" in caplog.text
    assert "tried 4 times" in caplog.text
    bucket.put("folder/key", b"")
    with pytest.raises(StorageError, match=r"could not delete .*tried 4 times"):
        store.remove("folder")


def test_a_commit_that_another_driver_has_overtaken_says_so(io: CheckpointIO, bucket: MemoryObjects) -> None:
    class Overtaken(MemoryObjects):
        def create(self, key: str, data: bytes) -> None:
            bucket.put(key, b"theirs")
            raise ConflictError(key)

    store = ObjectStore(Overtaken(bucket._name), patience=no_waiting())
    save(io, 1)
    with pytest.raises(StorageError, match="outcome: lost") as caught:
        store.commit(staging_name(TRIAL, 5, 1), FOLDER, b"{}")
    assert "no other driver" in caught.value.hint
    assert bucket.get(f"{FOLDER}/MANIFEST.json")[0] == b"theirs"


def test_the_user_is_told_where_conditions_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """A service that takes every conditional write for a plain one is found out before the first trial."""
    store = ObjectStore(MemoryObjects("ignores", honours_conditions=False), patience=no_waiting())
    assert probe(store) is False
    begin(store)
    assert "Only one driver is safe there" in caplog.text
    assert store.sizes("") == {}
    caplog.clear()
    begin(ObjectStore(MemoryObjects("honours")))
    assert caplog.text == ""


def test_patience_is_spent_once(bucket: MemoryObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has tried to write until the deadline does not begin to try to read until another one."""
    asked: list[str] = []

    def fails(name: str) -> Callable[..., None]:
        def fail(*_: object) -> None:
            asked.append(name)
            raise RequestError("unreachable")

        return fail

    monkeypatch.setattr(bucket, "create", fails("create"))
    monkeypatch.setattr(bucket, "get", fails("get"))
    assert ObjectStore(bucket, patience=no_waiting(4)).put_if_absent("key", b"ours") is PutOutcome.UNKNOWN
    assert asked == [*["create"] * asked.count("create"), "get"]
    assert asked.count("create") > 1


# -- patience ----------------------------------------------------------------------------------------------------------


def test_patience_ends_at_the_deadline() -> None:
    now, waits = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    def refused() -> None:
        now[0] += 1.0
        raise RequestError("503")

    patience = Patience(10.0, pause=lambda failures: 2.0**failures, clock=lambda: now[0], sleep=sleep)
    with pytest.raises(StorageError, match=r"could not ask there: 503 \(tried 3 times\)"):
        patience.until_done("ask", "there", refused)
    assert waits == [2.0, 4.0]


def test_whoever_waits_long_is_told_what_for_once(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]

    def refused() -> None:
        now[0] += 4.0
        raise RequestError("503")

    patience = Patience(100.0, pause=lambda _: 0.0, clock=lambda: now[0], sleep=lambda _: None)
    with pytest.raises(StorageError):
        patience.until_done("write", "there", refused)
    assert [record.getMessage() for record in caplog.records] == [
        "still trying to write there, for up to 88 s more: 503"
    ]


def test_what_cannot_pass_is_asked_once() -> None:
    calls = []

    def forbidden() -> None:
        calls.append(1)
        raise RequestError("AccessDenied", may_pass=False)

    with pytest.raises(StorageError) as caught:
        Patience().until_done("ask", "there", forbidden)
    assert caught.value.message == "could not ask there: AccessDenied"
    assert "credentials" in caught.value.hint
    assert len(calls) == 1


def test_pauses_are_spread() -> None:
    """Those who failed at the same moment come back at different ones, and never late."""
    pauses = {Patience().pause(3) for _ in range(50)}
    assert len(pauses) == 50
    assert max(pauses) <= 0.8
    assert max(Patience().pause(10_000) for _ in range(50)) <= 5.0


# -- on the local disk -------------------------------------------------------------------------------------------------


def test_uploads_leave_nothing_on_the_local_disk(io: CheckpointIO, folders: LocalFolders) -> None:
    publish(io, 1)
    save(io, 2)
    io.discard(TRIAL, 5, 2)
    io.begin(TRIAL, 5, 3)
    io.discard(TRIAL, 5, 3)
    assert folders._own is not None
    assert [path.name for path in folders._own[1].iterdir()] == [".lock"]


def test_a_second_try_of_a_save_replaces_the_first(io: CheckpointIO, bucket: MemoryObjects) -> None:
    folder = io.begin(TRIAL, 5, 1)
    (folder / "old").write_bytes(b"x")
    io.seal(TRIAL, 5, 1, metadata={})
    publish(io, 1)
    assert names(bucket) == {f"{FOLDER}/d-1/model", f"{FOLDER}/d-1/more", f"{FOLDER}/MANIFEST.json"}


def test_a_store_travels_as_its_client(bucket: MemoryObjects) -> None:
    bucket.put("key", b"here")
    again = pickle.loads(pickle.dumps(ObjectStore(bucket)))
    assert again.read("key") == b"here"


@pytest.mark.parametrize("name", ["../../../../outside", "../outside", "/outside", "./outside", "inner//outside"])
def test_nothing_is_written_where_the_keys_of_a_hostile_bucket_lead(
    io: CheckpointIO, bucket: MemoryObjects, tmp_path: Path, name: str
) -> None:
    """In a bucket ``..`` is a name like any other. Promise: a download stays in its folder."""
    publish(io, 1)
    bucket.put(f"{FOLDER}/d-1/{name}", b"evil")
    assert (io.verify(TRIAL, 5) / "model").exists()
    assert list(tmp_path.rglob("*outside*")) == []
    with pytest.raises(StorageError, match="outside of its folder"):
        ObjectShelf(cast("ObjectStore", io.store)).files()


def test_what_consoles_make_to_show_a_folder_is_in_nobody_s_way(io: CheckpointIO, bucket: MemoryObjects) -> None:
    publish(io, 1)
    for key in [f"{FOLDER}/", f"{FOLDER}/d-1/", f"{TRIAL}/"]:
        bucket.put(key, b"")
    assert io.visible(TRIAL) == [(5, 1)]
    assert (io.verify(TRIAL, 5) / "model").exists()
    assert all(not key.endswith("/") for key in ObjectShelf(cast("ObjectStore", io.store)).files())
