"""The sweep of the demo as a process: started, watched, waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tunekit.cli.demo_watch import Progress, read_progress
from tunekit.errors import TunekitError

EXPERIMENT = "digits"
"""As ``demo_sweep.py`` names it."""
LIMIT_S = 600.0
"""No part of the demo takes as long on any machine; past this it is said to hang."""
_POLL_S = 0.05


class DemoError(TunekitError):
    """The demo could not be run to its end."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the user asked for."""

    scheduler: str = "asha"
    folder: str | None = None
    num_trials: int = 8
    epochs: int = 8
    program: tuple[str, ...] = ("-m", "tunekit.cli.demo_sweep")
    """What Python is to run."""


class SweepProcess:
    """One life of the sweep's script.

    Args:
        plan: What to run.
        storage: Where.
    """

    def __init__(self, plan: Plan, storage: Path) -> None:
        """Start the process, in a session of its own so that Ctrl-C reaches the demo first."""
        storage.mkdir(parents=True, exist_ok=True)
        self.experiment = storage / EXPERIMENT
        self.table = storage / "table.json"
        self._log = storage / "output.txt"
        command = [
            sys.executable,
            *plan.program,
            "--storage",
            str(storage),
            "--table",
            str(self.table),
        ]
        command += ["--scheduler", plan.scheduler, "--trials", str(plan.num_trials), "--epochs", str(plan.epochs)]
        # A Ray of its own, unless one is named: no demonstration kills workers on somebody's cluster by chance.
        environment = {"RAY_ADDRESS": "local", **os.environ}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, stdout=log, stderr=log, start_new_session=True, env=environment
            )

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no process behind, whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def wait_until(self, ready: Callable[[Progress], bool], show: Callable[[Progress], None]) -> Progress:
        """Watch until ``ready``, and return what the journal says then.

        Raises:
            DemoError: The script ended before, or takes too long.
        """
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            ended = self.process.poll()
            progress = read_progress(self.experiment)
            show(progress)
            if ready(progress):
                return progress
            if ended is not None:
                raise DemoError(f"the sweep ended with status {ended} too early\n{self._tail()}")
            time.sleep(_POLL_S)
        raise DemoError(f"nothing happened for {LIMIT_S:.0f} s\n{self._tail()}")

    def finish(self, show: Callable[[Progress], None]) -> dict[str, Any]:
        """Wait for the end of the script, and return its table.

        Raises:
            DemoError: It failed.
        """
        self.wait_until(lambda _: self.process.poll() is not None, show)
        if self.process.returncode != 0:
            raise DemoError(f"the sweep failed with status {self.process.returncode}\n{self._tail()}")
        table: dict[str, Any] = json.loads(self.table.read_text())
        return table

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
