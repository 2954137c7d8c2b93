"""A checkpoint that travels through Ray's object store, and leaves no file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import ray

import tunekit as tk
from tunekit.errors import ValidationError

pytestmark = pytest.mark.ray
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class WithArray(tk.Trainable):
    """Leaves temporary files, and is large enough to be staged in a buffer."""

    def setup(self, config: dict[str, Any]) -> None:
        self.value = np.zeros(100_000)
        os.close(tempfile.mkstemp()[0])

    def step(self) -> dict[str, Any]:
        self.value += 1
        return {"value": self.value[0]}

    def save_checkpoint(self, path: str) -> Any:
        return {"value": self.value}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value = checkpoint["value"]


class InFolder(WithArray):
    """Finds what it has written, and cannot use it."""

    def save_checkpoint(self, path: str) -> Any:
        Path(path, "inner").mkdir()
        np.save(Path(path, "inner", "value.npy"), self.value)

    def load_checkpoint(self, checkpoint: Any) -> None:
        raise ValueError(f"found {np.load(Path(checkpoint, 'inner', 'value.npy'))[0]}")


def test_no_file_is_left_and_ray_is_as_it_was(tmp_path: Path) -> None:
    """S003-17, R8: Ray 2.60 has no such call; storage unchanged, no temporary file, Ray joined or started.

    In a process of its own, since every place for files but Ray's own is below one folder there.
    """
    for name in ("home", "temporary", "work"):
        (tmp_path / name).mkdir()
    ray_folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # sockets have short paths
    places = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary"), "RAY_TMPDIR": ray_folder}
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    try:
        done = subprocess.run(
            [sys.executable, __file__, str(tmp_path)],
            cwd=tmp_path / "work",
            env={**env, **places, "RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(ray_folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr


def main(folder: Path) -> None:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        before = listing(folder)
        assert tk.validate_save_restore(WithArray, steps=1, use_object_store=True) is True
        with pytest.raises(ValidationError) as caught:
            tk.validate_save_restore(InFolder, steps=1, use_object_store=True)
        assert (caught.value.problem, caught.value.found) == ("exception", "ValueError: found 1.0")
        assert listing(folder) == before
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
