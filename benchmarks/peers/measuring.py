"""What the three systems' scripts share: how Ray is started, and how a measurement is said."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray

MARK = "measured: "
"""Begins the line that holds what a script measured."""
NUM_CPUS = 2
METRIC = "loss"

Case = Callable[[int, Path], dict[str, float]]
"""Takes a size and an empty folder, and returns measurements."""


def start_ray() -> None:
    """Start the same Ray for all: this machine only, two CPUs, no dashboard."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(
        address="local",
        num_cpus=NUM_CPUS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=os.environ["BENCH_RAY_TMP"],
    )


def rss_mb() -> float:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_rss_mb() -> float:
    """Return the most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@contextlib.contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Give a list that holds the seconds spent inside, afterwards."""
    spent: list[float] = []
    began = time.perf_counter()
    yield spent
    spent.append(time.perf_counter() - began)


def median_call_ms(num_calls: int = 1000) -> float:
    """Return how long a synchronous call of a warm actor takes, in milliseconds."""

    class Echo:
        def call(self, value: int) -> int:
            return value

    actor: Any = ray.remote(num_cpus=0)(Echo)
    echo = actor.remote()
    ray.get([echo.call.remote(0) for _ in range(100)])
    times = []
    for index in range(num_calls):
        with stopwatch() as spent:
            ray.get(echo.call.remote(index))
        times.append(spent[0])
    return statistics.median(times) * 1000


def run_case(cases: dict[str, Case]) -> None:
    """Run the case that the command line names and print what it measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=sorted(cases))
    parser.add_argument("size", type=int)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ["BENCH_RAY_TMP"] = ray_tmp = tempfile.mkdtemp(prefix="r", dir="/tmp")
    try:
        found = cases[options.case](options.size, folder)
        sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")
        sys.stdout.flush()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(ray_tmp, ignore_errors=True)


def rate(count: int, spent: list[float], **more: Any) -> dict[str, float]:
    """Return a measurement of so many things in so many seconds."""
    return {"per_s": count / spent[0], "seconds": spent[0], **more}
