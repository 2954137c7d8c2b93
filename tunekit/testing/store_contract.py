"""What every store must hold, ours or a user's.

Subclass ``StoreContract`` in a test file, give it a fixture ``store``, and pytest runs the suite::

    class TestMine(StoreContract):
        @pytest.fixture
        def store(self, tmp_path: Path) -> Store:
            return MyStore(tmp_path / "new")

Each test gets a new, empty store.
"""

# ruff: noqa: S101, D102 - a test suite asserts, against literals, and the names of tests say what they hold

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tunekit.errors import CheckpointNotFoundError
from tunekit.store import CheckpointIO, PutOutcome, Store, layout, probe
from tunekit.store.layout import checkpoint_path, quarantine_name, staging_name

TRIAL = "train_00007"
STAGED = staging_name(TRIAL, 5, 1)
SECOND = staging_name(TRIAL, 5, 2)
PUBLISHED = checkpoint_path(TRIAL, 5)
_RACERS = 5


def stage(store: Store, staging: str, files: dict[str, bytes]) -> None:
    """Write files as user code does, and make them durable."""
    folder = store.scratch(staging)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    store.persist(staging, sorted(files))


def manifest_of(store: Store, staging: str) -> bytes:
    """Return as much of a manifest as a store may look at."""
    return json.dumps({"data": store.data_folder(staging), "of": staging}).encode()


def files_in(store: Store, folder: str, staging: str = STAGED) -> dict[str, int]:
    """Return the sizes of the files in ``folder`` that were staged as ``staging``, its manifest being right."""
    found = store.sizes(folder)
    assert found.pop(layout.MANIFEST) == len(manifest_of(store, staging))
    assert store.read(f"{folder}/{layout.MANIFEST}") == manifest_of(store, staging)
    data = store.data_folder(staging)
    prefix = f"{data}/" if data else ""
    return {name.removeprefix(prefix): size for name, size in found.items() if name.startswith(prefix)}


def at_once(put: Callable[[int], PutOutcome]) -> list[PutOutcome]:
    """Return what several callers are answered who put at the same moment."""
    barrier = threading.Barrier(_RACERS)

    def wait_and_put(number: int) -> PutOutcome:
        barrier.wait()
        return put(number)

    with ThreadPoolExecutor(_RACERS) as threads:
        return list(threads.map(wait_and_put, range(_RACERS)))


