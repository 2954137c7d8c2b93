"""A small sweep in child processes that die, or whose disk fails, at any one of their system calls.

Each child is forked from a process that has all modules loaded, and is really gone when it dies: no ``finally`` runs,
no thread goes on, its locks are free. Counted are all calls that change a file or folder of the experiment, whoever
makes them: journal, header, lock, checkpoints, retention, and the user's own code.

    python crash_lab.py KIND FATE FOLDER FIRST STRIDE    # a line of JSON for each STRIDE-th call, from the FIRST on
"""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tunekit as tk
from tunekit.core.events import ResultReported
from tunekit.errors import TunekitError
from tunekit.journal.log import Journal
from tunekit.journal.remote import RemoteJournal
from tunekit.journal.segments import read_records
from tunekit.store import layout
from tunekit.store.joining import joined
from tunekit.store.verify import verify_folder
from tunekit.testing.faulty_store import FaultyOps

Fate = Literal["dies", "power fails", "names are lost", "full once", "broken for good", "interrupted twice"]
"""A process that dies has written half of what it was just writing. With the power goes all that was not synced; *names
are lost* on a disk that writes the name of a new file only when its folder is synced, which POSIX allows."""
Kind = Literal["class", "function"]
KILLED, REFUSED, BUG, INTERRUPTED = 137, 3, 4, 130
"""How a child ends that dies, one whose sweep ends with an error in words, and one that ends in any other way."""

LAST = 3


