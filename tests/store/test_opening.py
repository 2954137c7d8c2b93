"""From what a user writes as storage_path to a store, or to an error before anything happens."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import pytest

from tunekit.errors import ConfigError, ConfigTypeError, StorageError
from tunekit.store import LocalStore, MemoryStore, open_store, probe, resolve
from tunekit.store.ops import Ops
from tunekit.testing.faulty_store import Faults, FaultyOps, FaultyStore


def test_relative_paths_are_resolved_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sweeps/digits")
    monkeypatch.chdir("/")
    assert store.uri == str(tmp_path / "sweeps/digits")
    assert Path(store.uri).is_dir()


def test_the_forms_of_a_local_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    expected = str(tmp_path / "a b")
    forms: list[str | Path] = ["~/a b", "a b", "a/../a b", Path("a b"), tmp_path / "a b", f"file://{tmp_path}/a%20b"]
    assert [resolve(form) for form in forms] == [expected] * len(forms)


def test_an_experiment_folder_is_private(tmp_path: Path) -> None:
    open_store(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_new_folder_is_durable(tmp_path: Path) -> None:
    ops = FaultyOps()
    LocalStore(tmp_path / "a" / "b", ops=ops)
    assert ops.faults.log == ["mkdir a", f"fsync {tmp_path.name}", "mkdir b", "fsync a"]
    ops.close()


def test_reading_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"could not open .*new: No such file"):
        open_store(tmp_path / "new", create=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("uri", ["nosuch://x", "NoSuch://host/x", "file://host/x"])
def test_other_schemes_are_refused_naming_what_is_supported(uri: str) -> None:
    """S003-24."""
    with pytest.raises(ConfigError, match=r"storage_path: got .* but must be a local path, file://") as caught:
        open_store(uri)
    assert "hint" in str(caught.value)


@pytest.mark.parametrize("path", ["", "  ", "a\0b"])
def test_paths_that_name_nothing_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="storage_path: got"):
        open_store(path)


@pytest.mark.parametrize("path", [None, 5, b"bytes", ["a"], os.fsencode])
def test_other_types_are_refused(path: object) -> None:
    with pytest.raises(ConfigTypeError, match="storage_path: got"):
        open_store(path)  # type: ignore[arg-type]


def test_a_file_is_no_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in ("file", "file/inside"):
        with pytest.raises(StorageError, match="Not a directory") as caught:
            open_store(tmp_path / path)
        assert "another name or storage_path" in caught.value.hint
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not create"):
        LocalStore(tmp_path / "new", ops=FaultyOps(Faults(fail_at=1)))
    with pytest.raises(StorageError, match="File name too long"):
        open_store(tmp_path / ("x" * 300))


def test_a_folder_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere, so permissions are no test
    with pytest.raises(StorageError, match="Permission denied") as caught:
        open_store(tmp_path)
    assert "permissions" in caught.value.hint


def test_probing_finds_storage_that_takes_no_writes(tmp_path: Path) -> None:
    ops = FaultyOps()
    store = LocalStore(tmp_path / "e", ops=ops)
    ops.faults = Faults(fail_at=1, persistent=True)
    with pytest.raises(StorageError, match=r"could not write to .*: a test file was not stored"):
        probe(store)
    ops.close()


def test_probing_finds_storage_that_gives_back_something_else() -> None:
    class Liar(FaultyStore):
        def read(self, key: str) -> bytes:
            return b"something else"

    with pytest.raises(StorageError, match="outcome: created"):
        probe(Liar(MemoryStore("memory://liar")))


def test_a_refused_probe_at_a_store_of_calls() -> None:
    store = FaultyStore(MemoryStore("memory://refused"), Faults(fail_at=1))
    with pytest.raises(StorageError, match="outcome: unknown"):
        probe(store)


def test_memory_is_shared_by_uri() -> None:
    open_store("memory://shared/x/").put_if_absent("key", b"1")
    assert open_store("memory://shared/x").read("key") == b"1"
    assert open_store("memory://shared").read("x/key") == b"1"
    assert open_store("memory://other").sizes("x") == {}


def test_a_disk_without_hard_links_creates_once(tmp_path: Path) -> None:
    class NoLinks(Ops):
        def link(self, source: Path, target: Path) -> None:
            raise PermissionError(1, "Operation not permitted")

    store = LocalStore(tmp_path / "e", ops=NoLinks())
    assert [store.put_if_absent("key", data) for data in (b"a", b"a", b"b")] == ["created", "mine", "lost"]
    assert store.sizes("../e") == {"key": 1}


def test_a_lost_reply_to_a_link_is_ours(tmp_path: Path) -> None:
    class LostReply(Ops):
        def link(self, source: Path, target: Path) -> None:
            super().link(source, target)
            raise FileExistsError(17, "File exists")

    assert LocalStore(tmp_path / "e", ops=LostReply()).put_if_absent("key", b"a") == "created"


def test_what_fsspec_knows_is_storage_for_one_driver(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """S003-24."""
    store = open_store(f"local://{tmp_path}/x/")
    assert "Only one driver is safe there" in caplog.text
    assert store.uri == f"local://{tmp_path}/x"
    store.put_if_absent("deep/key", b"1")
    assert (tmp_path / "x/deep/key").read_bytes() == b"1"
    again = pickle.loads(pickle.dumps(store))
    again.remove("deep")
    assert list((tmp_path / "x").iterdir()) == []


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.core

    def missing(uri: str) -> None:
        raise ImportError("Please install paramiko to use SFTP")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(StorageError, match=r"could not open sftp://host/x/: Please install paramiko"):
        open_store("sftp://host/x")
