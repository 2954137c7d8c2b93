"""The sweep of ``crash_lab`` in a bucket, with the publisher of production, killed at any request to the bucket.

Each child is forked from a process that has all modules loaded and has asked nothing yet, and ends by SIGKILL: before
a request is sent, when no other thread has anything left to ask; at once after it was carried out, but before anybody
has seen the answer; and of a request that deletes several objects, after half of them. Requests are made by several
threads at once, so they are told apart by what they ask for. Who dies first lets those end that are under way, so that
it is known what has been carried out.

    python request_lab.py MOMENT URI FOLDER FIRST STRIDE

prints a line of JSON for each STRIDE-th point from the FIRST on; MOMENT may be ``all``.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import crash_lab
import in_threads
import obstore
import obstore.store

from tunekit.core.events import CheckpointAdopted, CheckpointMissing
from tunekit.journal.folder import experiment_folder
from tunekit.journal.remote import RemoteJournal
from tunekit.store import CheckpointIO, layout, open_store
from tunekit.store.joining import joined
from tunekit.store.s3_uploads import S3Uploads

Moment = Literal["before", "after", "half"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
KILLED = -signal.SIGKILL
_VERBS = ("list", "head", "get", "get_range", "put", "copy", "delete")
_TRIES = 5
"""How often a point is tried that the undisturbed sweep had, and that does not come."""
_QUIET_S, _LONGEST_S = 0.1, 3.0
"""Nobody has anything left to ask who has asked nothing for so long. Nothing is wrong if somebody has."""
_AT_RANDOM = re.compile(r"(?<=probe-)[0-9a-f]+")


class Point(NamedTuple):
    """Where the process is killed."""

    request: str
    """Empty: nowhere."""
    moment: Moment


class Requests:
    """Stands between ``tunekit`` and the client of the bucket."""

    def __init__(self, point: Point) -> None:
        """Watch from now on. Nothing is ever taken back: the process ends soon."""
        self.point = point
        self.log: list[str] = []
        self._times: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._under_way = 0
        self._asked_at = 0.0
        self._is_dying = False
        for verb in _VERBS:
            self._watch(verb)
        real = S3Uploads._ask
        S3Uploads._ask = lambda uploads, *args, **options: self._do(  # type: ignore[method-assign]
            f"uploads {args[0]}", lambda: real(uploads, *args, **options)
        )

    def _watch(self, verb: str) -> None:
        real = getattr(obstore, verb)

        def ask(store: Any, *args: Any, **options: Any) -> Any:
            def act() -> Any:
                answer = real(store, *args, **options)
                return iter(list(answer)) if verb == "list" else answer  # asked now, and not when it is looked at

            keys = args[0] if verb == "delete" and not isinstance(args[0], str) else []
            half = (lambda: real(store, keys[: len(keys) // 2])) if len(keys) > 1 else None
            return self._do(f"{verb} {args[0] if args else ''}", act, half)

        setattr(obstore, verb, ask)

    def _do(self, what: str, act: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        name = self._begun(what)
        strikes = name == self.point.request
        if strikes and self.point.moment == "before":
            self._let_the_others()
            self._die()
        if strikes and self.point.moment == "half" and half is not None:
            half()
            self._die()
        try:
            return act()
        finally:  # also if it is refused
            if strikes:
                self._die()
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _begun(self, what: str) -> str:
        """Return what the request is called, once it may be made."""
        with self._changed:
            while self._is_dying:
                self._changed.wait()
            what = _AT_RANDOM.sub("", what)
            self._times[what] += 1
            name = f"{what} #{self._times[what]}"
            self.log.append(name)
            self._under_way += 1
            self._asked_at = time.monotonic()
            self._is_dying = name == self.point.request and self.point.moment != "before"
            return name

    def _let_the_others(self) -> None:
        end = time.monotonic() + _LONGEST_S
        while (now := time.monotonic()) < end and (self._under_way > 1 or now - self._asked_at < _QUIET_S):
            time.sleep(_QUIET_S / 10)

    def _die(self) -> None:
        with self._changed:
            self._is_dying = True
            while self._under_way > 1:
                self._changed.wait()
            os.kill(os.getpid(), signal.SIGKILL)


def kept(trial: str) -> dict[str, str]:
    """Return the content of all checkpoints of a trial in a bucket that can be seen, every byte verified."""
    place, _, name = trial.rpartition("/")
    io = CheckpointIO(open_store(place, create=False))
    found = {}
    for iteration, _ in io.visible(name):
        folder = io.verify(name, iteration)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != layout.MANIFEST:
                found[f"{layout.checkpoint_name(iteration)}/{path.relative_to(folder)}"] = path.read_bytes().hex()
        io.release(folder)
    return found


def disturbed(uri: str, side: Path, point: Point) -> None:
    """Run the sweep, and be killed on the way."""
    crash_lab.note_what_is_durable(side, RemoteJournal)
    requests = Requests(point)
    crash_lab.sweep(uri, "class", in_threads.fit)
    side.with_suffix(".log").write_text(json.dumps(requests.log))


def examined(uri: str, side: Path) -> None:
    """Look at what is left, run the sweep again, and write down how it ends."""
    place = joined(uri, "walks")
    store: Any = open_store(place, create=False)
    folder = experiment_folder(place)
    for name in ("Walk_00000", "Walk_00001"):
        kept(joined(place, name))  # Whatever can be seen is whole.
    found, promised = sum(1 for _ in folder.records()), crash_lab.promised(side)
    assert found >= promised, f"{promised} records were called durable, {found} are there"
    end = crash_lab.outcome(crash_lab.sweep(uri, "class", in_threads.fit), kept)
    records = list(folder.records())
    strange = [record for record in records if isinstance(record, CheckpointMissing | CheckpointAdopted)]
    assert not strange, strange
    assert not store.sizes(layout.STAGING)
    assert not store.sizes(layout.QUARANTINE)
    data = [found.key for found in store._client.listed("") if "/d-" in found.key]
    assert len(data) == sum(len(trial["kept"]) for trial in end), f"left, though nobody sees it: {data}"
    side.with_suffix(".end").write_text(json.dumps({"trials": end, "repeated": crash_lab.repeated(records)}))


def tried(uri: str, point: Point, folder: Path) -> dict[str, Any]:
    """Return how a disturbed sweep ended, and how it did when it was run again."""
    side = folder / "side"
    folder.mkdir(parents=True)
    code = crash_lab.child(lambda: disturbed(uri, side, point))
    again = crash_lab.child(lambda: examined(uri, side))
    found: dict[str, Any] = {**point._asdict(), "code": code, "again": again}
    if side.with_suffix(".end").exists():
        found |= json.loads(side.with_suffix(".end").read_text())
    if side.with_suffix(".log").exists():
        found["log"] = json.loads(side.with_suffix(".log").read_text())
    shutil.rmtree(folder)
    return found


def points(moments: Iterable[Moment], uri: str, folder: Path, first: int, stride: int) -> Iterator[dict[str, Any]]:
    """Yield how each ``stride``-th disturbed sweep ended, from the ``first`` on, and first the undisturbed one."""
    names = map(str, itertools.count())

    def go(point: Point) -> dict[str, Any]:
        name = next(names)
        return tried(joined(uri, str(first), name), point, folder / name)

    undisturbed = go(Point("", "before"))
    yield {"number": 0, **undisturbed}
    for number, point in itertools.islice(enumerate(enumerated(moments, undisturbed["log"]), 1), first, None, stride):
        for _ in range(_TRIES):
            found = go(point)
            if found["code"]:
                break
        yield {"number": number, **found}


def enumerated(moments: Iterable[Moment], log: Sequence[str]) -> Iterator[Point]:
    """Yield all points of a sweep that makes these requests."""
    for moment, request in itertools.product(moments, log):
        if moment != "half" or (request.startswith("delete") and "," in request):
            yield Point(request, moment)


def main(moment: Any, uri: str, folder: str, first: str, stride: str) -> None:
    """Print all points."""
    with tempfile.TemporaryDirectory() as warm:
        crash_lab.sweep(Path(warm), "class", in_threads.fit)  # which loads what is loaded late
    assert threading.active_count() == 1
    moments = MOMENTS if moment == "all" else [moment]
    for point in points(moments, uri, Path(folder), int(first), int(stride)):
        sys.stdout.write(json.dumps(point) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
