"""A Ray cluster of two nodes, one of them in a network namespace of its own, behind a cable that can be pulled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DETECTION = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
PORT = 6397
_PORTS = ["--min-worker-port=0", "--max-worker-port=0"]


def can_be_made() -> bool:
    """Return whether this user may make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode == 0


class FarNode:
    """The cable between the two nodes."""

    def __init__(self, number: int) -> None:
        """Lay it."""
        self._name = f"tk{number}"
        self._net = f"10.213.{number % 250}"
        self.here, self.there = f"{self._net}.1", f"{self._net}.2"
        self.address = f"{self.here}:{PORT}"
        _ip("netns", "add", self._name)
        _ip("link", "add", f"{self._name}a", "type", "veth", "peer", "name", f"{self._name}b", "netns", self._name)
        _ip("addr", "add", f"{self.here}/24", "dev", f"{self._name}a")
        _ip("-n", self._name, "addr", "add", f"{self.there}/24", "dev", f"{self._name}b")
        _ip("-n", self._name, "link", "set", f"{self._name}b", "up")
        _ip("-n", self._name, "link", "set", "lo", "up")
        self.plug()

    def plug(self) -> None:
        """Put the cable in."""
        _ip("link", "set", f"{self._name}a", "up")

    def pull(self) -> None:
        """Pull the cable: nothing passes any more, and nobody is told."""
        _ip("link", "set", f"{self._name}a", "down")

    def start(self, folder: str) -> list[subprocess.Popen[bytes]]:
        """Start a node at each end."""
        head = ["--head", f"--node-ip-address={self.here}", f"--port={PORT}", "--include-dashboard=false"]
        head += [f"--temp-dir={folder}", f"--system-config={json.dumps(DETECTION)}"]
        far = [f"--address={self.address}", f"--node-ip-address={self.there}"]
        processes = [ray_start(head)]
        _await(processes[0], self.here)
        processes.append(ray_start(far, "ip", "netns", "exec", self._name))
        return processes

    def remove(self) -> None:
        """Take the cable and the namespace away."""
        subprocess.run(["ip", "link", "del", f"{self._name}a"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self._name], check=False, capture_output=True)


@contextmanager
def far_node() -> Iterator[FarNode]:
    """Run the cluster, with one CPU at each end."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cable = FarNode(os.getpid())
        processes: list[subprocess.Popen[bytes]] = []
        try:
            processes += cable.start(folder)
            yield cable
        finally:
            for process in reversed(processes):
                process.send_signal(signal.SIGTERM)
            for process in reversed(processes):
                process.wait(timeout=240)
            cable.remove()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def ray_start(options: list[str], *before: str, **environment: str) -> subprocess.Popen[bytes]:
    """Run `ray start` with these options, by another command if one is given."""
    ray = str(Path(sys.executable).with_name("ray"))
    return subprocess.Popen(
        [*before, ray, "start", "--num-cpus=1", "--disable-usage-stats", *_PORTS, "--block", *options],
        env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        | {"RAY_AUTH_MODE": "disabled"}
        | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _await(process: subprocess.Popen[bytes], host: str) -> None:
    """Wait until the head's port is open."""
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((host, PORT), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the head did not start")
