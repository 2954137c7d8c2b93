"""How long Ray Tune blocks a trial for a checkpoint: written into a temporary folder, and reported."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

NUM_TENSORS = 64


def train(config: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    items = int(config["mb"] * 1e6 / 4 / NUM_TENSORS)
    state = {f"layer_{index}": torch.randn(items) for index in range(NUM_TENSORS)}
    times = []
    for _ in range(config["repeats"]):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder, "state.pt"))
            tune.report({"loss": 0.0}, checkpoint=tune.Checkpoint.from_directory(folder))
        times.append(time.perf_counter() - began)
    Path(config["out"]).write_text(json.dumps(times))


def main() -> None:
    mb, repeats = float(sys.argv[1]), int(sys.argv[2])
    folder = tempfile.mkdtemp(prefix="bench-")
    ray_tmp = tempfile.mkdtemp(prefix="r", dir="/tmp")
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    try:
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=ray_tmp,
        )
        out = Path(folder, "times.json")
        tuner = tune.Tuner(
            train,
            param_space={"mb": mb, "repeats": repeats, "out": str(out)},
            run_config=tune.RunConfig(name="bench", storage_path=folder, verbose=0),
        )
        assert tuner.fit().num_errors == 0
        print(f"\nmeasured: {out.read_text()}")
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(ray_tmp, ignore_errors=True)


if __name__ == "__main__":
    main()
