"""Runs all tests in two processes at once: those with a marker, and those without it; and a command beside them.

Usage: halves.py [--beside COMMAND] "MARKER or MARKER" FOLDER [ARGUMENTS OF PYTEST]

Tests that start Ray mostly wait for its processes, and leave a core to the others meanwhile. A test is in one half or
in the other, so what counts threads, files and processes of its own is not disturbed. The marked half is shown as it
runs, the command and the other half below it; what has failed in any of them is at the very end, where a log is cut
last. The exit status is 0 if both halves and the command passed.

To read all files takes seconds, so the marked half reads only those with the word ``mark.MARKER`` in them: markers are
given in the file of the test, never by a hook.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

NO_TESTS = 5
"""pytest's status when nothing was collected: as when ``-k`` names tests of the other half alone."""
_TROUBLE = re.compile(rb"^=+ (?:FAILURES|ERRORS) =+$", re.MULTILINE)
_NAMED = re.compile(rb"^(?:FAILED|ERROR) .*$", re.MULTILINE)


def main(marker: str, folder: str, beside: Sequence[str], arguments: Sequence[str]) -> int:
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches all, and they end what they have started.
    command = [sys.executable, "-m", "pytest", *arguments]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as said_beside:
        other = _start([*command, folder, "-m", f"not ({marker}) and not soak"], said)
        third = _start(beside, said_beside) if beside else None
        marked = _start([*command, *_files(folder, marker), "-m", f"({marker}) and not soak"], subprocess.PIPE)
        shown = b"".join(_pass_on(marked))
        status_beside = third.wait() if third else 0
        told = _show_all(said_beside, shlex.join(beside)) if beside else b""
        statuses = {marked.wait(), other.wait()}
        hidden = _show_all(said, f"without the marker {marker!r}")
    if 0 in statuses and statuses <= {0, NO_TESTS} and not status_beside:
        return 0
    names = [*_NAMED.findall(shown), *_NAMED.findall(hidden)]
    if status_beside:
        names += [told, f"FAILED {shlex.join(beside)}: exit status {status_beside}".encode()]
    _show(_in_the_end(shown, names))
    return 1


def _start(command: Sequence[str], output: BinaryIO | int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def _files(folder: str, marker: str) -> list[str]:
    """Return the files with tests that may have the marker; the folder if none has, or if that is not so simple."""
    words = re.split(r" or ", marker)
    if not all(word.isidentifier() for word in words):
        return [folder]
    named = re.compile(rf"\bmark\.(?:{'|'.join(words)})\b")
    return [str(path) for path in sorted(Path(folder).rglob("test_*.py")) if named.search(path.read_text())] or [folder]


def _pass_on(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Show what a process says, as it says it, and yield it too."""
    assert process.stdout is not None
    while part := os.read(process.stdout.fileno(), 65536):
        _show(part)
        yield part


def _show(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.flush()


def _show_all(said: BinaryIO, title: str) -> bytes:
    """Show under a title what was written to a file, and return it."""
    said.seek(0)
    text = said.read()
    _show(f"\n{'=' * 20} {title} {'=' * 20}\n".encode() + text)
    return text


def _in_the_end(shown: bytes, names: Sequence[bytes]) -> bytes:
    """Return once more what failed in the half that was shown first, and the names of all that failed."""
    trouble = _TROUBLE.search(shown)
    again = shown[trouble.start() :] if trouble else b""
    return b"\n".join([b"", again, b"=" * 20 + b" failed " + b"=" * 20, *names, b""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--beside", default="", help="a command to run at the same time")
    parser.add_argument("marker")
    parser.add_argument("folder")
    options, rest = parser.parse_known_args()
    sys.exit(main(options.marker, options.folder, shlex.split(options.beside), rest))
