"""The sweep of ``crash_lab``, with the publisher of production on its thread, dying at any call of any of its threads.

In which order the calls of several threads come is for the system to say, so they are counted by thread: the driver's,
the publisher's, the main one's, where user code runs, and that of saves which are finished behind it. At each
call the process dies at once, or after its thread has stood still there until no other one had anything left to do.
Between the two lies whatever the others may have done meanwhile.

    python thread_crash_lab.py KIND FATES ROLES FOLDER FIRST STRIDE

prints a line of JSON for each STRIDE-th point from the FIRST on; FATES and ROLES are separated by commas.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import crash_lab
import in_threads

from tunekit.core.events import CheckpointAdopted, CheckpointMissing
from tunekit.journal.log import Journal
from tunekit.journal.segments import read_records
from tunekit.runtime.saving import saving
from tunekit.store import layout

Role = Literal["publisher", "driver", "main", "saving"]
Fate = Literal["dies", "dies after", "power fails"]
"""It dies before the call, or in the middle of one that writes; after it; or the power fails before it."""
FATES: tuple[Fate, ...] = get_args(Fate)
ROLES: tuple[Role, ...] = get_args(Role)
Others = Literal["stand still", "go on"]
"""What the other threads do while this one stands before its last call."""
_QUIET_S, _LONGEST_S = 0.02, 2.0
"""Nobody has anything left to do who has made no call for so long. Nothing is wrong if somebody has."""
_TRIES = 5
"""How often a point is tried that an undisturbed sweep had, and that does not come."""
_MORE = 4
"""How many calls of a thread are tried that no undisturbed sweep had."""


class Point(NamedTuple):
    """Where the process dies, and how; number 0: nowhere."""

    role: Role
    fate: Fate
    others: Others
    number: int


def role_of(thread: threading.Thread) -> Role:
    """Return what a thread is there for."""
    if thread.name.startswith("tunekit-saving"):
        return "saving"
    names: dict[str, Role] = {"tunekit-publisher": "publisher", in_threads.DRIVER: "driver", "MainThread": "main"}
    return names[thread.name]


class ThreadCalls(crash_lab.Calls):
    """Counts calls by thread."""

    def __init__(self, root: Path, point: Point) -> None:
        """Count from now on."""
        self.point = point
        self.logs: dict[Role, list[str]] = {"publisher": [], "driver": [], "main": [], "saving": []}
        self._called_at = 0.0
        super().__init__(root, "power fails" if point.fate == "power fails" else "dies", point.number)

    def _do(self, name: str, paths: list[str], act: Callable[[], Any], part: Callable[[], Any] | None = None) -> Any:
        if not self._watches(paths):
            return act()
        role = role_of(threading.current_thread())
        self.logs[role].append(name)
        strikes = (role, len(self.logs[role])) == (self.point.role, self.point.number)
        if strikes and self.point.others == "go on":
            self._let_the_others()
        with self._lock:
            self._called_at = time.monotonic()
            if not strikes:
                return act()
            if self.point.fate == "dies after":
                try:
                    act()
                finally:  # also if the system refuses
                    os._exit(crash_lab.KILLED)
            return self._strike(name, part)

    def _let_the_others(self) -> None:
        began = self._called_at = time.monotonic()
        while (now := time.monotonic()) - began < _LONGEST_S and now - self._called_at < _QUIET_S:
            time.sleep(_QUIET_S / 10)


def disturbed(root: Path, side: Path, kind: crash_lab.Kind, point: Point) -> None:
    """Run the sweep, with one misfortune."""
    crash_lab.note_what_is_durable(side)
    calls = ThreadCalls(root, point)
    crash_lab.sweep(root, kind, in_threads.fit)
    side.with_suffix(".calls").write_text(json.dumps(calls.logs))


def examined(root: Path, side: Path, kind: crash_lab.Kind, fate: Fate) -> None:
    """Look at what is left, run the sweep again, write down how it ends.

    Nothing that was published is missed, and nothing is there that the journal does not know, unless the power has
    failed: a deletion is not synced.
    """
    crash_lab.examined(root, side, kind, in_threads.fit)
    experiment = root / "walks"
    kinds = CheckpointMissing if fate == "power fails" else (CheckpointMissing, CheckpointAdopted)
    strange = [record for record in read_records(experiment / "journal") if isinstance(record, kinds)]
    assert not strange, strange
    assert not (experiment / layout.QUARANTINE).exists()


def tried(kind: crash_lab.Kind, point: Point, folder: Path) -> dict[str, Any]:
    """Return how a disturbed sweep ended, and how it did when it was run again."""
    root, side = folder / "root", folder / "side"
    root.mkdir(parents=True)
    code = crash_lab.child(lambda: disturbed(root, side, kind, point))
    again = crash_lab.child(lambda: examined(root, side, kind, point.fate))
    found: dict[str, Any] = {**point._asdict(), "code": code, "again": again}
    for suffix in (".end", ".calls"):
        if (path := side.with_suffix(suffix)).exists():
            found |= json.loads(path.read_text()) if suffix == ".end" else {"calls": json.loads(path.read_text())}
    shutil.rmtree(folder)
    return found


def enumerated(fates: Iterable[Fate], lengths: dict[Role, int]) -> Iterator[Point]:
    """Yield all points of a sweep with so many calls, by thread."""
    for fate, others, role in itertools.product(fates, get_args(Others), lengths):
        for number in range(1, lengths[role] + 1 + (_MORE if lengths[role] else 0)):
            yield Point(role, fate, others, number)


def points(
    kind: crash_lab.Kind, fates: Iterable[Fate], roles: Iterable[Role], folder: Path, first: int, stride: int
) -> Iterator[dict[str, Any]]:
    """Yield how each ``stride``-th disturbed sweep ended, from the ``first`` on, and before them two undisturbed ones.

    One run may have some calls more or less than another: points are tried that none of the undisturbed ones has had.
    """
    undisturbed = [tried(kind, Point("main", "dies", "stand still", 0), folder / f"0.{again}") for again in range(2)]
    yield from undisturbed
    lengths = {role: max(len(each["calls"][role]) for each in undisturbed) for role in roles}
    for point in itertools.islice(enumerated(fates, lengths), first, None, stride):
        is_sure = point.number <= lengths[point.role]
        for again in range(_TRIES if is_sure else 1):
            found = tried(kind, point, folder / f"{'.'.join(map(str, point))}.{again}")
            if found["code"]:
                break
        if found["code"] or is_sure:
            yield found


def main(kind: Any, fates: Any, roles: Any, folder: str, first: str, stride: str) -> None:
    """Print all points."""
    if kind == "function":
        vars(Journal)["__init__"].__kwdefaults__["segment_bytes"] = 1000  # so that a sweep has many
    saving._FAST_S = 0.0  # type: ignore[misc] # so that saves are finished behind the trial on each machine
    with tempfile.TemporaryDirectory() as warm:
        crash_lab.sweep(Path(warm), kind, in_threads.fit)  # which loads what is loaded late, so that no child has to
    assert threading.active_count() == 1
    for point in points(kind, fates.split(","), roles.split(","), Path(folder), int(first), int(stride)):
        sys.stdout.write(json.dumps(point) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
