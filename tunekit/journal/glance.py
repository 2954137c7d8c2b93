"""A glance at the end of a journal, by those who cannot wait until the code that reads journals is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tunekit.types import Outcome

_TAIL_BYTES = 4096
_MOST_BYTES = 2**20
"""So much is read at most to find the beginning of a line; an error's text may be long."""
_BROKEN = (OSError, msgspec.MsgspecError, RecursionError, ValueError, TypeError, KeyError, AttributeError)
"""What comes of files that are not as we write them."""


def may_have_work(folder: Path) -> bool:
    """Return whether a run of the experiment in a local folder is likely to compute something.

    It is not if its last run came to an end that nobody asked for, or if it does not look like an experiment. This
    proves nothing: a script that wants more than the last one did has work as well.
    """
    try:
        header = msgspec.json.decode((folder / "experiment.json").read_bytes())
        newest = max((folder / _plain(header.get("journal", "journal"))).glob("*.jsonl"), default=None)
        return newest is None or not _ends_the_run(_last_line(newest))
    except FileNotFoundError:  # It is about to begin.
        return True
    except _BROKEN:
        return False


def _plain(name: str) -> str:
    """Return the name of a folder that lies in the experiment's, whatever a header from elsewhere says.

    Raises:
        ValueError: It leads to another one.
    """
    if name in {"", ".", ".."} or "/" in name:
        raise ValueError(name)
    return name


def _last_line(path: Path) -> bytes:
    """Return the last line of a file; nothing if it is very long."""
    size = _TAIL_BYTES
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while size <= _MOST_BYTES:
            start = file.seek(max(0, end - size))
            _, newline, line = file.read().rstrip(b"\n").rpartition(b"\n")
            if newline or start == 0:
                return line
            size *= 4
    return b""


def _ends_the_run(line: bytes) -> bool:
    if not line:  # Who waits for Ray in vain loses more than a head start.
        return True
    try:
        _, record, *_ = msgspec.json.decode(line, type=list)
        return bool(record["kind"] == "end" and record["outcome"] != Outcome.INTERRUPTED)
    except _BROKEN:  # It is torn.
        return False
