"""Every store of ours under the published suite."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tunekit.store import LocalStore, MemoryStore, Store, open_store
from tunekit.store.fsspec_client import FsspecClient
from tunekit.store.objects import ObjectStore
from tunekit.testing.faulty_objects import MemoryObjects
from tunekit.testing.faulty_store import FaultyStore
from tunekit.testing.store_contract import StoreContract

_COUNT = itertools.count()


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "new")


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore(f"memory://contract/{next(_COUNT)}")


class TestMemoryStoreAtTheRoot(StoreContract):
    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> Store:
        monkeypatch.setattr("tunekit.store.memory._MEMORY.root", {})
        return open_store("memory://")


class TestFaultyStoreWithoutFaults(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FaultyStore(LocalStore(tmp_path / "new"))


class TestObjectStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return ObjectStore(MemoryObjects(f"contract-{next(_COUNT)}"))


class TestObjectStoreThroughFsspec(StoreContract):
    """No driver of fsspec can decide a race, which the client says and the user is told; the rest holds."""

    def test_put_if_absent_has_one_winner(self, store: Store) -> None:
        assert isinstance(store, ObjectStore)
        assert not store.client.atomic

    def test_replace_has_one_winner(self, store: Store) -> None:
        assert isinstance(store, ObjectStore)
        assert not store.client.atomic

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return ObjectStore(FsspecClient(f"dir::file://{tmp_path}/a b"))
