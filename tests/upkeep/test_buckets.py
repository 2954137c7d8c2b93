"""The same in a bucket, on a real S3 server: copies there and back, moved sweeps, checks and clearing up."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiments import Built, built, content
from scripts import moving_sweep

from tunekit.errors import ExperimentExistsError
from tunekit.journal.lease import DriverLease
from tunekit.store import CheckpointIO, open_store
from tunekit.store.shelves import shelf_of
from tunekit.upkeep.clearing import clear
from tunekit.upkeep.copying import copy
from tunekit.upkeep.refusals import MARKER
from tunekit.upkeep.report import NothingHereError
from tunekit.upkeep.verifying import verify

pytestmark = pytest.mark.s3

CHECKPOINT = "walk_00001/checkpoint_000002"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    built(tmp_path / "source" / "exp")
    return tmp_path / "source" / "exp"


def stored(uri: str) -> dict[str, bytes]:
    """Return what ``content`` returns of a local experiment."""
    shelf = shelf_of(open_store(uri))
    names = [name for name in shelf.files() if not name.startswith(("driver.", ".copying/", ".staging/"))]
    found = {}
    for name in names:
        with shelf.opened(name) as path:
            found[name] = path.read_bytes()
    return found


def test_there_and_back(source: Path, tmp_path: Path, s3_uri: str) -> None:
    for number in (9, 0):
        report = copy(source, s3_uri, verify=True)
        assert (report.num_copied, report.num_kept, report.verified) == (number, 9 - number, True)
    assert stored(s3_uri) == content(source)
    assert CheckpointIO(open_store(s3_uri)).visible("walk_00001") == [(1, 1), (2, 1), (3, 1)]
    assert (CheckpointIO(open_store(s3_uri)).verify("walk_00001", 2) / "deep/optimizer.bin").stat().st_size == 1000
    for number in (9, 0):
        assert copy(s3_uri, tmp_path / "back", verify=True).num_copied == number
    assert content(tmp_path / "back") == content(source)
    copy(f"{s3_uri}/{CHECKPOINT}", f"{s3_uri}-best/deep/best", verify=True)
    copy(f"{s3_uri}-best/deep/best", tmp_path / "best", verify=True)
    assert content(tmp_path / "best") == content(source / CHECKPOINT)


def test_a_copy_in_a_bucket_is_brought_up_to_date(tmp_path: Path, s3_uri: str) -> None:
    source = tmp_path / "exp"
    made = Built(source)
    made.save(0, 1)
    made.save(0, 2)
    copy(source, s3_uri)
    made.save(0, 2, attempt=2)
    made.save(0, 3, attempt=2)
    made.delete(0, 1)
    made.close()
    report = copy(source, s3_uri, verify=True)
    assert (report.num_copied, report.num_removed) == (2, 1)
    assert stored(s3_uri) == content(source)


def test_what_is_damaged_is_found_and_mended(source: Path, s3_uri: str) -> None:
    copy(source, s3_uri)
    shelf = shelf_of(open_store(s3_uri))
    broken = source.parent / "broken"
    broken.write_bytes(b"\0" * 2000)
    shelf.put(f"{CHECKPOINT}/model.bin", broken, lambda _: None)
    shelf.drop("walk_00002/checkpoint_000003/empty")
    report = verify(s3_uri)
    assert [problem.file for problem in report.problems] == [
        f"{CHECKPOINT}/model.bin", "walk_00002/checkpoint_000003/empty"
    ]  # fmt: skip
    assert copy(source, s3_uri, verify=True).verified
    assert stored(s3_uri) == content(source)


@pytest.mark.chaos
def test_sigkill_at_random_moments(tmp_path: Path, s3_uri: str, kills: int) -> None:
    """At every moment each visible checkpoint in the bucket is whole, and the end equals the source byte for byte."""
    source = tmp_path / "exp"
    built(source, trials=2, steps=3, num_bytes=200_000)
    code = "import sys; from tunekit.upkeep.copying import copy; print('go', flush=True); copy(*sys.argv[1:])"

    def start(to: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", code, str(source), to], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        return process

    process = start(f"{s3_uri}-undisturbed")
    began = time.monotonic()
    process.communicate(timeout=240)
    takes = time.monotonic() - began
    chance = random.Random(3)
    partial = complete = 0
    target = s3_uri
    for _ in range(kills):
        process = start(target)
        time.sleep(chance.uniform(0, takes))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=240)
        try:
            report = verify(target)
        except NothingHereError:
            continue
        assert not [each for each in report.problems if "checkpoint_" in each.file]
        partial += MARKER in {each.file for each in report.problems}
        if "experiment.json" in shelf_of(open_store(target)).files():
            assert stored(target) == content(source)
            complete += 1
            target = f"{s3_uri}-{complete}"
    assert copy(source, target, verify=True).verified
    assert stored(target) == content(source)
    print(f"{partial} of {kills} kills left a part of a copy")


# -- sweeps ------------------------------------------------------------------------------------------------------------


def test_a_sweep_moves_to_a_bucket_and_back_and_goes_on_at_each_place(tmp_path: Path, s3_uri: str) -> None:
    """Local, S3, local, S3: killed at each, and in the end the very same bits."""
    undisturbed = moving_sweep.live(tmp_path / "undisturbed")
    places = [str(tmp_path / "a"), f"{s3_uri}/b", str(tmp_path / "c"), f"{s3_uri}/d"]
    for here, there, steps in zip(places, places[1:], (5, 9, 6), strict=False):
        assert moving_sweep.live(here, "--die-after", str(steps)) is None
        assert verify(f"{here}/walks").is_clean
        assert copy(f"{here}/walks", f"{there}/walks", verify=True).verified
    assert moving_sweep.live(places[-1]) == undisturbed
    copy(f"{places[-1]}/walks", tmp_path / "end" / "walks", verify=True)
    assert moving_sweep.live(tmp_path / "end") == undisturbed
    assert verify(tmp_path / "end" / "walks").is_clean


def test_a_save_that_waited_to_be_published_is_shown_in_the_bucket_and_stays(tmp_path: Path, s3_uri: str) -> None:
    """The journal's next driver publishes it once more, which changes nothing."""
    made = Built(tmp_path / "exp")
    made.save(0, 1)
    manifest = made.stage(0, 2)
    made.close()
    copy(tmp_path / "exp", s3_uri, verify=True)
    io = CheckpointIO(open_store(s3_uri))
    assert io.visible("walk_00000") == [(1, 1), (2, 1)]
    io.publish("walk_00000", 2, 1, manifest)
    io.sweep()
    assert (io.verify("walk_00000", 2) / "model.bin").stat().st_size == 2000
    copy(s3_uri, tmp_path / "back", verify=True)
    assert CheckpointIO(open_store(tmp_path / "back")).visible("walk_00000") == [(1, 1), (2, 1)]


