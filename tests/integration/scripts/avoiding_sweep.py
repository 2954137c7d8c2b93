"""A sweep on a cluster of two nodes, one of which fails every trial.

Usage: avoiding_sweep.py FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import ray

import tunekit as tk


def train(config: dict[str, Any]) -> None:
    here = ray.get_runtime_context().get_node_id()
    tk.report({"loss": config["x"]})
    if here == config["bad"]:
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
    time.sleep(0.5)
    tk.report({"loss": config["x"]})


def main() -> None:
    ray.init(log_to_driver=False)
    rules = [tk.FailureRule("uncorrectable ECC", "avoid_node", max_times=1)]
    tuner = tk.Tuner(
        train,
        param_space={"bad": ray.get_runtime_context().get_node_id(), "x": tk.uniform(0, 1)},
        tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=4, seed=1),
        run_config=tk.RunConfig(
            name="avoiding", storage_path=sys.argv[1], failure_config=tk.FailureConfig(rules=rules)
        ),
    )
    results = tuner.fit()
    print(json.dumps({"errors": results.num_errors, "losses": results.losses}))


if __name__ == "__main__":
    main()
