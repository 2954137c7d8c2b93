"""How records become lines that prove themselves, and how damage is told from a torn write.

**Line.** A line is a JSON array of a checksum and a record, so ``jq '.[1]'`` shows a journal::

    ["9f6b1c0de4a87235",{"kind":"result",...}]
    ["03c1d0b7a95e4f68",{"kind":"launch",...},1]

The checksum is xxh3-64 over all that follows it in the line, newline included, seeded with the checksum of the line
before. So a line vouches for everything before it, and a line that is altered, dropped, repeated or moved breaks the
chain. The ``1`` is the **commit mark** on the last line of a batch. A batch is written with one write and one fsync,
and counts only with its mark: what a commit holds is there as a whole or not at all.

**Torn or damaged.** A batch is only begun when the one before it is durable. A crash in the middle therefore leaves,
after the last commit mark, one of two things: a beginning of the batch (the process died, or the disk was full), or a
batch with holes of zero bytes that begin and end where disk sectors do (the power failed, and pages reached the disk in
any order). Nobody relied on that batch, so it is cut. Nothing else can be the trace of a crash: a complete line that
does not match its checksum, without such a hole; a newline that became another character; a hole with a committed line
after the batch that it is in. That is damage, acknowledged records may be in it, and the journal is refused. So no
single bit that flips can make a journal lose or change an acknowledged record without an error.

What cannot be seen is the removal of the end at a commit mark, of the last segments too, or a whole other journal: what
remains is in good order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from xxhash import xxh3_64_intdigest as checksum

_HEAD = len('["0123456789abcdef",')
_COMMIT = b",1]\n"
_STORED = re.compile(rb'\["([0-9a-f]{16})",')
_ZEROS = re.compile(rb"\0+")
_SECTOR_BYTES = 512


class Batch(NamedTuple):
    """What one commit wrote."""

    payloads: list[bytes]
    """The records, as JSON."""
    end: int
    """Offset in the file of what comes next."""
    chain: int
    """Checksum of its last line: what the next line is seeded with."""


def seal(payloads: Sequence[bytes], chain: int) -> tuple[bytes, int]:
    """Return the lines of one batch, and the checksum of its last line.

    Args:
        payloads: JSON objects, at least one.
        chain: Checksum of the line before; 0 at the beginning of a journal.
    """
    lines = []
    bodies = [payload + b"]\n" for payload in payloads]
    bodies[-1] = payloads[-1] + _COMMIT
    for body in bodies:
        chain = checksum(body, chain)
        lines.append(b'["%016x",%b' % (chain, body))
    return b"".join(lines), chain


def read_batches(lines: Iterable[bytes], end: int, chain: int) -> Iterator[Batch]:
    """Yield the whole batches, and stop where there are no more, whatever the reason.

    Args:
        lines: Lines with their newlines, such as a file opened for reading in binary.
        end: Offset of the first of them.
        chain: Checksum of the line before.
    """
    payloads: list[bytes] = []
    for line in lines:
        body = line[_HEAD:]
        chain = checksum(body, chain)
        if line[:_HEAD] != b'["%016x",' % chain:
            return
        end += len(line)
        if body.endswith(_COMMIT):
            payloads.append(body[: -len(_COMMIT)])
            yield Batch(payloads, end, chain)
            payloads = []
        else:
            payloads.append(body[:-2])


def find_damage(file: BinaryIO, start: int, chain: int) -> int | None:
    """Tell why the whole batches end at ``start``: return the offset of the damage, or None for a torn batch.

    Args:
        file: The last segment.
        start: Where its last whole batch ends.
        chain: Checksum of the line before ``start``.
    """
    file.seek(start)
    tail = file.read()
    begin, end, chain = _first_bad_line(tail, chain)
    bad = tail[begin:end]
    if not bad.endswith(b"\n"):
        lost = _lost_newline(bad, chain)
        return None if lost is None else start + begin + lost
    if _has_hole(tail, start, begin, end) and not _has_later_commit(tail, end):
        return None
    return start + begin


def _first_bad_line(tail: bytes, chain: int) -> tuple[int, int, int]:
    """Return where the first line that fails begins and ends, and the checksum before it."""
    begin = 0
    while True:
        end = tail.find(b"\n", begin) + 1 or len(tail)
        digest = _verified(tail[begin:end], chain)
        if digest is None or begin == end:
            return begin, end, chain
        begin, chain = end, digest


def _verified(line: bytes, chain: int) -> int | None:
    """Return the checksum of a line that is in order, else None."""
    digest = checksum(line[_HEAD:], chain)
    return digest if line[:_HEAD] == b'["%016x",' % digest else None


def _lost_newline(bad: bytes, chain: int) -> int | None:
    """Return where an unfinished line holds a whole one that lost its newline, if it does.

    A torn write leaves the beginning of a line, never a whole line with something else in the newline's place; a zero
    byte there is a hole.
    """
    try:
        _, end = json.JSONDecoder().raw_decode(bad.decode("latin-1"))
    except (ValueError, RecursionError):
        return None
    is_lost = bad[end : end + 1] not in (b"", b"\0") and _verified(bad[:end] + b"\n", chain) is not None
    return end if is_lost else None


def _has_hole(tail: bytes, start: int, begin: int, end: int) -> bool:
    """Whether zero bytes that a missing page can explain reach into the line."""
    size = len(tail)
    for zeros in _ZEROS.finditer(tail):
        first, last = zeros.span()
        opens = first == 0 or (start + first) % _SECTOR_BYTES == 0
        closes = last == size or (start + last) % _SECTOR_BYTES == 0
        if opens and closes and first < end and last > begin:
            return True
    return False


def _has_later_commit(tail: bytes, begin: int) -> bool:
    """Whether a line with a commit mark is in order and has anything after it: then all before it was durable."""
    lines = tail[begin:].split(b"\n")
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        stored = _STORED.match(before)
        ended = line + b"\n"
        if after and stored and ended.endswith(_COMMIT) and _verified(ended, int(stored[1], 16)) is not None:
            return True
    return False
