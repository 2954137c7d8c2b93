"""What was committed is there, and what could not be written is never called written."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journals import flat, rows, segment, written

from tunekit.core.codec import Record
from tunekit.core.commands import ContinueTrial
from tunekit.core.events import ResultReported, TimerFired
from tunekit.errors import JournalCorruptError, ReportError, StorageError
from tunekit.journal.log import Journal, read_records


def reopened(folder: Path) -> list[Record]:
    """Open for writing, go on writing, and return what had been there."""
    journal = Journal.open(folder)
    found = list(journal.records())
    assert journal.num_records == len(found)
    journal.append([TimerFired(at=1.0)])
    journal.commit()
    assert list(journal.records()) == [*found, TimerFired(at=1.0)]
    journal.close()
    assert list(read_records(folder)) == [*found, TimerFired(at=1.0)]
    return found


# -- in good order -----------------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(1, 4), max_size=6), segment_bytes=st.integers(1, 1500))
@settings(max_examples=30)
def test_what_was_committed_is_read_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], segment_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("e") / "journal"
    batches = written(folder, *sizes, segment_bytes=segment_bytes)
    assert reopened(folder) == flat(batches)


def test_only_what_was_committed_counts(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.append(rows(2))
    assert (journal.num_records, list(journal.records()), list(tmp_path.iterdir())) == (0, [], [])
    journal.append([ContinueTrial(trial=0, attempt=1)])
    journal.commit()
    expected = [*rows(2), ContinueTrial(trial=0, attempt=1)]
    assert (journal.num_records, list(journal.records())) == (3, expected)
    journal.close()


def test_a_commit_is_one_write_and_one_fsync_and_an_empty_one_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(tmp_path)
    journal.append(rows(1))
    journal.commit()  # creates the segment
    calls: list[str] = []
    write, fsync = os.write, os.fsync

    def counted_write(fd: int, data: bytes) -> int:
        calls.append("write")
        return write(fd, data)

    def counted_fsync(fd: int) -> None:
        calls.append("fsync")
        fsync(fd)

    monkeypatch.setattr(os, "write", counted_write)
    monkeypatch.setattr(os, "fsync", counted_fsync)
    journal.append(rows(50, 1))
    journal.append(rows(50, 51))
    journal.commit()
    journal.commit()
    assert calls == ["write", "fsync"]
    monkeypatch.undo()
    journal.close()


def test_opening_and_replaying_is_one_pass_over_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = written(tmp_path, 3, 2, 4, segment_bytes=1)
    opened: list[str] = []
    really_open = Path.open

    def counted_open(path: Path, *arguments: Any, **more: Any) -> Any:
        opened.append(path.name)
        return really_open(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", counted_open)
    journal, found = Journal.replayed(tmp_path, list)
    assert opened == [segment(tmp_path, number).name for number in (1, 2, 3)]
    monkeypatch.undo()
    assert (found, journal.num_records) == (flat(batches), 9)
    journal.append(rows(1, 9))
    journal.close()
    assert list(read_records(tmp_path)) == rows(10)


def test_what_a_replay_does_not_want_to_read_is_verified_all_the_same(tmp_path: Path) -> None:
    written(tmp_path, 2, 2)
    journal, first = Journal.replayed(tmp_path, next)
    assert (first, journal.num_records) == (rows(1)[0], 4)
    journal.close()
    damaged = segment(tmp_path).read_bytes().replace(b'"trial":2', b'"trial":7')
    segment(tmp_path).write_bytes(damaged)
    with pytest.raises(JournalCorruptError):
        Journal.replayed(tmp_path, next)


def test_what_a_replay_raises_leaves_the_journal_as_it_is(tmp_path: Path) -> None:
    written(tmp_path, 2, 2)
    with segment(tmp_path).open("ab") as file:
        file.write(b'["torn')
    before = segment(tmp_path).read_bytes()

    def refuse(records: Iterator[Record]) -> None:
        raise OSError(next(records))

    with pytest.raises(OSError, match="ResultReported"):
        Journal.replayed(tmp_path, refuse)
    assert segment(tmp_path).read_bytes() == before
    assert reopened(tmp_path) == rows(4)


def test_records_can_be_chosen_before_they_are_decoded(tmp_path: Path) -> None:
    written(tmp_path, 3)
    journal = Journal.open(tmp_path)
    journal.append([ContinueTrial(trial=0, attempt=1)])
    journal.close()
    assert list(read_records(tmp_path, holding=b'"continue"')) == [ContinueTrial(trial=0, attempt=1)]


def test_closing_commits_what_was_appended(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.append(rows(3))
    journal.close()
    journal.close()
    assert journal.closed
    assert reopened(tmp_path) == rows(3)
    with pytest.raises(StorageError, match="closed"):
        journal.append(rows(1))
    with pytest.raises(StorageError, match="closed"):
        journal.commit()


def test_segments_rotate_at_their_size_and_batches_stay_whole(tmp_path: Path) -> None:
    batches = written(tmp_path, *[3] * 8, segment_bytes=700)
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert len(sizes) == 4
    assert all(700 <= size < 1400 for size in sizes[:-1])
    assert reopened(tmp_path) == flat(batches)


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        written(tmp_path / name, 1, 5, 2, segment_bytes=500)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_the_folder_is_private_and_a_reader_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "journal"
    assert list(read_records(folder)) == []
    assert not folder.exists()
    batches = written(folder, 2, 2)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(segment(folder).stat().st_mode) == 0o600
    with segment(folder).open("ab") as file:
        file.write(b'["0123')
    size = segment(folder).stat().st_size
    assert list(read_records(folder)) == flat(batches)
    assert segment(folder).stat().st_size == size


def test_a_reader_follows_a_journal_that_is_being_written(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, segment_bytes=300)
    for number in range(6):
        journal.append(rows(1, number))
        journal.commit()
        assert list(read_records(tmp_path)) == rows(number + 1)
    journal.close()


def test_a_record_that_cannot_be_written_takes_no_other_with_it(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.append(rows(1))
    with pytest.raises(ReportError):
        journal.append([*rows(1, 1), ResultReported(trial=9, attempt=1, iteration=1, metrics={"x": object()})])
    journal.close()
    assert reopened(tmp_path) == rows(1)


# -- a disk that fails -------------------------------------------------------------------------------------------------


class FailingOnce:
    """Makes one call of a function of ``os`` fail, and no other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, at: int) -> None:
        self.real: Callable[..., int] = getattr(os, call)
        self.real_close = os.close
        self.left = at
        self.spoiled: int | None = None
        monkeypatch.setattr(os, call, self)
        monkeypatch.setattr(os, "close", self.close)

    def __call__(self, fd: int, *args: object) -> int:
        self.left -= 1
        if self.left == 0:
            self.spoiled = fd
            raise OSError(errno.EIO, "Input/output error")
        assert fd != self.spoiled, "a descriptor was used again after a failure on it"
        return self.real(fd, *args)

    def close(self, fd: int) -> None:
        """Close, after which the number may stand for another file."""
        self.spoiled = None if fd == self.spoiled else self.spoiled
        self.real_close(fd)