class StoreContract:
    """The suite. A subclass gives the fixture ``store``."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError("give a fixture named store that returns a new, empty store")

    # -- staging -------------------------------------------------------------------------------------------------------

    def test_scratch_is_an_empty_local_folder_each_time(self, store: Store) -> None:
        folder = store.scratch(STAGED)
        (folder / "left over").write_bytes(b"x")
        again = store.scratch(STAGED)
        assert again.is_dir()
        assert list(again.iterdir()) == []

    def test_what_is_staged_is_not_visible(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc"})
        assert store.sizes(TRIAL) == {}
        with pytest.raises(FileNotFoundError):
            store.local(PUBLISHED)

    def test_staged_files_can_be_listed(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc", "deep/er/opt": b"12345"})
        assert store.sizes(STAGED) == {"model": 3, "deep/er/opt": 5}
        assert store.sizes(layout.STAGING) == {f"{TRIAL}.5.1/model": 3, f"{TRIAL}.5.1/deep/er/opt": 5}

    def test_an_empty_staging_folder_is_listed(self, store: Store) -> None:
        store.scratch(STAGED)
        assert store.sizes(layout.STAGING) == {f"{TRIAL}.5.1/": 0}

    # -- committing ----------------------------------------------------------------------------------------------------

    def test_commit_shows_the_files_and_the_manifest(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc", "deep/opt": b"12345"})
        store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        assert files_in(store, PUBLISHED) == {"model": 3, "deep/opt": 5}
        assert store.sizes(layout.STAGING) == {}
        local = store.local(PUBLISHED) / store.data_folder(STAGED)
        assert (local / "model").read_bytes() == b"abc"
        assert (local / "deep/opt").read_bytes() == b"12345"
        assert store.read(f"{PUBLISHED}/{layout.MANIFEST}") == manifest_of(store, STAGED)

    def test_an_empty_checkpoint_can_be_committed(self, store: Store) -> None:
        stage(store, STAGED, {})
        assert set(store.sizes(layout.STAGING)) == {f"{TRIAL}.5.1/"}
        store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        assert list(store.sizes(PUBLISHED)) == [layout.MANIFEST]
        assert store.sizes(layout.STAGING) == {}

    def test_a_second_commit_changes_nothing(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc"})
        for _ in range(3):
            store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
            assert files_in(store, PUBLISHED) == {"model": 3}
            assert store.sizes(layout.STAGING) == store.sizes(layout.TRASH) == {}

    def test_a_commit_replaces_what_was_there(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"old", "more": b"old"})
        store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        stage(store, SECOND, {"model": b"newer"})
        store.commit(SECOND, PUBLISHED, manifest_of(store, SECOND))
        assert files_in(store, PUBLISHED, SECOND) == {"model": 5}
        assert len(store.sizes(PUBLISHED)) == len({"model", layout.MANIFEST})
        assert store.sizes(layout.STAGING) == store.sizes(layout.TRASH) == {}

    def test_another_process_commits_what_was_persisted(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc"})
        driver: Store = pickle.loads(pickle.dumps(store))  # noqa: S301 - a pickle of our own making
        driver.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        assert files_in(store, PUBLISHED) == {"model": 3}

    def test_a_worker_that_was_given_up_changes_nothing_that_is_visible(self, store: Store) -> None:
        zombie = store.scratch(STAGED)
        stage(store, SECOND, {"model": b"right", "more": b"files"})
        store.commit(SECOND, PUBLISHED, manifest_of(store, SECOND))
        (zombie / "model").write_bytes(b"wrong")
        store.persist(STAGED, ["model"])
        assert files_in(store, PUBLISHED, SECOND) == {"model": 5, "more": 5}
        shown = store.local(PUBLISHED) / store.data_folder(SECOND)
        assert {path.name: path.read_bytes() for path in shown.glob("mo*")} == {"model": b"right", "more": b"files"}
        assert set(store.sizes(layout.STAGING)) == {f"{TRIAL}.5.1/model"}
        store.remove(STAGED)
        assert store.sizes(layout.STAGING) == {}
        assert files_in(store, PUBLISHED, SECOND) == {"model": 5, "more": 5}

    def test_what_is_published_is_staged_no_more(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc"})
        store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        assert store.sizes(STAGED) == {}
        store.remove(STAGED)
        assert files_in(store, PUBLISHED) == {"model": 3}

    def test_names_and_sizes_of_all_kinds(self, store: Store) -> None:
        large = bytes(range(256)) * (17 << 12)
        files = {
            "empty": b"",
            "large.bin": large,
            "deep/" * 20 + "er": b"deep",
            "Zürich 模型 é e\u0301 🌿": b"unicode",
            "a b/c+d&e=f;g,h:i@j!k$(l)#m?n%41*[o]~^{p}|<q>\"r'`": b"signs",
            ".hidden/-x": b"hidden",
            "d-7/model": b"looks like an attempt",
        }
        stage(store, STAGED, files)
        sizes = {name: len(data) for name, data in files.items()}
        assert store.sizes(STAGED) == sizes
        store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        assert files_in(store, PUBLISHED) == sizes
        local = store.local(PUBLISHED) / store.data_folder(STAGED)
        for name, data in files.items():
            assert (local / name).read_bytes() == data, name

    def test_a_failure_checkpoint_has_a_place_of_its_own(self, store: Store) -> None:
        staging, folder = staging_name(TRIAL, 5, 1, exact=False), layout.failure_path(TRIAL, 5, 1)
        stage(store, STAGED, {"model": b"abc"})
        stage(store, staging, {"model": b"as it was then"})
        store.commit(staging, folder, manifest_of(store, staging))
        store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        assert files_in(store, folder, staging) == {"model": 14}
        assert files_in(store, PUBLISHED) == {"model": 3}
        assert store.sizes(layout.STAGING) == {}

    def test_a_commit_to_anywhere_shows_the_files(self, store: Store) -> None:
        staging = f"{layout.STAGING}/copy~x"
        stage(store, staging, {"model": b"abc"})
        store.commit(staging, PUBLISHED, manifest_of(store, staging))
        assert files_in(store, PUBLISHED, staging) == {"model": 3}
        assert store.sizes(layout.STAGING) == {}

    def test_a_commit_of_nothing_says_so(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        assert store.sizes(TRIAL) == {}

    # -- removing ------------------------------------------------------------------------------------------------------

    def test_removed_is_gone_and_removing_again_is_fine(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc"})
        store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        for _ in range(2):
            store.remove(PUBLISHED)
            assert store.sizes(PUBLISHED) == {}
            assert store.sizes(layout.TRASH) == {}

    def test_staged_files_can_be_removed(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc"})
        store.remove(STAGED)
        assert store.sizes(layout.STAGING) == {}

    def test_removing_spares_what_only_begins_like_it(self, store: Store) -> None:
        longer = staging_name(TRIAL, 5, 11)
        stage(store, STAGED, {"model": b"abc"})
        stage(store, longer, {"model": b"abc"})
        store.remove(STAGED)
        assert store.sizes(longer) == {"model": 3}

    def test_deleting_spares_what_a_later_attempt_has_staged(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"old"})
        store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        stage(store, SECOND, {"model": b"newer"})
        store.remove(PUBLISHED)
        assert store.sizes(TRIAL) == {}
        store.commit(SECOND, PUBLISHED, manifest_of(store, SECOND))
        assert files_in(store, PUBLISHED, SECOND) == {"model": 5}

    def test_put_aside_keeps_all_of_them(self, store: Store) -> None:
        aside = quarantine_name(TRIAL, 5, 1)
        for data in (b"first", b"second one"):
            stage(store, STAGED, {"model": data})
            store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
            store.remove(PUBLISHED, aside=aside)
            assert store.sizes(PUBLISHED) == {}
        kept = store.sizes(layout.QUARANTINE)
        assert sorted(size for name, size in kept.items() if name.endswith("/model")) == [5, 10]

    # -- cloning -------------------------------------------------------------------------------------------------------

    def test_a_clone_is_independent_of_its_origin(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc", "deep/opt": b"12345"})
        store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        clone, folder = staging_name("other_00001", 9, 4), checkpoint_path("other_00001", 9)
        for _ in range(2):
            store.clone(PUBLISHED, clone)
            assert store.sizes(clone) == {"model": 3, "deep/opt": 5}
        store.remove(PUBLISHED)
        assert store.sizes(clone) == {"model": 3, "deep/opt": 5}
        store.commit(clone, folder, manifest_of(store, clone))
        assert files_in(store, folder, clone) == {"model": 3, "deep/opt": 5}
        assert (store.local(folder) / store.data_folder(clone) / "deep/opt").read_bytes() == b"12345"

    def test_a_clone_of_no_files_can_be_committed(self, store: Store) -> None:
        stage(store, STAGED, {})
        store.commit(STAGED, PUBLISHED, manifest_of(store, STAGED))
        clone, folder = staging_name(TRIAL, 9, 4), checkpoint_path(TRIAL, 9)
        store.clone(PUBLISHED, clone)
        store.commit(clone, folder, manifest_of(store, clone))
        assert files_in(store, folder, clone) == {}

    def test_a_clone_of_nothing_says_so(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.clone(PUBLISHED, STAGED)
        assert store.sizes(layout.STAGING) == {}

    # -- single files --------------------------------------------------------------------------------------------------

    def test_put_if_absent_creates_once(self, store: Store) -> None:
        assert store.put_if_absent("deep/key", b"mine") is PutOutcome.CREATED
        assert store.put_if_absent("deep/key", b"mine") is PutOutcome.MINE
        assert store.put_if_absent("deep/key", b"theirs") is PutOutcome.LOST
        assert store.read("deep/key") == b"mine"
        assert store.sizes("deep") == {"key": 4}

    def test_put_if_absent_has_one_winner(self, store: Store) -> None:
        outcomes = at_once(lambda number: store.put_if_absent("key", b"%d" % number))
        assert sorted(outcomes) == sorted([PutOutcome.CREATED] + [PutOutcome.LOST] * (_RACERS - 1))
        assert store.read("key") == b"%d" % outcomes.index(PutOutcome.CREATED)

    def test_replace_needs_the_tag_of_what_is_there(self, store: Store) -> None:
        assert store.replace("deep/lease", b"first", None) is PutOutcome.CREATED
        assert store.replace("deep/lease", b"other", None) is PutOutcome.LOST
        data, tag = store.read_tagged("deep/lease")
        assert (data, bool(tag)) == (b"first", True)
        assert store.read_tagged("deep/lease") == (data, tag)
        assert store.replace("deep/lease", b"second", tag) is PutOutcome.CREATED
        assert store.read_tagged("deep/lease")[1] != tag
        assert store.replace("deep/lease", b"second", tag) is PutOutcome.MINE
        assert store.replace("deep/lease", b"third", tag) is PutOutcome.LOST
        assert store.read("deep/lease") == b"second"
        assert store.sizes("deep") == {"lease": 6}

    def test_replace_of_what_is_gone_is_lost(self, store: Store) -> None:
        store.put_if_absent("deep/lease", b"first")
        _, tag = store.read_tagged("deep/lease")
        store.remove("deep")
        assert store.replace("deep/lease", b"second", tag) is PutOutcome.LOST
        assert store.sizes("deep") == {}
        with pytest.raises(FileNotFoundError):
            store.read_tagged("deep/lease")

    def test_replace_has_one_winner(self, store: Store) -> None:
        store.put_if_absent("key", b"first")
        _, tag = store.read_tagged("key")
        outcomes = at_once(lambda number: store.replace("key", b"%d" % number, tag))
        assert sorted(outcomes) == sorted([PutOutcome.CREATED] + [PutOutcome.LOST] * (_RACERS - 1))
        assert store.read("key") == b"%d" % outcomes.index(PutOutcome.CREATED)

    def test_reading_what_is_not_there_says_so(self, store: Store) -> None:
        store.put_if_absent("folder/key", b"x")
        for key in ("nothing", "folder", "folder/key/deeper"):
            with pytest.raises(FileNotFoundError):
                store.read(key)
        with pytest.raises(FileNotFoundError):
            store.local("nothing")
        assert store.sizes("nothing") == {}
        assert not store.has("nothing")
        assert not store.has("folder/key")
        assert store.has("folder")

    def test_probe_finds_conditions_honoured_and_leaves_nothing_behind(self, store: Store) -> None:
        assert probe(store) is True
        assert store.sizes(layout.STAGING) == {}

    def test_can_be_pickled(self, store: Store) -> None:
        assert pickle.loads(pickle.dumps(store)).uri == store.uri  # noqa: S301 - a pickle of our own making

    # -- the whole way -------------------------------------------------------------------------------------------------

    def test_a_checkpoint_goes_the_whole_way(self, store: Store) -> None:
        io = CheckpointIO(store)
        for iteration in (1, 2):
            (io.begin(TRIAL, iteration, 1) / "model").write_bytes(b"weights" * iteration)
            manifest = io.seal(TRIAL, iteration, 1, metadata={"metrics": {"loss": float("nan")}})
            io.publish(TRIAL, iteration, 1, manifest)
        assert io.visible(TRIAL) == [(1, 1), (2, 1)]
        assert (io.verify(TRIAL, 2) / "model").read_bytes() == b"weightsweights"
        io.delete(TRIAL, 1, 1)
        io.quarantine(TRIAL, 2, 1)
        assert io.visible(TRIAL) == []
        with pytest.raises(CheckpointNotFoundError):
            io.verify(TRIAL, 2)
        assert io.sweep() == []
