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


class TrialLog:
    """A file that is created by the first thing written to it. A full disk silences it and harms nothing else."""

    def __init__(self, path: Path) -> None:
        """Remember the path."""
        self._path = path
        self._file: TextIO | None = None
        self._is_broken = False

    def write(self, text: str) -> None:
        """Append ``text``."""
        if self._is_broken or not text:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")
            self._file.write(text)
        except (OSError, ValueError):
            self._is_broken = True

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

    Args:
        folder: The trial's folder; None: nothing is written and nothing is replaced.
    """
    if folder is None:
        yield None
        return
    log = TrialLog(folder / LOG_NAME)
    with contextlib.ExitStack() as undo:
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
    undo.callback(_put_back, name, tee)
    for handler in logging.root.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
            handler.setStream(tee)
            undo.callback(handler.setStream, stream)


def _put_back(name: str, tee: _Tee) -> None:
    tee.log = None
    if getattr(sys, name) is tee:
        setattr(sys, name, tee.stream)
