"""The one line that says how often trials save, and why."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest

from tunekit.callbacks.cadence import Cadence, explain
from tunekit.core.cadence import Outlook, optimum_s
from tunekit.core.events import Event
from tunekit.testing.events import Script, driver, lost, published, row, staged, started
from tunekit.types import LossCause

H = 3600.0


def at(seconds: float, event: Event) -> Event:
    return msgspec.structs.replace(event, at=seconds)


class Listener:
    """A core whose events the observer is shown, one by one."""

    def __init__(self, **settings: Any) -> None:
        self.stream = io.StringIO()
        self.observer = Cadence(self.stream)
        self.play = Script()
        self.play.begin(**settings)

    def hear(self, *events: Event) -> list[str]:
        self.stream.seek(0)
        self.stream.truncate()
        for event in events:
            self.play(event)
            self.observer.observe([event], self.play.experiment.state)
        return self.stream.getvalue().splitlines()


def test_it_is_said_once_with_its_reasons() -> None:
    outlook = Outlook(uptime_s=6.9 * H, losses=3.0, spared=1.0, blocked_s=0.21, durable_s=3.0)
    interval_s = optimum_s(0.21, 10.9 / 4 * H)
    assert outlook.interval_s == pytest.approx(interval_s)
    assert explain(outlook, interval_s) == (
        "a checkpoint every 64 s: a save holds a trial up for 0.21 s and is durable after 3 s; one loss in 2.73 h is "
        "expected (seen: 3 in 6.9 h, and 1 saved before the end); saves and lost work take about 0.65 % of the time"
    )


@pytest.mark.parametrize(
    ("outlook", "says"),
    [
        (Outlook(blocked_s=1e-3, durable_s=1.0), "every 10 s (the shortest): "),
        (Outlook(blocked_s=1.0, durable_s=900.0), "every 15 min (no faster than one is durable): "),
        (Outlook(uptime_s=1e9, blocked_s=60.0, durable_s=60.0), "every 2 h (the longest): "),
        (Outlook(losses=999.0, blocked_s=60.0, durable_s=60.0), "every 60 s (no faster than one is durable): "),
        (Outlook(uptime_s=1e9, blocked_s=2 * H, durable_s=2 * H), "every 10 h (the longest): "),
    ],
)
def test_a_bound_is_named(outlook: Outlook, says: str) -> None:
    interval_s = outlook.interval_s
    assert interval_s is not None
    assert says in explain(outlook, interval_s)


@pytest.mark.parametrize(
    ("outlook", "says"),
    [
        (
            Outlook(uptime_s=7000.0, losses=8.0, blocked_s=600.0, durable_s=610.0),
            "take about 55 % of the time: saves are ",
        ),
        (Outlook(losses=1.0, blocked_s=600.0, durable_s=610.0), "saves and lost work take about 35 % of the time"),
        (Outlook(blocked_s=1e5, durable_s=1e5), "saves and lost work take nearly all of the time: saves are "),
        (
            Outlook(losses=1e6, blocked_s=1e5, durable_s=1e5),
            "saves and lost work take nearly all of the time: saves are ",
        ),
    ],
)
def test_no_more_is_lost_than_there_is(outlook: Outlook, says: str) -> None:
    assert outlook.interval_s is not None
    line = explain(outlook, outlook.interval_s)
    assert says in line
    assert line.endswith(("of the time", "saves are too dear for machines that go so often"))


def test_it_is_said_when_it_is_known_and_again_when_it_has_changed_much() -> None:
    listener = Listener(tells_outlook=True, max_failures=-1)
    assert listener.hear(started(0), at(60.0, row(0, 1))) == []
    (line,) = listener.hear(at(61.0, staged(0, 1, blocked_s=1.0, took_s=2.0)))
    assert line.startswith("· a checkpoint every 169 s: ")
    assert "(seen: 0 in 61 s)" in line
    assert listener.hear(row(0, 2), at(100.0, staged(0, 2, blocked_s=1.1, took_s=2.0))) == []
    listener.hear(published(0, 1), published(0, 2))
    said = []
    for attempt in range(1, 9):
        said += listener.hear(lost(0, attempt, cause=LossCause.NODE_LOST), started(0, attempt + 1))
    (line,) = said
    assert "(seen: 4 in 100 s)" in line, "half of it at four losses more: 169 s / sqrt(5)"


def test_nothing_is_said_of_an_interval_that_the_user_has_set() -> None:
    listener = Listener()
    assert listener.hear(started(0), row(0, 1), staged(0, 1, blocked_s=1.0, took_s=2.0), at(5.0, driver(2))) == []
