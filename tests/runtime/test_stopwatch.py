"""What a worker measures goes into its rows once, and nothing is written where nothing was measured."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from tunekit.core import codec
from tunekit.core.events import ResultReported
from tunekit.runtime.stopwatch import Stopwatch


def ticks() -> Iterator[float]:
    return (float(tick) for tick in count())


def test_seconds_are_taken_once() -> None:
    clock = ticks()
    watch = Stopwatch(lambda: next(clock))
    for _ in range(2):
        with watch.blocking():
            pass
    with watch.loading():
        pass
    assert watch.take_blocked() == {"blocked_s": 2.0}
    assert watch.take_loaded() == {"loaded_s": 1.0}
    assert (watch.take_blocked(), watch.take_loaded()) == ({}, {})


def test_a_line_of_the_journal_holds_no_zeros() -> None:
    watch = Stopwatch(lambda: 0.0)
    row = ResultReported(trial=0, attempt=1, iteration=1, metrics={}, **watch.take_blocked(), **watch.take_loaded())
    assert codec.encode(row) == b'{"kind":"result","trial":0,"attempt":1,"iteration":1,"metrics":{}}'