def test_a_save_staged_in_a_bucket_is_shown_in_a_local_copy(tmp_path: Path, s3_uri: str) -> None:
    made = Built(tmp_path / "exp")
    made.save(0, 1)
    made.close()
    copy(tmp_path / "exp", s3_uri)
    made = Built.again(tmp_path / "exp")
    made.io = CheckpointIO(open_store(s3_uri))
    manifest = made.stage(0, 2)
    made.close()
    shelf = shelf_of(open_store(s3_uri))
    shelf.put("journal/000000000001.jsonl", tmp_path / "exp/journal/000000000001.jsonl", lambda _: None)
    copy(s3_uri, tmp_path / "copy", verify=True)
    io = CheckpointIO(open_store(tmp_path / "copy"))
    assert io.visible("walk_00000") == [(1, 1), (2, 1)]
    io.publish("walk_00000", 2, 1, manifest)
    assert (io.verify("walk_00000", 2) / "model.bin").is_file()


def test_a_sweep_that_runs_in_a_bucket_is_refused(
    source: Path, tmp_path: Path, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunekit.journal.lease._RENEWALS", 300)  # Soon seen, and not missed where all stand still.
    copy(source, s3_uri)
    store = open_store(s3_uri)
    with DriverLease(store) as lease:
        for act in (lambda: copy(s3_uri, tmp_path / "copy"), lambda: clear(s3_uri), lambda: copy(source, s3_uri)):
            with pytest.raises(ExperimentExistsError, match=rf"process {os.getpid()} on "):
                act()
        copy(s3_uri, tmp_path / "copy", while_running=True)
        lease.check()
    assert content(tmp_path / "copy") == content(source)
    copy(s3_uri, tmp_path / "copy")


def test_clearing_up_in_a_bucket(source: Path, tmp_path: Path, s3_uri: str) -> None:
    """What fenced attempts have uploaded goes; what the journal waits for, and what is visible, stays."""
    copy(source, s3_uri)
    io = CheckpointIO(open_store(s3_uri))
    for iteration, attempt in ((9, 1), (2, 2)):
        (io.begin("walk_00001", iteration, attempt) / "x").write_bytes(b"12345")
        io.seal("walk_00001", iteration, attempt, metadata={})
    before = {*stored(s3_uri)}
    assert clear(s3_uri).items == []
    places = [f"{CHECKPOINT}/d-2", "walk_00001/checkpoint_000009/d-1"]
    assert sorted(item.place for item in clear(s3_uri, dry_run=True, older_than_s=0).items) == places
    assert {*stored(s3_uri)} == before
    assert clear(s3_uri, older_than_s=0).num_bytes == 10
    assert stored(s3_uri) == content(source)
    assert verify(s3_uri).is_clean
