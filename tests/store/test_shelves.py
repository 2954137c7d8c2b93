"""The files of a store one by one, on each kind of store."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from tunekit.errors import StorageError
from tunekit.store import LocalStore, MemoryStore, Store
from tunekit.store.objects import ObjectStore
from tunekit.store.shelf import Shelf
from tunekit.store.shelves import COPYING, shelf_of
from tunekit.testing.faulty_objects import MemoryObjects

_COUNT = itertools.count()
_KEYS = ("a/file", f"{COPYING}trial/file")


def _local(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "target")


def _memory(_: Path) -> Store:
    return MemoryStore(f"memory://shelves/{next(_COUNT)}")


def _bucket(_: Path) -> Store:
    return ObjectStore(MemoryObjects(f"shelves-{next(_COUNT)}"))


@pytest.fixture(params=[_local, _memory, _bucket])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    make: Callable[[Path], Store] = request.param
    return shelf_of(make(tmp_path))


@pytest.mark.parametrize("key", _KEYS)
@pytest.mark.parametrize("num_bytes", [None, 3])
def test_a_source_that_has_gone_is_told_from_a_target_that_fails(
    shelf: Shelf, tmp_path: Path, key: str, num_bytes: int | None
) -> None:
    """Who copies a running experiment looks again when a file has been published or deleted meanwhile."""
    with pytest.raises(FileNotFoundError) as caught:
        shelf.put(key, tmp_path / "gone", lambda _: None, num_bytes=num_bytes)
    assert not isinstance(caught.value, StorageError)
    assert not any(name.endswith("file") for name in shelf.files())


@pytest.mark.parametrize("key", _KEYS)
def test_a_source_may_get_another_name_while_it_is_copied(tmp_path: Path, key: str) -> None:
    """A staged checkpoint is published by a rename of the folder around its files."""
    data = bytes(range(256)) * (3 << 12)  # three megabytes: more than is read at once
    source, published = tmp_path / "source", tmp_path / "published"
    source.write_bytes(data)
    shelf = shelf_of(_local(tmp_path))

    def rename(_: int) -> None:
        if source.exists():
            source.rename(published)

    assert shelf.put(key, source, rename) == xxhash.xxh3_128_hexdigest(data)
    with shelf.opened(key) as path:
        assert path.read_bytes() == data
    assert published.exists()


def test_a_target_that_fails_is_an_error_of_the_storage(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"data")
    shelf = shelf_of(_local(tmp_path))
    (tmp_path / "target" / "a").write_bytes(b"a file where a folder is needed")
    with pytest.raises(StorageError, match="could not write"):
        shelf.put("a/file", tmp_path / "source", lambda _: None)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    shelf = shelf_of(_local(tmp_path))
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(StorageError, match="could not read"):
        shelf.put("a/file", tmp_path / "link", lambda _: None)
