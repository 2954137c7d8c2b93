"""Runs all tests in two processes at once: those with a marker, and those without it.

Usage: halves.py "MARKER or MARKER" [ARGUMENTS OF PYTEST]

Tests that start Ray mostly wait for its processes, and leave a core to the others meanwhile. A test is in one half or
in the other, so what counts threads, files and processes of its own is not disturbed. The marked half is shown as it
runs, the other one below it; what has failed in either half is at the very end, where a log is cut last. The exit
status is 0 if both halves passed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

NO_TESTS = 5
"""pytest's status when nothing was collected: as when ``-k`` names tests of the other half alone."""
_TROUBLE = re.compile(rb"^=+ (?:FAILURES|ERRORS) =+$", re.MULTILINE)
_NAMED = re.compile(rb"^(?:FAILED|ERROR) .*$", re.MULTILINE)


def main(marker: str, *arguments: str) -> int:
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches both, and they end what they have started.
    command = [sys.executable, "-m", "pytest", *arguments, "-m"]
    with tempfile.TemporaryFile() as said:
        other = subprocess.Popen([*command, f"not ({marker}) and not soak"], stdout=said, stderr=subprocess.STDOUT)
        marked = subprocess.Popen(
            [*command, f"({marker}) and not soak"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        shown = b"".join(_pass_on(marked))
        statuses = {marked.wait(), other.wait()}
        _show(f"\n{'=' * 20} without the marker {marker!r} {'=' * 20}\n".encode())
        said.seek(0)
        hidden = said.read()
        _show(hidden)
    if 0 in statuses and statuses <= {0, NO_TESTS}:
        return 0
    _show(_in_the_end(shown, hidden))
    return 1


def _pass_on(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Show what a process says, as it says it, and yield it too."""
    assert process.stdout is not None
    while part := os.read(process.stdout.fileno(), 65536):
        _show(part)
        yield part


def _show(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.flush()


def _in_the_end(shown: bytes, hidden: bytes) -> bytes:
    """Return once more what failed in the half that was shown first, and the names of all that failed."""
    trouble = _TROUBLE.search(shown)
    again = shown[trouble.start() :] if trouble else b""
    names = _NAMED.findall(shown) + _NAMED.findall(hidden)
    return b"\n".join([b"", again, b"=" * 20 + b" failed " + b"=" * 20, *names, b""])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
