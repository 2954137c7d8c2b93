"""Runs all tests in two processes at once: those with a marker, and those without it.

Usage: halves.py "MARKER or MARKER" [ARGUMENTS OF PYTEST]

Tests that start Ray mostly wait for its processes, and leave a core to the others meanwhile. A test is in one half or
in the other, so what counts threads, files and processes of its own is not disturbed. The marked half is shown as it
runs, the other one below it. The exit status is 0 if both halves passed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile

NO_TESTS = 5
"""pytest's status when nothing was collected: as when ``-k`` names tests of the other half alone."""


def main(marker: str, *arguments: str) -> int:
    command = [sys.executable, "-m", "pytest", *arguments, "-m"]
    with tempfile.TemporaryFile() as said:
        other = subprocess.Popen([*command, f"not ({marker}) and not soak"], stdout=said, stderr=subprocess.STDOUT)
        marked = subprocess.Popen([*command, f"({marker}) and not soak"])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both, and they end what they have started.
        statuses = {marked.wait(), other.wait()}
        said.seek(0)
        print(f"\n{'=' * 20} without the marker {marker!r} {'=' * 20}", flush=True)
        sys.stdout.buffer.write(said.read())
        sys.stdout.flush()
    return 0 if 0 in statuses and statuses <= {0, NO_TESTS} else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
