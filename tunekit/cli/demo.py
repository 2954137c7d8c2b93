"""``tunekit demo``: kill a sweep twice, and show that nothing is lost.

The sweep is an ordinary script, ``demo_sweep.py``, run as a process of its own. It is run once undisturbed. Then it is
run in another folder, one of its workers and later its driver are killed with SIGKILL, and the same command is given
again. What the two folders hold is compared bit for bit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from tunekit.cli.demo_compare import compare, rows_of
from tunekit.cli.demo_process import EXPERIMENT, DemoError, Plan, SweepProcess
from tunekit.cli.demo_report import print_conclusion, print_table
from tunekit.cli.demo_watch import Progress, read_progress


def run_demo(plan: Plan, console: Console | None = None) -> int:
    """Run the demo and return the exit status: 0 if both sweeps agree.

    Raises:
        DemoError: A package is missing, or a sweep failed.
    """
    console = console or Console()
    _check_packages()
    with _folder(plan.folder) as folder:
        began = time.monotonic()
        undisturbed = _run_undisturbed(plan, folder / "undisturbed", console)
        disturbed = _run_disturbed(plan, folder / "disturbed", console)
        progress = read_progress(folder / "disturbed" / EXPERIMENT)
        print_table(console, disturbed, progress.attempts)
        differences = compare(undisturbed, disturbed)
        print_conclusion(console, differences, num_rows=len(rows_of(undisturbed)), cost=progress.num_repeated)
        console.print(f"{time.monotonic() - began:.0f} s in all", style="dim")
        return 1 if differences else 0


def _check_packages() -> None:
    missing = [name for name in ("torch", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(
            f"the demo trains a network on scikit-learn's digits, but {' and '.join(missing)} cannot be imported",
            hint="pip install 'tunekit[demo]'",
        )


@contextlib.contextmanager
def _folder(wanted: str | None) -> Iterator[Path]:
    """Give a fresh folder for the two sweeps; one that the user named stays."""
    if wanted is None:
        temporary = Path(tempfile.mkdtemp(prefix="tunekit-demo-"))
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return
    folder = Path(wanted).expanduser().absolute()
    if folder.exists() and any(folder.iterdir()):
        raise DemoError(
            f"{folder} is not empty", hint="name a new folder: the demo begins two sweeps and deletes nothing"
        )
    yield folder


def _run_undisturbed(plan: Plan, storage: Path, console: Console) -> dict[str, Any]:
    with console.status("") as status, SweepProcess(plan, storage) as sweep:
        table = sweep.finish(lambda progress: status.update(f"undisturbed: {_summary(progress)}"))
    console.print(f"[green]✓[/] undisturbed: {_summary(read_progress(sweep.experiment))}")
    return table


def _run_disturbed(plan: Plan, storage: Path, console: Console) -> dict[str, Any]:
    with console.status("") as status:

        def show(progress: Progress) -> None:
            status.update(f"disturbed: {_summary(progress)}")

        with SweepProcess(plan, storage) as sweep:
            _kill_twice(sweep, plan, console, show)
        with SweepProcess(plan, storage) as sweep:
            console.print("[cyan]→[/] the same command again")
            table = sweep.finish(show)
    console.print(f"[green]✓[/] disturbed: {_summary(read_progress(sweep.experiment))}")
    return table


def _kill_twice(sweep: SweepProcess, plan: Plan, console: Console, show: Callable[[Progress], None]) -> None:
    """Kill a worker once the first trials are through, and the driver once more than half of them have begun."""
    now = sweep.wait_until(lambda now: now.num_results > plan.epochs and bool(now.running), show)
    seen = now.num_results
    trial, pid = max(now.running.items(), key=lambda item: now.newest.get(item[0], 0))
    _kill(pid)
    console.print(f"[red]✗[/] SIGKILL to the worker of trial {trial} (process {pid}) after {seen} results")
    now = sweep.wait_until(
        lambda now: _is_half_way(now, plan) and bool(now.running) and now.num_results > seen,
        show,
    )
    _kill(sweep.process.pid)
    console.print(f"[red]✗[/] SIGKILL to the driver (process {sweep.process.pid}) after {now.num_results} results")


def _is_half_way(progress: Progress, plan: Plan) -> bool:
    """Whether more than half of the trials have begun: nobody knows how many results ASHA will let them make."""
    return 2 * len(progress.attempts) > plan.num_trials


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _summary(progress: Progress) -> str:
    repeated = f", {progress.num_repeated} of them twice" if progress.num_repeated else ""
    return f"{len(progress.attempts)} trials, {progress.num_results} results{repeated}, {progress.saved} checkpoints"
