"""The handle that user code holds: folders, dicts, metadata, and nothing that runs code unasked."""

from __future__ import annotations

import gc
import itertools
import math
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tunekit as tk
from tunekit.checkpoint import Checkpoint
from tunekit.errors import (
    CheckpointCorruptError,
    CheckpointNotFoundError,
    ConfigError,
    ConfigTypeError,
    SaveError,
    StorageError,
)
from tunekit.store import CheckpointIO, dicts, finding, layout, open_store

TRIAL = "train_00007"
_COUNT = itertools.count()


@pytest.fixture(params=["local", "memory"])
def io(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointIO:
    where = tmp_path / "experiment" if request.param == "local" else f"memory://checkpoint/{next(_COUNT)}"
    return CheckpointIO(open_store(where))


def publish(io: CheckpointIO, iteration: int = 5) -> Checkpoint:
    folder = io.begin(TRIAL, iteration, 2)
    (folder / "model").write_bytes(b"weights")
    (folder / "deep").mkdir()
    (folder / "deep" / "opt").write_bytes(b"moments")
    metadata = {"metrics": {"loss": float("nan")}, "reason": "periodic", "score": 0.5}
    io.publish(TRIAL, iteration, 2, io.seal(TRIAL, iteration, 2, metadata=metadata))
    return Checkpoint(f"{io.store.uri}/{layout.checkpoint_path(TRIAL, iteration)}")


# -- a published checkpoint, by its path alone -------------------------------------------------------------------------


def test_it_knows_what_it_is(io: CheckpointIO) -> None:
    checkpoint = publish(io)
    assert checkpoint.iteration == 5
    assert math.isnan(checkpoint.metadata["metrics"]["loss"])
    assert {name: checkpoint.metadata[name] for name in ("trial_name", "attempt", "reason", "score")} == {
        "trial_name": TRIAL, "attempt": 2, "reason": "periodic", "score": 0.5,
    }  # fmt: skip
    checkpoint.verify()


def test_its_files_are_there(io: CheckpointIO) -> None:
    with publish(io).as_directory() as folder:
        assert Path(folder, "deep", "opt").read_bytes() == b"moments"


def test_a_local_one_is_not_copied(tmp_path: Path) -> None:
    checkpoint = publish(CheckpointIO(open_store(tmp_path)))
    with checkpoint.as_directory() as folder:
        assert folder == checkpoint.path == str(tmp_path / TRIAL / "checkpoint_000005")


def test_a_copy_is_a_checkpoint_too(io: CheckpointIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S003-5: it can be taken anywhere and still knows what it is."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    copy = Checkpoint(publish(io).to_directory(tmp_path / "deep" / "copy"))
    assert (copy.path, copy.iteration) == (str(tmp_path / "deep" / "copy"), 5)
    copy.verify()
    assert publish(io, 6).to_directory() != publish(io, 7).to_directory()


def test_damage_is_noticed_while_copying(tmp_path: Path) -> None:
    checkpoint = publish(CheckpointIO(open_store(tmp_path / "e")))
    Path(checkpoint.path, "model").write_bytes(b"Weights")
    with pytest.raises(CheckpointCorruptError, match="model"):
        checkpoint.to_directory(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(CheckpointCorruptError, match="model"):
        checkpoint.verify()
    Path(checkpoint.path, layout.MANIFEST).write_bytes(b"junk")
    with pytest.raises(CheckpointCorruptError, match="MANIFEST"):
        assert checkpoint.iteration


def test_copying_over_something_is_refused(io: CheckpointIO, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(SaveError, match="is not empty"):
        publish(io).to_directory(tmp_path)
    with pytest.raises(StorageError, match="could not write to"):
        publish(io, 6).to_directory(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_copy_into_the_checkpoint_itself_is_refused(tmp_path: Path) -> None:
    """It would have no end, and what it left would damage the checkpoint."""
    checkpoint = publish(CheckpointIO(open_store(tmp_path / "exp")))
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(checkpoint.path)
    for source, target in (
        (checkpoint, Path(checkpoint.path, "copy")),
        (checkpoint, tmp_path / "link" / "deep" / "er"),
        (Checkpoint(tmp_path / "mine"), tmp_path / "mine" / "copy"),
    ):
        with pytest.raises(SaveError, match="lies in the checkpoint itself"):
            source.to_directory(target)
    checkpoint.verify()
    assert list((tmp_path / "mine").iterdir()) == []


def test_one_that_is_gone_says_so(io: CheckpointIO, tmp_path: Path) -> None:
    checkpoint = publish(io)
    io.delete(TRIAL, 5, 2)
    for use in (checkpoint.verify, checkpoint.to_dict, checkpoint.to_directory, lambda: checkpoint.iteration):
        with pytest.raises(CheckpointNotFoundError, match=r"there is no checkpoint at .*checkpoint_000005") as caught:
            use()
        assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("look", ["to_dict", "to_directory", "verify"])
def test_one_that_is_deleted_while_it_is_read_is_gone_and_not_damaged(
    io: CheckpointIO, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """Retention may delete what somebody looks at. To be told of damage would make people search for a fault."""
    checkpoint = publish(io)
    found = finding.find(checkpoint.path)
    io.delete(TRIAL, 5, 2)
    monkeypatch.setattr("tunekit.checkpoint.find", lambda _: found)
    with pytest.raises(CheckpointNotFoundError, match="retention"):
        getattr(checkpoint, look)()


def test_frameworks_write_what_they_like(io: CheckpointIO) -> None:
    """S003-6: a checkpoint is a folder, so whatever a framework saves and loads comes back as it was."""
    import torch

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    folder = io.begin(TRIAL, 5, 1)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "torch.pt")
    (folder / "scaler.pkl").write_bytes(pickle.dumps({"mean": (0.1, 0.2)}))
    io.publish(TRIAL, 5, 1, io.seal(TRIAL, 5, 1, metadata={}))
    with Checkpoint(f"{io.store.uri}/{layout.checkpoint_path(TRIAL, 5)}").as_directory() as path:
        state = torch.load(Path(path, "torch.pt"), weights_only=True)
        assert pickle.loads(Path(path, "scaler.pkl").read_bytes()) == {"mean": (0.1, 0.2)}
    assert all(torch.equal(state["model"][name], tensor) for name, tensor in model.state_dict().items())
    moments = optimizer.state_dict()["state"][0]
    assert all(torch.equal(state["optimizer"]["state"][0][name], moments[name]) for name in moments)


def test_the_files_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    """As on an object store; the handle may be to the files or to the manifest above them."""
    from tunekit.store import manifest as manifests

    io = CheckpointIO(open_store(tmp_path))
    home = Path(publish(io).path)
    (home / "d-2").mkdir()
    (home / "model").rename(home / "d-2" / "model")
    (home / "deep").rename(home / "d-2" / "deep")
    entries = manifests.decode((home / layout.MANIFEST).read_bytes(), "").files
    document = {**manifests.seal(layout.CheckpointKey(TRIAL, 5, 2), entries, {}), "data": "d-2"}
    document["digest"] = manifests.digest(document)
    (home / layout.MANIFEST).write_bytes(manifests.encode(document))
    for handle in (Checkpoint(home), Checkpoint(home / "d-2"), Checkpoint(io.verify(TRIAL, 5))):
        handle.verify()
        assert handle.iteration == 5
        with handle.as_directory() as folder:
            assert Path(folder, "model").read_bytes() == b"weights"
    assert Path(Checkpoint(home).to_directory(tmp_path / "copy"), "deep", "opt").read_bytes() == b"moments"


# -- a folder of the user ----------------------------------------------------------------------------------------------


def test_a_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    checkpoint = tk.Checkpoint.from_directory("mine")
    monkeypatch.chdir("/")
    assert checkpoint.path == str(tmp_path / "mine")
    assert (checkpoint.move, checkpoint.iteration, checkpoint.metadata) == (False, None, {})
    assert Checkpoint.from_directory(tmp_path / "mine", move=True).move is True
    with checkpoint.as_directory() as folder:
        assert folder == checkpoint.path
    copy = checkpoint.to_directory(tmp_path / "copy")
    assert [path.name for path in Path(copy).iterdir()] == ["model"]


def test_a_stranger_beside_the_folder_is_no_business_of_ours(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / layout.MANIFEST).write_text("of another program")
    assert Checkpoint(tmp_path / "mine").iteration is None


def test_what_is_no_folder_is_refused_at_once(tmp_path: Path) -> None:
    """S003-3: reporting a folder that is not there fails where it is made."""
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointNotFoundError, match="does not exist"):
        Checkpoint.from_directory(tmp_path / "nothing")
    with pytest.raises(CheckpointNotFoundError, match="is not a folder"):
        Checkpoint.from_directory(tmp_path / "file")
    with pytest.raises(ConfigError, match="path: got 'nosuch://x'"):
        Checkpoint("nosuch://x")
    with pytest.raises(ConfigTypeError, match="path: got None"):
        Checkpoint(None)  # type: ignore[arg-type]


def test_handles_are_values(tmp_path: Path) -> None:
    one = Checkpoint.from_directory(tmp_path, move=True)
    other = pickle.loads(pickle.dumps(one))
    assert (one == other, hash(one) == hash(other), other.move) == (True, True, True)
    assert one != Checkpoint(tmp_path / "other")
    assert one != str(tmp_path)
    assert repr(one) == f"Checkpoint({str(tmp_path)!r})"


# -- a dict ------------------------------------------------------------------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text() | st.integers(0, 9), plain, max_size=4))
def test_a_dict_comes_back_alike(data: dict[Any, Any]) -> None:
    """S003-3: tuples, bytes, empty lists, keys that are no text."""
    back = Checkpoint.from_dict(data).to_dict()
    assert back == data
    assert repr(back) == repr(data)


def test_arrays_come_back_alike() -> None:
    import numpy as np

    data = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "deep": [(np.int8(3), np.zeros(0))], "nan": math.nan}
    back = Checkpoint.from_dict(data).to_dict()
    assert (back["w"] == data["w"]).all()
    assert back["w"].dtype == np.float32
    assert (type(back["deep"][0]), type(back["deep"][0][0]), back["deep"][0][1].shape) == (tuple, np.int8, (0,))
    assert math.isnan(back["nan"])


@pytest.mark.parametrize("value", [object(), {1, 2}, print, 1j], ids=repr)
def test_other_values_are_refused_by_their_place(value: object) -> None:
    with pytest.raises(SaveError, match="model/layers/1: got builtins") as caught:
        Checkpoint.from_dict({"model": {"layers": [1, value]}})
    assert caught.value.fields["key"] == "model/layers/1"
    assert "pickle=True" in caught.value.hint


def test_arrays_of_objects_are_refused() -> None:
    import numpy as np

    with pytest.raises(SaveError, match=r"w: got numpy\.ndarray"):
        Checkpoint.from_dict({"w": np.array([object()])})


def test_pickles_are_written_and_read_only_when_asked_for() -> None:
    checkpoint = Checkpoint.from_dict({"z": 1j}, pickle=True)
    with pytest.raises(SaveError, match="can run any code"):
        checkpoint.to_dict()
    assert checkpoint.to_dict(pickle=True) == {"z": 1j}
    with pytest.raises(SaveError, match="z: it cannot be pickled"):
        Checkpoint.from_dict({"z": lambda: None}, pickle=True)
    with pytest.raises(SaveError, match="got list, but must be a dict"):
        Checkpoint.from_dict([1])  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"tree": {}}', b'{"tree": [5], "leaves": []}', b"\xff"])
def test_damaged_dicts_are_errors(content: bytes) -> None:
    checkpoint = Checkpoint.from_dict({"a": 1})
    Path(checkpoint.path, dicts.DATA).write_bytes(content)
    with pytest.raises(CheckpointCorruptError):
        checkpoint.to_dict()


def test_a_folder_that_is_no_dict_says_so(io: CheckpointIO) -> None:
    with pytest.raises(CheckpointCorruptError, match=r"dict\.json is missing") as caught:
        publish(io).to_dict()
    assert "as_directory" in caught.value.hint


def test_a_dict_goes_the_whole_way(io: CheckpointIO) -> None:
    checkpoint = Checkpoint.from_dict({"epoch": 3, "blob": b"x"})
    folder = Path(checkpoint.path)
    io.adopt(folder, TRIAL, 5, 1, move=checkpoint.move)
    io.publish(TRIAL, 5, 1, io.seal(TRIAL, 5, 1, metadata={}))
    assert not folder.exists()
    assert Checkpoint(io.verify(TRIAL, 5)).to_dict() == {"epoch": 3, "blob": b"x"}


def test_a_dict_that_is_never_reported_leaves_nothing_behind() -> None:
    checkpoint = Checkpoint.from_dict({"epoch": 3})
    folder = Path(checkpoint.path)
    assert folder.exists()
    del checkpoint
    gc.collect()
    assert not folder.exists()
