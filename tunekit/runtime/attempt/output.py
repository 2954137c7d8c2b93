"""The log file of a trial: what it prints and logs, beside where it goes anyway.

While a trial runs, ``sys.stdout`` and ``sys.stderr`` are replaced by streams that write to two places. The streams
outlive the trial, because a logger that the trial configures keeps the one it found; without a trial they pass
everything on and do nothing else. Only what goes through Python is seen, not what C code writes to file descriptors.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

LOG_NAME = "trial.log"
MAX_BYTES = 64 << 20
"""Of the log, for each attempt: a trial that prints in a loop must not fill the disk of everybody."""
_ERRORS = "backslashreplace"


class TrialLog:
    """A file that is created by the first thing written to it. A full disk silences it and harms nothing else.

    Args:
        path: The file; what is there already stays.
        max_bytes: How much is written at most, but for a last line that says so.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Remember the path."""
        self._path = path
        self._max_bytes = self._room = max_bytes
        self._file: TextIO | None = None
        self._is_broken = False

    def write(self, text: str) -> None:
        """Append ``text``."""
        if self._is_broken or not text:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", buffering=1, encoding="utf-8", errors=_ERRORS)
            self._room -= len(text) if text.isascii() else len(text.encode("utf-8", _ERRORS))
            if self._room >= 0:
                self._file.write(text)
            else:
                self._write_last(self._file, text)
        except (OSError, ValueError):
            self._is_broken = True

    def _write_last(self, file: TextIO, text: str) -> None:
        """Write what there was room for, and why there is no more."""
        self._is_broken = True
        data = text.encode("utf-8", _ERRORS)
        fits = data[: len(data) + self._room].decode("utf-8", "ignore")
        newline = "" if fits.endswith("\n") else "\n"
        file.write(
            f"{fits}{newline}[tunekit: this attempt has printed {self._max_bytes:,} bytes; the rest is left out]\n"
        )

    def close(self) -> None:
        """Close the file, if anything was written. What comes later is dropped."""
        self._is_broken = True
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


class _Tee:
    """A stream that also writes to the log of the running trial."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.log: TrialLog | None = None

    def write(self, text: str) -> int:
        if self.log is not None:
            self.log.write(text)
        return self.stream.write(text)  # type: ignore[no-any-return]

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


_tees: dict[str, _Tee] = {}


@contextmanager
def captured(folder: Path | None) -> Iterator[TrialLog | None]:
    """Write what is printed and logged inside the block also to ``folder/trial.log``.

    Whatever the block makes of ``sys.stdout`` and ``sys.stderr``, they are the old ones afterwards.

    Args:
        folder: The trial's folder; None: nothing is written.
    """
    log = None if folder is None else TrialLog(folder / LOG_NAME)
    with contextlib.ExitStack() as undo:
        for name in ("stdout", "stderr"):
            undo.callback(setattr, sys, name, getattr(sys, name))
        if log is not None:
            undo.callback(log.close)
            for name in ("stdout", "stderr"):
                _replace(name, log, undo)
        yield log


def _replace(name: str, log: TrialLog, undo: contextlib.ExitStack) -> None:
    stream = getattr(sys, name)
    if stream is None:
        return
    tee = _tees.get(name)
    if tee is None or tee.stream is not stream:
        tee = _tees[name] = _Tee(stream)
    tee.log = log
    setattr(sys, name, tee)
    undo.callback(setattr, tee, "log", None)
    for handler in logging.root.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
            handler.setStream(tee)
            undo.callback(handler.setStream, stream)
