"""A logger whose files are what the results are: each iteration of each trial once, whatever was killed on the way.

Each trial has a file ``<trial_id>.jsonl`` with a JSON object a line, in the order of iterations. A row of a later
attempt takes the place of the earlier one, and a trial that ends has no rows beyond its end. All of that bears
repetition: to write a row again, or to cut a file again, changes nothing. So it is enough to remember, in
``position.json``, a number that is never ahead of the files. What was written behind it is told again by the next
driver, and comes to the same.

A line that was being written when the process was killed has no end, and is cut off.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Final

from tunekit.callbacks.base import Callback
from tunekit.errors import ConfigError
from tunekit.journal.durable import make_folder, remove_drafts, replace_file, sync_folder, write_all

_POSITION: Final = "position.json"
_POSITION_S: Final = 1.0
"""So many seconds lie between two moments at which the position is stored: each costs an fsync for each file."""
_ITERATION: Final = "training_iteration"


class JsonlLogger(Callback):
    """Writes the rows of each trial into a file of JSON lines, each iteration once.

    Args:
        folder: A local folder for this experiment alone; made if it is not there.

    Numbers that are not finite are written as ``NaN`` and ``Infinity``, as Python's ``json`` does.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Remember the folder; nothing is written yet."""
        self.folder = Path(folder).expanduser().absolute()
        self._experiment = ""
        self._files: dict[str, _File] = {}
        self._unsynced: set[Path] = set()
        self._number = 0
        self._stored_at = -_POSITION_S

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        """Make the folder, and see whose it is."""
        del stop, num_samples, total_num_samples
        make_folder(self.folder)
        remove_drafts(self.folder)
        self._experiment = info["experiment_id"]
        self._files.clear()
        self._unsynced.clear()
        self._number = self._stored()

    def position(self) -> int:
        """Return the number that was stored."""
        return self._number

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Put a row where it belongs."""
        del iteration, trials, info
        self._file(trial.trial_id).put(result[_ITERATION], json.dumps(result))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Cut off the rows that a trial has lost."""
        del iteration, trials, info
        self._file(trial.trial_id).end(trial.iteration)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Keep what a failed trial had; its results do so, too."""
        del iteration, trials, info
        self._file(trial.trial_id).end(None)

    def flush(self, number: int) -> None:
        """Write what was told."""
        for name, file in list(self._files.items()):
            if file.write():
                self._unsynced.add(file.path)
            if file.has_ended:
                del self._files[name]
        self._number = number
        if time.monotonic() - self._stored_at >= _POSITION_S:
            self._store()

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        """Store how far everything has come."""
        del trials, info
        self._store()

    def _file(self, trial_id: str) -> _File:
        if trial_id not in self._files:
            self._files[trial_id] = _File(self.folder / f"{trial_id}.jsonl")
        return self._files[trial_id]

    def _stored(self) -> int:
        path = self.folder / _POSITION
        if not path.exists():
            return 0
        stored = json.loads(path.read_text())
        if stored["experiment"] != self._experiment:
            raise ConfigError(
                f"JsonlLogger: {self.folder} holds the rows of the experiment {stored['experiment']}, "
                f"and this one is {self._experiment}",
                hint="give each experiment a folder of its own",
            )
        return int(stored["number"])

    def _store(self) -> None:
        """Make the files durable, and then say so."""
        for path in self._unsynced:
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        if self._unsynced:
            sync_folder(self.folder)
        self._unsynced.clear()
        text = json.dumps({"experiment": self._experiment, "number": self._number})
        replace_file(self.folder / _POSITION, text.encode())
        self._stored_at = time.monotonic()


class _File:
    """The rows of one trial that has not ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.has_ended = False
        self._lines: dict[int, str] = {}
        self._last = 0
        """The last iteration in the file."""
        self._appended: list[int] = []
        self._is_rewritten = False
        self._read()

    def put(self, iteration: int, line: str) -> None:
        """Add a row, or put it in the place of the one that there is."""
        self.has_ended = False
        if self._lines.get(iteration) == line:
            return
        if iteration <= self._last:
            self._is_rewritten = True
        else:
            self._appended.append(iteration)
            self._last = iteration
        self._lines[iteration] = line

    def end(self, iteration: int | None) -> None:
        """Drop the rows beyond the end of the trial; None: they stay."""
        self.has_ended = True
        beyond = [at for at in self._lines if iteration is not None and at > iteration]
        for at in beyond:
            del self._lines[at]
            self._is_rewritten = True

    def write(self) -> bool:
        """Bring the file up to date, and return whether anything was to be done."""
        if self._is_rewritten:
            data = "".join(f"{self._lines[at]}\n" for at in sorted(self._lines)).encode()
            replace_file(self.path, data)
            self._last = max(self._lines, default=0)
        elif self._appended:
            data = "".join(f"{self._lines[at]}\n" for at in self._appended).encode()
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                write_all(fd, data)
            finally:
                os.close(fd)
        changed = self._is_rewritten or bool(self._appended)
        self._is_rewritten, self._appended = False, []
        return changed

    def _read(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        self._is_rewritten = len(whole) < len(content)
        for line in whole.decode().splitlines():
            self._lines[json.loads(line)[_ITERATION]] = line
        self._last = max(self._lines, default=0)
