"""A sweep of one trial whose code hangs when it is loaded by a worker, the first time.

Usage: late_sweep.py FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tunekit as tk


class Late:
    """What hangs while it is unpickled, as an import may that waits for a lock on a file."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return arrive, (self.folder,)


def arrive(folder: str) -> str:
    try:
        (Path(folder) / "has_been_loaded").touch(exist_ok=False)
    except FileExistsError:
        return "there"
    while True:
        time.sleep(0.01)


def make(folder: str) -> Callable[[dict[str, Any]], None]:
    late: Any = Late(folder)

    def train(config: dict[str, Any]) -> None:
        tk.report({"loss": 1.0, "late": late})

    return train


def main() -> None:
    folder = sys.argv[1]
    tuner = tk.Tuner(
        make(folder),
        param_space={},
        run_config=tk.RunConfig(
            name="late", storage_path=folder, failure_config=tk.FailureConfig(max_failures=-1, hang_timeout_s=5)
        ),
    )
    (result,) = tuner.fit()
    print(json.dumps({"losses": result.losses, "status": result.status, "late": result.metrics["late"]}))


if __name__ == "__main__":
    main()
