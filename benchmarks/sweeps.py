"""Sweeps, side by side with Ray Tune and bare Ray, in one run on one machine.

Each measurement is a fresh process. The systems take turns, several times, so that a busy minute of the machine is
shared among them; the medians are shown.

    python benchmarks/sweeps.py [--quick] [--only CASE]... [--repeats N] [--json FILE] [--update docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MARK = "measured: "
SYSTEMS = {"tunekit": "tunekit_side", "Ray Tune": "ray_tune", "bare Ray": "bare_ray"}
BEGIN, END = "<!-- sweeps: begin -->", "<!-- sweeps: end -->"
LIMIT_S = 900


class Case(NamedTuple):
    """One line of the table.

    Sizes differ by system, so that each runs for some seconds: a rate needs the same time, not the same work.
    """

    name: str
    title: str
    value: str
    """The measurement to show; one that ends in ``per_s`` is better when higher, any other when lower."""
    sizes: dict[str, int]
    """Of a full run, by system; a quick run takes a fifth."""


CASES = [
    Case(
        "function_trials",
        "trivial function trials per second",
        "per_s",
        {"tunekit": 5000, "Ray Tune": 10, "bare Ray": 5000},
    ),
    Case(
        "class_trials",
        "class trials per second, reused, each with a durable checkpoint",
        "per_s",
        {"tunekit": 2000, "Ray Tune": 150, "bare Ray": 2000},
    ),
    Case(
        "results_streamed",
        "results per second, FIFO",
        "per_s",
        {"tunekit": 200_000, "Ray Tune": 2000, "bare Ray": 5000},
    ),
    Case(
        "results_decided",
        "results per second, a decision after each",
        "per_s",
        {"tunekit": 4000, "Ray Tune": 2000, "bare Ray": 5000},
    ),
    Case(
        "launch", "ms from a journalled launch to the first user line on a warm worker", "launch_ms", {"tunekit": 500}
    ),
    Case("launch", "the same in calls of a warm actor, measured in the same process", "calls", {"tunekit": 500}),
    Case(
        "large_sweep",
        "large sweep of class trials, 10 results each: trials per second",
        "per_s",
        {"tunekit": 10_000, "Ray Tune": 200},
    ),
    Case(
        "large_sweep",
        "large sweep: growth of the driver's memory in MB",
        "growth_mb",
        {"tunekit": 10_000, "Ray Tune": 200},
    ),
    Case(
        "large_sweep", "large sweep: seconds to know all of it again", "restore_s", {"tunekit": 10_000, "Ray Tune": 200}
    ),
]


class Measurement(NamedTuple):
    case: str
    system: str
    size: int
    repeat: int
    found: dict[str, float]


def measure(system: str, case: str, size: int) -> dict[str, float]:
    """Run one case of one system in a fresh process."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.peers.{SYSTEMS[system]}", case, str(size)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_DEDUP_LOGS": "0"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode != 0 or not lines:
        raise SystemExit(f"{system} failed at {case}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    found: dict[str, float] = json.loads(lines[-1].removeprefix(MARK))
    return found


def measure_all(options: argparse.Namespace) -> Iterator[Measurement]:
    """Yield measurements as they are made, the systems in turn."""
    sizes = {case.name: case.sizes for case in CASES if not options.only or case.name in options.only}
    for repeat in range(options.repeats):
        for name, by_system in sizes.items():
            for system, full in by_system.items():
                size = max(4, full // 5) if options.quick else full
                found = measure(system, name, size)
                shown = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
                print(f"{repeat + 1}/{options.repeats} {name:16} {system:9} size {size:6}: {shown}", flush=True)
                yield Measurement(name, system, size, repeat, found)


def median(measurements: list[Measurement], case: str, system: str, value: str) -> float | None:
    found = [m.found[value] for m in measurements if (m.case, m.system) == (case, system) and value in m.found]
    return statistics.median(found) if found else None


def table(measurements: list[Measurement]) -> list[str]:
    """Return the medians as Markdown."""
    lines = ["| | tunekit | Ray Tune | bare Ray | tunekit / Ray Tune |", "|---|---:|---:|---:|---:|"]
    for case in CASES:
        medians = [median(measurements, case.name, system, case.value) for system in SYSTEMS]
        ours, peer, _ = medians
        if ours is None:
            continue
        ratio = ours / peer if peer else None
        cells = [number(value) for value in medians] + [f"{number(ratio)} x" if ratio else ""]
        lines.append(f"| {case.title} | {' | '.join(cells)} |")
    return lines


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def machine() -> str:
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ": unknown")
    packages = ", ".join(f"{name} {version(name)}" for name in ("tunekit", "ray", "numpy"))
    return (
        f"{os.cpu_count()} cores ({model.partition(': ')[2]}), {platform.system()}, "
        f"Python {platform.python_version()}, {packages}"
    )


def report(measurements: list[Measurement], options: argparse.Namespace) -> str:
    command = f"python benchmarks/sweeps.py {shlex.join(options.arguments)}".strip()
    head = f"Medians of {options.repeats}. Machine: {machine()}. Command: `{command}`."
    return "\n".join([head, "", *table(measurements)])


def update(page: Path, text: str) -> None:
    """Put the table between the markers of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Sweeps beside Ray Tune and bare Ray.")
    parser.add_argument("--quick", action="store_true", help="a fifth of the size")
    parser.add_argument("--only", action="append", choices=sorted({case.name for case in CASES}))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every measurement here")
    parser.add_argument("--update", type=Path, help="write the table into this page, between its markers")
    options = parser.parse_args(arguments, argparse.Namespace(arguments=arguments))
    measurements = list(measure_all(options))
    text = report(measurements, options)
    print(f"\n{text}")
    if options.json:
        content: dict[str, Any] = {"machine": machine(), "measurements": [m._asdict() for m in measurements]}
        options.json.write_text(json.dumps(content, indent=1))
    if options.update:
        update(options.update, text)


if __name__ == "__main__":
    main(sys.argv[1:])
