"""tunekit's side of ``recovery.py``: a sweep of one trial that says when its code begins, reports once and waits.

Given a timeout for hangs, the trial goes on reporting, ten times a second.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import tunekit as tk


def train(config: dict[str, Any]) -> None:
    import os

    with open(config["lines"], "a") as lines:  # noqa: PTH123 - nothing is to be imported before the moment is taken
        lines.write(f"{os.getpid()} {time.time()}\n")
    tk.report({"x": 1.0})
    while config["reports_on"]:
        time.sleep(0.1)
        tk.report({"x": 1.0})
    time.sleep(600)


def main() -> None:
    folder = Path(sys.argv[1])
    hang_timeout_s = float(sys.argv[2]) if len(sys.argv) > 2 else None
    tuner = tk.Tuner(
        train,
        param_space={"lines": str(folder / "lines"), "reports_on": hang_timeout_s is not None},
        run_config=tk.RunConfig(
            name="one",
            storage_path=str(folder),
            failure_config=tk.FailureConfig(max_failures=-1, hang_timeout_s=hang_timeout_s),
            verbose=0,
        ),
    )
    (folder / "called").write_text(str(time.time()))
    tuner.fit()


if __name__ == "__main__":
    main()
