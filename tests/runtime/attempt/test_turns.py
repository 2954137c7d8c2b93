"""Attempts run beside each other, and nobody else draws from their generators meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from tunekit.runtime.attempt.turns import Turns

WAIT_S = 60.0


def test_an_attempt_may_wait_for_one_on_another_thread() -> None:
    turns = Turns()

    def attempt() -> str:
        with turns.attempt():
            return "done"

    with ThreadPoolExecutor() as pool, turns.attempt(), turns.attempt():
        assert pool.submit(attempt).result(WAIT_S) == "done"


def test_who_comes_between_waits_for_all_and_is_alone() -> None:
    turns = Turns()
    order: list[str] = []
    inside, goes_on = threading.Event(), threading.Event()

    def between(name: str) -> None:
        with turns.between():
            order.append(name)
            inside.set()
            assert goes_on.wait(WAIT_S)

    def attempt() -> None:
        with turns.attempt():
            order.append("attempt")

    with ThreadPoolExecutor() as pool:
        with turns.attempt():
            calls: list[Future[None]] = [pool.submit(between, "first"), pool.submit(between, "second")]
            assert not inside.wait(0.1)
        assert inside.wait(WAIT_S)
        later = pool.submit(attempt)
        assert not later.done()
        assert len(order) == 1
        goes_on.set()
        for call in [*calls, later]:
            call.result(WAIT_S)
    assert sorted(order) == ["attempt", "first", "second"]
