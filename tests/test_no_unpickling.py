"""Looking at an experiment runs no code of it, whatever was planted there; only a trial reads its own pickles.

The trap is an object that leaves a folder behind when it is unpickled.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import tunekit as tk
from tunekit.cli.main import cli
from tunekit.errors import SaveError, TunekitError
from tunekit.store import CheckpointIO, LocalStore, dicts, folders, layout
from tunekit.store import manifest as manifests
from tunekit.store.manifest import FileEntry

TRIAL = "Trapped_00000"


class Trap:
    """Says where it was unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (str(self.sprung), 0o777, True)


class Trapped(tk.Trainable):
    """Its state is a dict with an array and a trap."""

    def setup(self, config: dict[str, Any]) -> None:
        self.sprung = Path(config["sprung"])
        self.steps = 0

    def step(self) -> dict[str, Any]:
        self.steps += 1
        if self.steps == 3 and (self.sprung.parent / "fail once").exists():
            (self.sprung.parent / "fail once").unlink()
            raise RuntimeError("died on purpose")
        return {"steps": self.steps}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"steps": self.steps, "weights": np.arange(9.0), "state": Trap(self.sprung)}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.steps = checkpoint["steps"]


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """The folder that a sprung trap leaves behind."""
    return tmp_path / "sprung"


def run(root: Path, sprung: Path) -> Path:
    """Return the folder of an experiment that has ended."""
    tuner = tk.Tuner(
        Trapped,
        param_space={"sprung": str(sprung)},
        tune_config=tk.TuneConfig(metric="steps", mode="max"),
        run_config=tk.RunConfig(
            name="e",
            storage_path=str(root),
            stop={"training_iteration": 4},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2),
            failure_config=tk.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )
    assert tk.inline(tuner).num_errors == 0
    return root / "e"


def looks(experiment: Path) -> Iterator[Callable[[], object]]:
    """Yield every way to look at an experiment, to restore its driver, and to take it elsewhere."""
    scratch = Path(tempfile.mkdtemp(dir=experiment.parent))
    checkpoint_io = CheckpointIO(LocalStore(experiment))
    yield lambda: tk.Tuner.can_restore(experiment)
    yield lambda: see_results(tk.Tuner.restore(experiment, Trapped).get_results())
    yield lambda: see_results(tk.inline(tk.Tuner.restore(experiment, Trapped)))
    yield partial(checkpoint_io.visible, TRIAL)
    for path in sorted(experiment.glob(f"{TRIAL}/*")):
        checkpoint = tk.Checkpoint(path)
        yield from (partial(getattr, checkpoint, "iteration"), partial(getattr, checkpoint, "metadata"))
        yield from (checkpoint.verify, partial(checkpoint.to_directory, scratch / path.name))
        yield partial(use, checkpoint.as_directory)
        yield partial(checkpoint_io.verify, TRIAL, int(path.name[-6:]))
    for line in (["verify"], ["verify", "--json"], ["gc", "--dry-run"]):
        yield partial(command, *line, str(experiment))
    yield partial(command, "cp", "--verify", str(experiment), str(scratch / "copy"))


def command(*arguments: str) -> None:
    done = CliRunner().invoke(cli, arguments)
    if done.exit_code:
        raise done.exception if isinstance(done.exception, TunekitError) else TunekitError(done.output)


def see_results(results: tk.ResultGrid) -> None:
    results.get_best_result()
    results.get_dataframe()
    for result in results:
        assert repr(result)
        assert result.metrics is not None
        if result.checkpoint:
            assert result.checkpoint.metadata