class Walk(tk.Trainable):
    """Writes a file of its own, and returns a dict; raises once, in the first attempt of the second trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self.steps, self.total = 0, config["start"]

    def step(self) -> dict[str, Any]:
        self.steps += 1
        self.total = self.total * 1.5 + self.steps
        if (self.trial_name, self.steps, tk.get_context().attempt) == ("Walk_00001", 3, 1):
            raise ValueError("once")
        return {"total": self.total}

    def save_checkpoint(self, path: str) -> dict[str, Any]:
        Path(path, "notes").write_text(str(self.steps))
        return {"steps": self.steps, "total": self.total}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.steps, self.total = checkpoint["steps"], checkpoint["total"]


def walk(config: dict[str, Any]) -> None:
    """Reports folders, its own and those that it gives away, pins one, and raises once."""
    context = tk.get_context()
    steps, total = 0, config["start"]
    if (checkpoint := tk.get_checkpoint()) is not None:
        with checkpoint.as_directory() as files:
            steps, total = json.loads(Path(files, "deep", "state").read_text())
    for step in range(steps + 1, LAST + 1):
        total = total * 1.5 + step
        if (context.trial_index, step, context.attempt) == (1, 3, 1):
            raise ValueError("once")
        own = step % 2 == 0
        folder = Path(config["mine"], f"{context.trial_name}.{step}") if own else context.checkpoint_dir()
        (folder / "deep").mkdir(parents=True, exist_ok=True)
        (folder / "deep" / "state").write_text(json.dumps([step, total]))
        tk.report(
            {"total": total, "pin_checkpoint": step == 1}, checkpoint=tk.Checkpoint.from_directory(folder, move=not own)
        )


KINDS: dict[Kind, tuple[Any, tk.CheckpointConfig]] = {
    "class": (Walk, tk.CheckpointConfig(checkpoint_frequency=1, num_to_keep=1)),
    "function": (
        walk,
        tk.CheckpointConfig(
            num_to_keep=1, checkpoint_score_attribute="total", checkpoint_score_order="min", max_experiment_bytes=100
        ),
    ),
}


Run = Callable[[tk.Tuner], tk.ResultGrid]
"""How a sweep is run to its end, or gone on with."""


def sweep(root: Path | str, kind: Kind, run: Run = tk.inline) -> tk.ResultGrid:
    """Run the sweep, or go on with it."""
    trainable, checkpoints = KINDS[kind]
    tuner = tk.Tuner(
        trainable,
        param_space={"start": tk.uniform(-1, 1), "mine": joined(str(root), "mine")},
        tune_config=tk.TuneConfig(metric="total", mode="max", num_samples=2, seed=4),
        run_config=tk.RunConfig(
            name="walks",
            storage_path=str(root),
            stop={"training_iteration": LAST},
            checkpoint_config=checkpoints,
            failure_config=tk.FailureConfig(max_failures=2),  # Its own exception, and a full disk that it meets.
            verbose=0,
        ),
    )
    return run(tuner)


def outcome(results: tk.ResultGrid, kept: Callable[[str], dict[str, str]] | None = None) -> list[Any]:
    """Return what must be the same, whatever happened on the way: each bit of each row, each byte that is kept."""
    kept = kept or kept_in_folder
    return [
        {
            "status": result.status.value,
            "rows": [[row["training_iteration"], float(row["total"]).hex()] for row in result.rows],
            "kept": kept(result.path),
        }
        for result in results
    ]


def kept_in_folder(trial: str) -> dict[str, str]:
    """Return the content of the files of the trial in a folder."""
    return {
        str(path.relative_to(Path(trial))): path.read_bytes().hex()
        for path in sorted(Path(trial).rglob("*"))
        if path.is_file() and path.name not in {layout.MANIFEST, "trial.log"}
    }


# -- calls -------------------------------------------------------------------------------------------------------------


class Calls:
    """Stands between Python and the system, and lets something go wrong at one call.

    Args:
        root: What is watched.
        fate: What happens.
        number: At which call, counted from 1; 0: at none.
    """

    def __init__(self, root: Path, fate: Fate, number: int) -> None:
        """Count from now on. Nothing is ever taken back: the process ends soon."""
        self.root, self.fate, self.number = str(root), fate, number
        self.log: list[str] = []
        self._lock = threading.RLock()
        self._dying = 0
        """The thread in which the process dies; all others are kept waiting from then on."""
        self._disk = FaultyOps(syncs_the_way=fate == "power fails")
        self._disk.sync_all(root)
        for name in ("mkdir", "rmdir", "unlink", "remove", "truncate", "link", "rename", "replace"):
            self._by_path(name)
        for name in ("write", "ftruncate", "copy_file_range", "fsync"):
            self._by_descriptor(name)
        self._opening()
        Path.write_bytes = _write_bytes  # type: ignore[assignment,method-assign] # so that it can be torn
        Path.write_text = lambda path, text, *_: _write_bytes(path, text.encode())  # type: ignore[method-assign]

    def _by_path(self, name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            paths = [_absolute(path, options) for path in args[: 2 if name in {"link", "rename", "replace"} else 1]]
            return self._do(f"{name} {paths[-1]}", paths, lambda: real(*args, **options))

        setattr(os, name, call)

    def _by_descriptor(self, name: str) -> None:
        real = getattr(os, name)

        def call(fd: int, *args: Any) -> Any:
            path = _path_of(args[0] if name == "copy_file_range" else fd)
            part = (lambda: real(fd, args[0][: len(args[0]) // 2])) if name == "write" else None
            act = (lambda: self._sync(path)) if name == "fsync" else (lambda: real(fd, *args))
            return self._do(f"{name} {path}", [path], act, part)

        setattr(os, name, call)

    def _opening(self) -> None:
        real_os, real_io = os.open, io.open

        def open_os(path: Any, flags: int, *args: Any, **options: Any) -> int:
            where = _absolute(path, options)
            changes = flags & os.O_TRUNC or (flags & os.O_CREAT and not os.path.lexists(where))
            act = partial(real_os, path, flags, *args, **options)
            return self._do(f"open {where}", [where], act) if changes else act()

        def open_io(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            act = partial(real_io, path, mode, *args, **options)
            if isinstance(path, int) or not set(mode) & set("wxa+"):
                return act()
            return self._do(f"open {path}", [_absolute(path, {})], act, act)

        os.open, io.open, builtins.open = open_os, open_io, open_io  # type: ignore[assignment]

    def _sync(self, path: str) -> None:
        """Note what would now survive; a disk of a test need not be synced really."""
        if self.fate in {"power fails", "names are lost"}:
            self._disk.fsync(Path(path))

    def _do(self, name: str, paths: list[str], act: Callable[[], Any], part: Callable[[], Any] | None = None) -> Any:
        if not self._watches(paths):
            return act()
        with self._lock:  # Nobody changes anything any more while somebody dies.
            self.log.append(name)
            now = len(self.log)
            if self.number and now == self.number:
                self._strike(name, part)
            if self.number and now > self.number and self.fate == "broken for good":
                raise OSError(errno.EIO, os.strerror(errno.EIO), name)
            return act()

    def _watches(self, paths: list[str]) -> bool:
        inside = any(path == self.root or path.startswith(f"{self.root}/") for path in paths)
        return inside and self._dying != threading.get_ident()

    def _strike(self, name: str, part: Callable[[], Any] | None) -> None:
        """Let it happen."""
        if self.fate == "interrupted twice":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            return
        if self.fate in {"full once", "broken for good"}:
            number = errno.ENOSPC if self.fate == "full once" else errno.EIO
            raise OSError(number, os.strerror(number), name)
        self._dying = threading.get_ident()
        if self.fate == "dies":
            if part is not None:
                part()
        else:
            self._disk.lose_power(Path(self.root))
        os._exit(KILLED)


def _write_bytes(path: Path, data: bytes) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)
    return len(data)


def _path_of(fd: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return ""


def _absolute(path: Any, options: dict[str, Any]) -> str:
    if isinstance(path, int):
        return _path_of(path)
    folder = options.get("dir_fd")
    return os.path.join(_path_of(folder) if folder is not None else os.getcwd(), os.fspath(path))  # noqa: PTH118, PTH109


# -- children ----------------------------------------------------------------------------------------------------------


def child(act: Callable[[], None]) -> int:
    """Fork, act, and return how the child ended."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        act()
        os._exit(0)
    except TunekitError as error:
        if not getattr(error, "hint", ""):
            traceback.print_exc()
            os._exit(BUG)
        os._exit(REFUSED)
    except (KeyboardInterrupt, SystemExit):
        os._exit(INTERRUPTED)
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        traceback.print_exc()
        os._exit(BUG)


