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
PUBLISHED = checkpoint_path(TRIAL, 5)


def stage(store: Store, staging: str, files: dict[str, bytes]) -> None:
    """Write files as user code does, and make them durable."""
    folder = store.scratch(staging)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    store.persist(staging, sorted(files))


def at_once(put: Callable[[int], PutOutcome]) -> list[PutOutcome]:
    """Return what eight callers are answered who put at the same moment."""
    barrier = threading.Barrier(8)

    def wait_and_put(number: int) -> PutOutcome:
        barrier.wait()
        return put(number)

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(wait_and_put, range(8)))


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
        store.commit(STAGED, PUBLISHED, b"manifest")
        assert store.sizes(PUBLISHED) == {"model": 3, "deep/opt": 5, layout.MANIFEST: 8}
        assert store.sizes(layout.STAGING) == {}
        local = store.local(PUBLISHED)
        assert (local / "model").read_bytes() == b"abc"
        assert (local / "deep/opt").read_bytes() == b"12345"
        assert store.read(f"{PUBLISHED}/{layout.MANIFEST}") == b"manifest"

    def test_an_empty_checkpoint_can_be_committed(self, store: Store) -> None:
        stage(store, STAGED, {})
        store.commit(STAGED, PUBLISHED, b"manifest")
        assert store.sizes(PUBLISHED) == {layout.MANIFEST: 8}

    def test_a_second_commit_changes_nothing(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc"})
        store.commit(STAGED, PUBLISHED, b"manifest")
        store.commit(STAGED, PUBLISHED, b"manifest")
        assert store.sizes(PUBLISHED) == {"model": 3, layout.MANIFEST: 8}

    def test_a_commit_replaces_what_was_there(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"old", "more": b"old"})
        store.commit(STAGED, PUBLISHED, b"old")
        other = staging_name(TRIAL, 5, 2)
        stage(store, other, {"model": b"newer"})
        store.commit(other, PUBLISHED, b"new")
        assert store.sizes(PUBLISHED) == {"model": 5, layout.MANIFEST: 3}
        assert store.sizes(layout.TRASH) == {}

    def test_a_commit_of_nothing_says_so(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.commit(STAGED, PUBLISHED, b"manifest")
        assert store.sizes(TRIAL) == {}

    # -- removing ------------------------------------------------------------------------------------------------------

    def test_removed_is_gone_and_removing_again_is_fine(self, store: Store) -> None:
        stage(store, STAGED, {"model": b"abc"})
        store.commit(STAGED, PUBLISHED, b"manifest")
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

    def test_put_aside_keeps_all_of_them(self, store: Store) -> None:
        aside = quarantine_name(TRIAL, 5, 1)
        for data in (b"first", b"second one"):
            stage(store, STAGED, {"model": data})
            store.commit(STAGED, PUBLISHED, b"manifest")
            store.remove(PUBLISHED, aside=aside)
            assert store.sizes(PUBLISHED) == {}
        kept = store.sizes(layout.QUARANTINE)
        assert sorted(size for name, size in kept.items() if name.endswith("/model")) == [5, 10]

    # -- single files --------------------------------------------------------------------------------------------------

    def test_put_if_absent_creates_once(self, store: Store) -> None:
        assert store.put_if_absent("deep/key", b"mine") is PutOutcome.CREATED
        assert store.put_if_absent("deep/key", b"mine") is PutOutcome.MINE
        assert store.put_if_absent("deep/key", b"theirs") is PutOutcome.LOST
        assert store.read("deep/key") == b"mine"
        assert store.sizes("deep") == {"key": 4}

    def test_put_if_absent_has_one_winner(self, store: Store) -> None:
        outcomes = at_once(lambda number: store.put_if_absent("key", b"%d" % number))
        assert sorted(outcomes) == sorted([PutOutcome.CREATED] + [PutOutcome.LOST] * 7)
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
        assert sorted(outcomes) == sorted([PutOutcome.CREATED] + [PutOutcome.LOST] * 7)
        assert store.read("key") == b"%d" % outcomes.index(PutOutcome.CREATED)

    def test_reading_what_is_not_there_says_so(self, store: Store) -> None:
        store.put_if_absent("folder/key", b"x")
        for key in ("nothing", "folder", "folder/key/deeper"):
            with pytest.raises(FileNotFoundError):
                store.read(key)
        with pytest.raises(FileNotFoundError):
            store.local("nothing")
        assert store.sizes("nothing") == {}

    def test_probe_leaves_nothing_behind(self, store: Store) -> None:
        probe(store)
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