def use(context: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
    with context():
        pass


def look_at_everything(experiment: Path) -> None:
    for look in looks(experiment):
        with contextlib.suppress(TunekitError):
            look()
    for path in experiment.glob(f"{TRIAL}/*"):
        with contextlib.suppress(TunekitError):
            tk.Checkpoint(path).to_dict()


def torch_like(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return buffer.getvalue()


def numpy_like(trap: Trap) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([trap], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def planted(sprung: Path) -> list[bytes]:
    """Return files that spring the trap when they are loaded: by pickle, as an old torch or NumPy does, by JSON."""
    data = pickle.dumps(Trap(sprung))
    text = f'{{"$pickle": "{data.hex()}", "py/reduce": ["os.makedirs", ["{sprung}"]]}}'.encode()
    return [data, pickle.dumps(Trap(sprung), protocol=0), torch_like(data), numpy_like(Trap(sprung)), text]


def test_the_traps_are_real(sprung: Path, tmp_path: Path) -> None:
    """Whoever does load them springs them; so the other tests can fail."""
    for data in planted(sprung)[:2]:
        pickle.loads(data)
        sprung.rmdir()
    np.load(io.BytesIO(planted(sprung)[3]), allow_pickle=True)
    sprung.rmdir()
    checkpoint = tk.Checkpoint.from_dict({"state": Trap(sprung)}, pickle=True)
    with pytest.raises(SaveError, match="can run any code"):
        checkpoint.to_dict()
    assert not sprung.exists()
    checkpoint.to_dict(pickle=True)
    assert sprung.exists()


def test_only_the_trial_itself_reads_its_pickles(tmp_path: Path, sprung: Path) -> None:
    """S003-7: it restores what it saved; a sweep that nothing happens to never does."""
    experiment = run(tmp_path / "quiet", sprung)
    for look in looks(experiment):
        look()
    with pytest.raises(SaveError, match="can run any code"):
        tk.Checkpoint(experiment / TRIAL / "checkpoint_000004").to_dict()
    assert not sprung.exists()
    (tmp_path / "fail once").touch()
    run(tmp_path / "restored", sprung)
    assert sprung.exists()


def test_a_pickle_in_place_of_any_file_is_never_loaded(tmp_path: Path, sprung: Path) -> None:
    """S003-7: each file of an experiment in turn, and all of them together."""
    experiment = run(tmp_path, sprung)
    files = [path for path in sorted(experiment.rglob("*")) if path.is_file()]
    assert len(files) > 7
    for data in (planted(sprung)[0], planted(sprung)[4]):
        for path in files:
            kept = path.read_bytes()
            path.write_bytes(data)
            look_at_everything(experiment)
            path.write_bytes(kept)
    for path in files:
        path.write_bytes(planted(sprung)[0])
    look_at_everything(experiment)
    assert not sprung.exists()


def test_a_pickle_with_a_manifest_that_fits_is_never_loaded(tmp_path: Path, sprung: Path) -> None:
    """Hashes protect from accidents and not from people: who can write a file can write its manifest too."""
    experiment = run(tmp_path, sprung)
    for data in planted(sprung):
        for home in sorted(experiment.glob(f"{TRIAL}/checkpoint_*")):
            for name in (dicts.DATA, dicts.TENSORS, dicts.PICKLE, "extra.pt", "__init__.py", "conftest.py"):
                (home / name).write_bytes(data)
            reseal(home)
            tk.Checkpoint(home).verify()
        look_at_everything(experiment)
    assert not sprung.exists()


def reseal(home: Path) -> None:
    """Make the manifest fit the files."""
    document = manifests.parse((home / layout.MANIFEST).read_bytes(), "")
    names = sorted(path.name for path in home.iterdir() if path.name != layout.MANIFEST)
    entries = [FileEntry(name, *folders.digest(home / name)) for name in names]
    key = layout.CheckpointKey(document["trial_name"], document["iteration"], document["attempt"])
    (home / layout.MANIFEST).write_bytes(manifests.encode(manifests.seal(key, entries, document)))


def test_copying_by_hand_runs_nothing(tmp_path: Path, sprung: Path) -> None:
    experiment = run(tmp_path, sprung)
    moved = shutil.copytree(experiment, tmp_path / "elsewhere" / "e")
    look_at_everything(moved)
    assert not sprung.exists()
