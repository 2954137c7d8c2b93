"""How soon a sweep computes again after a death, beside what bare Ray takes for the same, in one run.

Three deaths and a standstill, on one living cluster of this machine:

* a worker: from its SIGKILL to the first line of user code of its trial's next attempt; for bare Ray to the first line
  of a method of a new actor, which is asked for as soon as Ray has said that the old one is dead;
* a driver: from the start of the next one's process to the first line of user code of a trial that goes on; for bare
  Ray to the first line of a method of an actor, in a process that imports Ray and nothing else;
* a driver, without the start of Python: from the call of ``fit()``, which imports Ray, and of ``ray.init()``, which
  does not;
* a worker that stands still, whose trial reports ten times a second: from its SIGSTOP to the first line of user code
  of its trial's next attempt, less ``hang_timeout_s``. Bare Ray does not look for such a worker.

The trainable imports nothing. The two take turns, and the medians are shown; of standstills the longest as well.

    python benchmarks/recovery.py [--quick] [--repeats N] [--json FILE] [--update docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIDES = {"tunekit": "recovery_tunekit", "bare Ray": "recovery_bare"}
BEGIN, END = "<!-- recovery: begin -->", "<!-- recovery: end -->"
LIMIT_S = 120.0
HANG_TIMEOUT_S = 5.0
HANG = "SIGSTOP of a worker → first user line of the next attempt, less `hang_timeout_s`, s"
ROWS = {
    "worker": "SIGKILL of a worker → first user line of the next attempt, s",
    "driver": "new driver process on a living cluster → first user line, s",
    "call": "the same from its call of `fit()` or `ray.init()`, s",
}


class Head:
    """A Ray head that outlives the drivers."""

    def __init__(self, ray_tmp: str) -> None:
        code = (
            "import ray, sys\n"
            f"c = ray.init(address='local', num_cpus=2, include_dashboard=False, _temp_dir={ray_tmp!r})\n"
            "print(c.address_info['gcs_address'], flush=True)\n"
            "sys.stdin.read()\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate("", timeout=60)


class Life:
    """A driver of one side, and the lines ``pid attempt time`` that its trial leaves when user code begins."""

    def __init__(self, side: str, folder: Path, address: str, *arguments: str) -> None:
        self.lines = folder / "lines"
        self.seen = len(self.read())
        self.began = time.time()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", f"benchmarks.peers.{SIDES[side]}", str(folder), *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"},
            stdout=subprocess.DEVNULL,
            stderr=(folder / "stderr").open("a"),
        )

    def read(self) -> list[list[str]]:
        return [line.split() for line in self.lines.read_text().splitlines()] if self.lines.exists() else []

    def next_line(self) -> tuple[int, float]:
        """Wait until user code begins once more; return its process and when that was."""
        deadline = time.monotonic() + LIMIT_S
        while len(lines := self.read()) <= self.seen:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((self.lines.parent / "stderr").read_text()[-4000:])
            time.sleep(0.001)
        pid, moment = lines[self.seen]
        self.seen += 1
        return int(pid), float(moment)

    def called(self) -> float:
        return float((self.lines.parent / "called").read_text())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(side: str, folder: Path, address: str, num: int) -> dict[str, list[float]]:
    """Start a driver, kill its worker some times and then itself, and run it again. Return seconds by kind of death."""
    folder.mkdir()
    found: dict[str, list[float]] = {"worker": [], "driver": [], "call": []}
    life = Life(side, folder, address)
    pid, _ = life.next_line()
    for _ in range(num):
        time.sleep(1.5)
        killed = time.time()
        os.kill(pid, signal.SIGKILL)
        pid, began = life.next_line()
        found["worker"].append(began - killed)
    for _ in range(num):
        time.sleep(1.0)
        life.kill()
        time.sleep(2.0)  # Until Ray has ended the workers of the dead driver, for both alike.
        life = Life(side, folder, address)
        _, began = life.next_line()
        found["driver"].append(began - life.began)
        found["call"].append(began - life.called())
    life.kill()
    time.sleep(1.0)
    return found


def measure_hangs(folder: Path, address: str, num: int) -> list[float]:
    """Have a worker of tunekit stand still some times. Return for how much longer than the timeout nothing went on."""
    folder.mkdir()
    found = []
    life = Life("tunekit", folder, address, str(HANG_TIMEOUT_S))
    pid, _ = life.next_line()
    for _ in range(num):
        time.sleep(1.5)
        stopped = time.time()
        os.kill(pid, signal.SIGSTOP)
        pid, began = life.next_line()
        found.append(began - stopped - HANG_TIMEOUT_S)
    life.kill()
    time.sleep(1.0)
    return found


def measure_all(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {side: {kind: [] for kind in ROWS} for side in SIDES}
    found["tunekit"]["hang"] = []
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    ray_tmp = tempfile.mkdtemp(prefix="r", dir="/tmp")
    head = Head(ray_tmp)
    try:
        for repeat in range(options.repeats):
            for side in SIDES:
                new = measure(side, folder / f"{side[:4]}{repeat}", head.address, options.num)
                if side == "tunekit":
                    new["hang"] = measure_hangs(folder / f"hang{repeat}", head.address, options.num)
                for kind, times in new.items():
                    found[side][kind] += times
                    shown = ", ".join(f"{seconds:.2f}" for seconds in times)
                    print(f"{repeat + 1}/{options.repeats} {side:9} {kind:7} {shown}", flush=True)
    finally:
        head.close()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(ray_tmp, ignore_errors=True)
    return found


def table(found: dict[str, dict[str, list[float]]]) -> str:
    lines = ["| | tunekit | bare Ray | tunekit / bare Ray |", "|---|---:|---:|---:|"]
    for kind, title in ROWS.items():
        ours, theirs = (statistics.median(found[side][kind]) for side in SIDES)
        lines.append(f"| {title} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} x |")
    hangs = found["tunekit"]["hang"]
    lines.append(f"| {HANG} | {statistics.median(hangs):.2f}, at most {max(hangs):.2f} | - | - |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Recovery beside bare Ray.")
    parser.add_argument("--quick", action="store_true", help="one round of two deaths each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every measurement here")
    parser.add_argument("--update", type=Path, help="write the table into this page, between its markers")
    options = parser.parse_args(arguments, argparse.Namespace(num=5))
    if options.quick:
        options.repeats, options.num = 1, 2
    found = measure_all(options)
    text = f"Medians of {options.repeats * options.num}.\n\n{table(found)}"
    print(f"\n{text}")
    if options.json:
        content: dict[str, Any] = {"measurements": found}
        options.json.write_text(json.dumps(content, indent=1))
    if options.update:
        before, _, rest = options.update.read_text().partition(BEGIN)
        options.update.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main(sys.argv[1:])