@pytest.mark.parametrize("segment_bytes", [2**26, 1])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("call", ["fsync", "write"])
def test_after_a_failure_the_journal_is_closed_and_nothing_unacknowledged_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int, segment_bytes: int
) -> None:
    journal = Journal.open(tmp_path, segment_bytes=segment_bytes)
    acknowledged: list[Record] = []
    for number in range(5):
        journal.append(rows(2, 2 * number))
        if number == 2:
            failing = FailingOnce(monkeypatch, call, at)
        try:
            journal.commit()
        except StorageError:
            break
        acknowledged += rows(2, 2 * number)
    monkeypatch.undo()
    assert failing.left <= 0
    assert failing.spoiled is None, "a spoiled descriptor was left open"
    assert journal.closed
    journal.close()
    with pytest.raises(StorageError, match="closed"):
        journal.append(rows(1))
    assert list(read_records(tmp_path)) == acknowledged
    assert reopened(tmp_path) == acknowledged


def test_a_disk_that_stays_broken_raises_the_first_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = Journal.open(tmp_path)
    journal.append(rows(2))
    journal.commit()
    journal.append(rows(2, 2))
    for call in ("write", "fsync", "ftruncate"):
        monkeypatch.setattr(os, call, broken)
    with pytest.raises(StorageError, match="No space left") as caught:
        journal.commit()
    assert "goes on from the last commit" in caught.value.hint
    assert journal.num_records == 2
    monkeypatch.undo()
    assert reopened(tmp_path) == rows(2)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:7])))
    written(tmp_path, 3, 2)
    monkeypatch.undo()
    assert reopened(tmp_path) == rows(5)


def test_an_interrupted_commit_closes_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    journal = Journal.open(tmp_path)
    journal.append(rows(1))
    journal.commit()
    journal.append(rows(1, 1))
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        journal.commit()
    monkeypatch.undo()
    assert journal.closed
    assert reopened(tmp_path) in (rows(1), rows(2))


def test_opening_makes_durable_what_it_found_and_a_commit_what_it_creates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, 2)
    synced: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    journal = Journal.open(tmp_path, segment_bytes=1)
    assert synced == [str(segment(tmp_path)), str(tmp_path)]
    synced.clear()
    journal.append(rows(1))
    journal.close()
    assert synced == [str(segment(tmp_path, 2)), str(tmp_path)], "the name of a new segment must be durable too"


def test_a_folder_that_cannot_be_used_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be opened"):
        Journal.open(tmp_path / "file" / "journal")
    (tmp_path / "journal" / "000000000001.jsonl").mkdir(parents=True)
    with pytest.raises(StorageError, match="could not be read"):
        list(read_records(tmp_path / "journal"))


WRITER = """
import sys
from pathlib import Path
from tunekit.core.events import ResultReported
from tunekit.journal.log import Journal

journal = Journal.open(Path(sys.argv[1]), segment_bytes=20_000)
number = journal.num_records
while True:
    rows = [ResultReported(trial=number + k, attempt=1, iteration=1, metrics={"x": k}) for k in range(50)]
    journal.append(rows)
    journal.commit()
    number += 50
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    acknowledged = 0
    for round_ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(20 + 7 * round_):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().split(b"\n")[:-1])])
        trials = [record.trial for record in read_records(tmp_path) if isinstance(record, ResultReported)]
        assert trials == list(range(len(trials)))
        assert acknowledged <= len(trials) <= acknowledged + 50
