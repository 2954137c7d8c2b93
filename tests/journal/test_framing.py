"""A torn write is cut, damage is refused, and nothing is between the two."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from journals import flat, rows, segment, written

from tunekit.core.codec import Record
from tunekit.core.events import TimerFired
from tunekit.errors import JournalCorruptError, JournalVersionError
from tunekit.journal.framing import find_damage, read_batches, seal
from tunekit.journal.log import Journal, read_records


def prefixes(batches: list[list[Record]]) -> list[list[Record]]:
    """Return what the journal may hold after a crash: the first batches, each as a whole."""
    return [flat(batches[:count]) for count in range(len(batches) + 1)]


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


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out fsync: what is read here is read by the process that wrote it, thousands of times."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


# -- a torn tail -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segment_bytes", [2**26, 300])
def test_cut_at_every_byte_it_goes_on_from_the_last_whole_commit(tmp_path: Path, segment_bytes: int) -> None:
    batches = written(tmp_path / "whole", 1, 2, 1, segment_bytes=segment_bytes)
    last = max((tmp_path / "whole").iterdir())
    content = last.read_bytes()
    allowed = prefixes(batches)
    seen = set()
    for size in range(len(content)):
        folder = tmp_path / str(size)
        folder.mkdir()
        for path in (tmp_path / "whole").iterdir():
            (folder / path.name).write_bytes(content[:size] if path.name == last.name else path.read_bytes())
        found = reopened(folder)
        seen.add(allowed.index(found))
        commits = content[:size].count(b",1]\n")
        lost_earlier = len(batches) - content.count(b",1]\n")
        assert found == allowed[lost_earlier + commits]
    assert seen == ({0, 1, 2} if segment_bytes > 300 else {2})


@pytest.mark.parametrize(
    "garbage", [b"\0" * 700, b"[", b'["0123456789abcdef",{"kind":"timer_fired"', b"\xff\xfe" * 40, b"\0"]
)
def test_an_unfinished_line_at_the_end_is_cut(tmp_path: Path, garbage: bytes) -> None:
    batches = written(tmp_path, 2, 2)
    content = segment(tmp_path).read_bytes()
    segment(tmp_path).write_bytes(content + garbage)
    journal = Journal.open(tmp_path)
    assert segment(tmp_path).read_bytes() == content
    assert list(journal.records()) == flat(batches)
    journal.close()


def test_a_batch_with_pages_that_never_reached_the_disk_is_cut(tmp_path: Path) -> None:
    batches = written(tmp_path, 3, 60)
    content = segment(tmp_path).read_bytes()
    begin = content.index(b",1]\n") + 4
    cuts = [begin, *range(-(-begin // 512) * 512, len(content), 512), len(content)]
    for first, last in pairwise(cuts):
        torn = content[:first] + bytes(last - first) + content[last:]
        segment(tmp_path).write_bytes(torn)
        journal = Journal.open(tmp_path)
        assert list(journal.records()) == batches[0]
        journal.close()


def test_a_last_newline_on_a_page_that_never_reached_the_disk_is_cut_with_its_batch(tmp_path: Path) -> None:
    batches = written(tmp_path, 3, 2)
    content = segment(tmp_path).read_bytes()
    segment(tmp_path).write_bytes(content[:-1] + b"\0" * 50)
    assert reopened(tmp_path) == batches[0]


def test_a_flipped_bit_before_missing_pages_is_still_damage(tmp_path: Path) -> None:
    written(tmp_path, 1, 60)
    content = segment(tmp_path).read_bytes()
    commit = content.index(b",1]\n") + 4
    torn = content[commit:1024] + bytes(512) + content[1536:-300]
    for damaged in (content[: commit - 6] + b"~" + content[commit - 5 : commit], content[: commit - 1] + b"\x0b"):
        for tail in (torn, bytes(4096)):
            segment(tmp_path).write_bytes(damaged + tail)
            with pytest.raises(JournalCorruptError):
                Journal.open(tmp_path)


def test_zero_bytes_where_no_page_begins_are_damage(tmp_path: Path) -> None:
    written(tmp_path, 3, 60)
    content = segment(tmp_path).read_bytes()
    segment(tmp_path).write_bytes(content[:1030] + bytes(500) + content[1530:])
    with pytest.raises(JournalCorruptError):
        Journal.open(tmp_path)


def test_a_missing_page_before_a_later_commit_is_damage(tmp_path: Path) -> None:
    written(tmp_path, 3, 60, 2, 1)
    content = segment(tmp_path).read_bytes()
    segment(tmp_path).write_bytes(content[:1024] + bytes(512) + content[1536:])
    with pytest.raises(JournalCorruptError):
        Journal.open(tmp_path)


def test_a_crash_while_a_segment_is_created_leaves_no_trace(tmp_path: Path) -> None:
    batches = written(tmp_path / "a", 2, 2)
    for content in (b"", b"[", b"\0" * 100):
        segment(tmp_path / "a", 2).write_bytes(content)
        journal = Journal.open(tmp_path / "a", segment_bytes=1)
        assert not segment(tmp_path / "a", 2).exists()
        assert list(journal.records()) == flat(batches)
        journal.close()
    journal = Journal.open(tmp_path / "a", segment_bytes=1)
    journal.append(rows(1, 4))
    journal.close()
    assert segment(tmp_path / "a", 2).exists()
    assert reopened(tmp_path / "a") == [*flat(batches), *rows(1, 4)]


# -- damage ------------------------------------------------------------------------------------------------------------


def flipped(content: bytes, *, every: bool = False) -> list[bytes]:
    """Return the content once for each byte, or each bit, that is flipped."""
    return [
        content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]
        for place in range(len(content))
        for bit in (range(8) if every else [place % 8])
    ]


def verdict(content: bytes) -> tuple[list[bytes], int | None]:
    """Return the payloads that count, and where the damage is."""
    file = io.BytesIO(content)
    payloads, end, chain = [], 0, 0
    for batch in read_batches(file, 0, 0):
        payloads += batch.payloads
        end, chain = batch.end, batch.chain
    return payloads, None if end == len(content) else find_damage(file, end, chain)


def test_no_single_bit_flip_is_overlooked(tmp_path: Path) -> None:
    written(tmp_path, 1, 2, 1)
    content = segment(tmp_path).read_bytes()
    assert verdict(content)[1] is None
    lines = content.splitlines(keepends=True)
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    for number, damaged in enumerate(flipped(content, every=True)):
        damage = verdict(damaged)[1]
        place = number // 8
        assert damage is not None
        assert damage == max(start for start in starts if start <= place) or (damage == place and content[place] == 10)


def test_a_journal_with_a_flipped_bit_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    written(tmp_path, 1, 2, 1)
    for damaged in flipped(segment(tmp_path).read_bytes()):
        segment(tmp_path).write_bytes(damaged)
        with pytest.raises(JournalCorruptError):
            Journal.open(tmp_path)
        assert segment(tmp_path).read_bytes() == damaged


def test_a_reader_refuses_a_flipped_bit_too(tmp_path: Path) -> None:
    written(tmp_path, 1)
    for damaged in flipped(segment(tmp_path).read_bytes()):
        segment(tmp_path).write_bytes(damaged)
        with pytest.raises(JournalCorruptError):
            list(read_records(tmp_path))


def test_a_bit_flip_before_a_torn_tail_never_loses_a_commit(tmp_path: Path) -> None:
    written(tmp_path, 2, 3)
    content = segment(tmp_path).read_bytes()
    committed = content.index(b",1]\n") + 4
    whole = verdict(content[:committed])[0]
    for size in (committed + 5, committed + 40, len(content) - 3):
        for damaged in flipped(content[:size], every=True):
            payloads, damage = verdict(damaged)
            if damage is None:
                assert payloads == whole
                assert damaged[:committed] == content[:committed], "damage in a committed record passed as a torn tail"


def test_no_bit_flip_in_an_earlier_segment_is_overlooked(tmp_path: Path) -> None:
    written(tmp_path, 1, 1, 1, segment_bytes=1)
    for damaged in flipped(segment(tmp_path, 2).read_bytes()):
        segment(tmp_path, 2).write_bytes(damaged)
        with pytest.raises(JournalCorruptError):
            Journal.open(tmp_path)


def test_an_earlier_segment_may_not_even_be_cut(tmp_path: Path) -> None:
    written(tmp_path, 2, 2, segment_bytes=1)
    content = segment(tmp_path, 1).read_bytes()
    for size in range(len(content)):
        segment(tmp_path, 1).write_bytes(content[:size])
        with pytest.raises(JournalCorruptError):
            Journal.open(tmp_path)


Lines = list[bytes]


def swap(lines: Lines) -> Lines:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


@pytest.mark.parametrize(
    "change",
    [
        swap,
        lambda lines: lines[:2] + lines[3:],
        lambda lines: lines[:3] + lines[2:],
        lambda lines: lines[1:],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines, b"\n"],
        lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
    ],
    ids=["swapped", "dropped", "repeated", "headless", "last repeated", "empty line", "line ends"],
)
def test_records_that_were_moved_are_noticed(tmp_path: Path, change: Callable[[Lines], Lines]) -> None:
    written(tmp_path, 1, 1, 1, 1, 1)
    lines = segment(tmp_path).read_bytes().splitlines(keepends=True)
    segment(tmp_path).write_bytes(b"".join(change(lines)))
    with pytest.raises(JournalCorruptError):
        Journal.open(tmp_path)


def test_segments_that_were_moved_are_noticed(tmp_path: Path) -> None:
    def renamed(*order: int) -> Path:
        folder = tmp_path / "".join(map(str, order))
        folder.mkdir()
        for number, source in enumerate(order, start=1):
            if source:
                segment(folder, number).write_bytes(segment(tmp_path / "a", source).read_bytes())
        return folder

    written(tmp_path / "a", 2, 2, 2, 2, segment_bytes=1)
    for order in [(1, 3, 2, 4), (1, 1, 2, 3, 4), (1, 2, 2), (2, 3, 4), (0, 2, 3, 4), (1, 0, 3, 4), (1, 3, 4)]:
        with pytest.raises(JournalCorruptError):
            Journal.open(renamed(*order))
    assert reopened(renamed(1, 2, 3)) == rows(6)


def test_the_error_says_where_and_its_hint_works(tmp_path: Path) -> None:
    batches = written(tmp_path, 2, 2, 2)
    lines = segment(tmp_path).read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"loss", b"LOSS")
    segment(tmp_path).write_bytes(b"".join(lines))
    with pytest.raises(JournalCorruptError) as caught:
        Journal.open(tmp_path)
    assert caught.value.fields == {"path": str(segment(tmp_path)), "offset": sum(map(len, lines[:4]))}
    command = caught.value.hint.partition("run: ")[2].split()
    assert command[:2] == ["truncate", "-s"]
    os.truncate(command[3], int(command[2]))
    assert reopened(tmp_path) == batches[0]


def header(text: bytes) -> bytes:
    return seal([text, b'{"kind":"timer_fired"}'], 0)[0]


def test_a_newer_format_is_called_that(tmp_path: Path) -> None:
    segment(tmp_path).write_bytes(header(b'{"kind":"segment","format":2,"number":1,"first":0,"more":{}}'))
    with pytest.raises(JournalVersionError, match="format 2"):
        Journal.open(tmp_path)
    segment(tmp_path).write_bytes(header(b'{"kind":"segment","format":1,"number":1,"first":0,"more":{}}'))
    assert reopened(tmp_path) == [TimerFired()]


@pytest.mark.parametrize("text", [b'{"kind":"timer_fired"}', b'{"kind":"segment","format":1,"number":2,"first":0}'])
def test_a_segment_without_its_header_is_refused(tmp_path: Path, text: bytes) -> None:
    segment(tmp_path).write_bytes(header(text))
    with pytest.raises(JournalCorruptError):
        Journal.open(tmp_path)