def note_what_is_durable(side: Path, kind: type[Journal | RemoteJournal] = Journal) -> None:
    """Write down, beside the experiment, how many records were durable each time that a commit returned."""
    commit, write = kind.commit, os.write
    fd = os.open(side, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def noted(journal: Any) -> None:
        commit(journal)
        write(fd, f"{journal.num_records}\n".encode())

    kind.commit = noted  # type: ignore[method-assign,assignment]


def promised(side: Path) -> int:
    """Return how many records have been called durable."""
    return max(map(int, side.read_text().split()), default=0) if side.exists() else 0


def repeated(records: Iterable[Any]) -> int:
    """Return how many rows are in the journal more than once."""
    rows = [(row.trial, row.iteration) for row in records if isinstance(row, ResultReported)]
    return len(rows) - len(set(rows))


def disturbed(root: Path, side: Path, kind: Kind, fate: Fate, number: int) -> None:
    """Run the sweep, with one misfortune."""
    note_what_is_durable(side)
    calls = Calls(root, fate, number)
    try:
        sweep(root, kind)
    finally:
        side.with_suffix(".calls").write_text(json.dumps(calls.log))


def examined(root: Path, side: Path, kind: Kind, run: Run = tk.inline) -> None:
    """Look at what the misfortune has left, run the sweep again, and write down how it ends."""
    os.fsync = lambda fd: None  # it costs time, and nothing happens to this process
    experiment = root / "walks"
    for manifest in experiment.glob(f"*/checkpoint_*/{layout.MANIFEST}"):
        assert verify_folder(manifest.parent).iteration == layout.parse_checkpoint_name(manifest.parent.name), manifest
    found = sum(1 for _ in read_records(experiment / "journal"))
    assert found >= promised(side), f"{promised(side)} records were called durable, {found} are there"
    end = outcome(sweep(root, kind, run))
    twice = repeated(read_records(experiment / "journal"))
    aside = [path for name in (layout.STAGING, layout.TRASH) for path in (experiment / name).rglob("*")]
    assert not [path for path in aside if path.is_file()], aside
    side.with_suffix(".end").write_text(json.dumps({"trials": end, "repeated": twice}))


def points(kind: Kind, fate: Fate, folder: Path, first: int, stride: int) -> Iterator[dict[str, Any]]:
    """Yield how each disturbed sweep ended, and how it did when it was run again; number 0 is not disturbed."""
    for number in itertools.chain([0], itertools.count(first, stride)):
        root, side = folder / str(number), folder / f"{number}.side"
        root.mkdir(parents=True)
        code = child(lambda: disturbed(root, side, kind, fate, number))  # noqa: B023 - forked at once
        again = child(lambda: examined(root, side, kind))  # noqa: B023 - as above
        calls = json.loads(_read(side.with_suffix(".calls")) or "[]")
        at = calls[number - 1] if 0 < number <= len(calls) else ""
        end = json.loads(_read(side.with_suffix(".end")) or "{}")
        shutil.rmtree(root)
        if number and calls and not at:
            return
        yield {"number": number, "code": code, "again": again, "at": at, **end}


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def main(kind: Any, fate: Any, folder: str, first: str, stride: str) -> None:
    """Print all points."""
    if kind == "function":
        vars(Journal)["__init__"].__kwdefaults__["segment_bytes"] = 1000  # so that a sweep has many
    with tempfile.TemporaryDirectory() as warm:
        sweep(Path(warm), kind)  # which loads what is loaded late, so that no child has to
    for point in points(kind, fate, Path(folder), int(first), int(stride)):
        sys.stdout.write(json.dumps(point) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
