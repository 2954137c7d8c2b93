"""Kills and stops the processes of a sweep and of its cluster at random moments, all of them from one seed.

What is *stopped* lives on: after a while it is continued, and then it is a worker, a node or a driver that everybody
else has given up, and that knows nothing of it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sweeps

LIMIT_S = 300.0
"""A sweep that is not done by then hangs."""
MAX_STOPPED_S = {"worker": 4.0, "raylet": 6.0, "relay": 2.0, "driver": 2.0}
ODDS = {
    ("kill", "worker"): 8,
    ("stop", "worker"): 3,
    ("kill", "raylet"): 2,
    ("stop", "raylet"): 2,
    ("kill", "relay"): 2,
    ("stop", "relay"): 1,
    ("kill", "driver"): 4,
    ("stop", "driver"): 1,
}


class Nodes:
    """A cluster of several nodes on this machine; ``nodes.py`` holds it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wait until it is there."""
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self._ask, self._answers = process, process.stdin, process.stdout
        self.address = self._answers.readline().strip()
        assert self.address, process.communicate(timeout=10)[1]

    def raylets(self, what: str = "raylets") -> list[int]:
        """Return the processes of all nodes but the head's."""
        self._ask.write(f"{what}\n")
        self._ask.flush()
        found: list[int] = json.loads(self._answers.readline())
        return found

    def named(self, title: str) -> list[int]:
        """Return the processes of this cluster, and of nobody else's, that are called so. Orphans do not count."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                name = (folder / "cmdline").read_bytes().partition(b"\0")[0].rpartition(b"/")[2]
            except OSError:
                continue
            if name.startswith(title.encode()) and self.process.pid in sweeps.ancestors(int(folder.name)):
                found.append(int(folder.name))
        return sorted(found)


@contextmanager
def nodes(num: int = 2, *options: str, **environment: str) -> Iterator[Nodes]:
    """Run a cluster with a head and so many other nodes, and one of each cloud among the options; see ``nodes.py``."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        process = sweeps.start("nodes.py", str(num), *options, address="", RAY_TMPDIR=folder, **environment)
        try:
            yield Nodes(process)
        finally:
            process.communicate(timeout=240)


class Nemesis:
    """Strikes at one sweep until it has struck often enough, and lets it end.

    Args:
        cluster: Where the sweep runs.
        chance: Decides everything.
        script: The sweep's script and its arguments.
        experiment: Its folder.
    """

    def __init__(self, cluster: Nodes, chance: random.Random, script: list[str], experiment: Path) -> None:
        """Start the sweep."""
        self._cluster = cluster
        self._chance = chance
        self._fates = random.Random(chance.random())  # Of its own: what comes next does not depend on when.
        self._next = self._draw()
        self._script = script
        self._experiment = experiment
        self._stopped: list[tuple[float, int]] = []
        self._deadline = time.monotonic() + LIMIT_S
        self._driver = self._start()
        self.struck: Counter[tuple[str, str]] = Counter()
        """What was done how often."""
        self.story: list[str] = []
        """The same in order, for a test that fails."""

    def strike(self, times: int) -> int:
        """Strike so often, and let the sweep end; return how many of these were kills. Less if it ends before."""
        try:
            kills = 0
            while kills < times and self._wait_for_prey():
                kills += self._strike_once()
            self._let_end()
        finally:
            self._wake(everybody=True)
            self._cluster.raylets("mend")
            if self._driver.poll() is None:
                sweeps.kill(self._driver)
        return kills

    def _start(self) -> subprocess.Popen[str]:
        return sweeps.start(*self._script, address=self._cluster.address)

    def _wait_for_prey(self) -> bool:
        """Wait for some more results, or for no more than a moment; return whether the sweep still runs."""
        if self._chance.random() < 0.25:  # In rapid succession: also while it recovers.
            self._rest(self._chance.uniform(0, 1))
            return self._is_running()
        target = sweeps.count_results(self._experiment) + self._chance.randint(1, 6)
        while self._is_running() and sweeps.count_results(self._experiment) < target:
            self._rest(0.02)
        self._rest(self._chance.uniform(0, 0.1))
        return self._is_running()

    def _strike_once(self) -> int:
        """Do something bad; return how many kills it was."""
        what, whom = self._next
        prey = self._prey(whom)
        if not prey:  # It is just being replaced.
            return 0
        self._next = self._draw()
        pid = self._chance.choice(prey)
        self.struck[what, whom] += 1
        self._tell(f"{what} {whom} {pid} after {sweeps.count_results(self._experiment)} results")
        if what == "stop":
            os.kill(pid, signal.SIGSTOP)
            self._stopped.append((time.monotonic() + self._chance.uniform(0.2, MAX_STOPPED_S[whom]), pid))
            return 0
        os.kill(pid, signal.SIGKILL)
        if whom == "driver":
            self._driver.communicate(timeout=240)
            self._rest(self._chance.choice([0.0, 0.0, 2.0]))
            self._driver = self._start()
        elif whom == "raylet":
            self._rest(self._chance.uniform(0, 2))
            self._cluster.raylets("mend")
        return 1

    def _draw(self) -> tuple[str, str]:
        return self._fates.choices(list(ODDS), list(ODDS.values()))[0]

    def _prey(self, whom: str) -> list[int]:
        match whom:
            case "driver":
                return [self._driver.pid]
            case "raylet":
                return self._cluster.raylets()
            case _:
                return self._cluster.named(f"ray::{whom.capitalize()}")

    def _let_end(self) -> None:
        while self._is_running():
            self._rest(0.05)
        sweeps.finish(self._driver)
        self._tell("done")

    def _is_running(self) -> bool:
        assert time.monotonic() < self._deadline, f"the sweep makes no progress: {self.story}"
        return self._driver.poll() is None

    def _rest(self, seconds: float) -> None:
        """Do nothing but wake who has been stopped long enough."""
        until = time.monotonic() + seconds
        while True:
            self._wake()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.05))

    def _tell(self, what: str) -> None:
        self.story.append(f"{time.monotonic() - self._deadline + LIMIT_S:.1f} s: {what}")

    def _wake(self, *, everybody: bool = False) -> None:
        now = time.monotonic()
        for moment, pid in list(self._stopped):
            if everybody or now >= moment:
                self._stopped.remove((moment, pid))
                if Path(f"/proc/{pid}").exists():
                    os.kill(pid, signal.SIGCONT)
                self._tell(f"continue {pid}")
                self._cluster.raylets("mend")
