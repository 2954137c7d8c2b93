"""The handle to a checkpoint in a bucket of a real S3 server."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.checkpoint import Checkpoint
from tunekit.errors import CheckpointCorruptError, CheckpointNotFoundError
from tunekit.store import CheckpointIO, layout, open_store
from tunekit.store.joining import joined
from tunekit.store.objects import ObjectStore

pytestmark = pytest.mark.s3
TRIAL = "train_00007"


@pytest.fixture
def checkpoint(s3_uri: str) -> Checkpoint:
    io = CheckpointIO(open_store(s3_uri))
    folder = io.begin(TRIAL, 5, 2)
    (folder / "model").write_bytes(b"weights")
    (folder / "deep").mkdir()
    (folder / "deep" / "opt").write_bytes(b"moments")
    io.publish(TRIAL, 5, 2, io.seal(TRIAL, 5, 2, metadata={"metrics": {"loss": 0.5}}))
    return Checkpoint(joined(s3_uri, layout.checkpoint_path(TRIAL, 5)))


def test_it_is_opened_by_its_uri_alone(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """S003-5, S003-24: in another process too, and its manifest is all that is fetched for that."""
    handle = pickle.loads(pickle.dumps(checkpoint))
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "local", lambda self, folder: pytest.fail("fetched everything"))
        assert (handle.iteration, handle.metadata["metrics"], handle.uri) == (5, {"loss": 0.5}, checkpoint.path)
    handle.verify()
    with handle.as_directory() as folder:
        assert Path(folder, "deep", "opt").read_bytes() == b"moments"
        assert Path(folder, "model").read_bytes() == b"weights"
    assert not Path(folder).exists()


def test_it_comes_home_as_a_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    home = Checkpoint(checkpoint.to_directory(tmp_path / "home"))
    home.verify()
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == [layout.MANIFEST, "deep", "model"]
    assert home.metadata == checkpoint.metadata


def test_damage_and_absence_are_told_apart(checkpoint: Checkpoint, s3_uri: str) -> None:
    store = open_store(s3_uri)
    assert isinstance(store, ObjectStore)
    store.client.put(f"{layout.checkpoint_path(TRIAL, 5)}/d-2/model", b"Weights")
    with pytest.raises(CheckpointCorruptError, match="model: its content"), checkpoint.as_directory():
        pass
    with pytest.raises(CheckpointNotFoundError):
        Checkpoint(joined(s3_uri, layout.checkpoint_path(TRIAL, 6))).verify()


class Counting(tk.Trainable):
    """Dies once."""

    def setup(self, config: dict[str, Any]) -> None:
        self.steps = 0

    def step(self) -> dict[str, Any]:
        self.steps += 1
        if self.steps == 5 and tk.get_context().attempt == 1:
            raise RuntimeError("died on purpose")
        return {"steps": self.steps}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "steps").write_text(str(self.steps))

    def load_checkpoint(self, checkpoint: str) -> None:
        self.steps = int(Path(checkpoint, "steps").read_text())


def test_damage_in_a_bucket_ends_in_the_checkpoint_before(
    s3_uri: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S003-12, S003-24: as on a local disk, with one warning that names the file."""
    tuner = tk.Tuner(
        Counting,
        run_config=tk.RunConfig(
            name="sweep",
            storage_path=s3_uri,
            stop={"training_iteration": 6},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2),
            failure_config=tk.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )
    original = CheckpointIO.verify

    def damaged(io: CheckpointIO, trial_name: str, iteration: int) -> Path:
        assert isinstance(io.store, ObjectStore)
        if iteration == 4:
            io.store.client.put("Counting_00000/checkpoint_000004/d-1/steps", b"5")
        return original(io, trial_name, iteration)

    monkeypatch.setattr(CheckpointIO, "verify", damaged)
    (result,) = tk.inline(tuner)
    assert (result.metrics["steps"], result.error) == (6, None)
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "checkpoint_000004 is damaged: steps: its content" in warning
    assert warning.endswith("it is put aside, and the trial goes on from iteration 2")
    store = open_store(joined(s3_uri, "sweep"))
    assert [name for name in store.sizes(layout.QUARANTINE) if name.endswith(layout.MANIFEST)]
    assert CheckpointIO(store).visible("Counting_00000") == [(2, 1), (4, 3), (6, 3)]
    assert result.checkpoint is not None
    result.checkpoint.verify()
