"""Says how often trials save that choose it themselves, and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, TextIO

from tunekit.config.durations import in_words
from tunekit.core.cadence import SHORTEST_S, Outlook, longest_s, waste
from tunekit.core.events import CheckpointStaged, Event
from tunekit.core.rows import ENDINGS
from tunekit.core.state import State

_FACTOR: Final = 2.0
"""It is said again when the interval has changed by more than this."""

_MOST: Final = 0.5
_NEARLY_ALL: Final = 0.95


class Cadence:
    """Writes one line when the interval is first known, and again when it has changed much.

    It is that of a trial whose saves cost what they cost on average; each trial goes by the cost of its own.

    Args:
        stream: Where the lines go; None: standard error, as logs do.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write nothing yet."""
        self._stream = stream
        self._told_s: float | None = None

    def observe(self, events: Sequence[Event], state: State) -> None:
        """Write the line, if it is news."""
        if not state.settings.tells_outlook or not any(isinstance(event, _TELLING) for event in events):
            return
        outlook = state.exposure.outlook(state.now)
        interval_s, told_s = outlook.interval_s, self._told_s
        if interval_s is None or (told_s is not None and told_s / _FACTOR <= interval_s <= told_s * _FACTOR):
            return
        self._told_s = interval_s
        stream = self._stream or sys.stderr
        stream.write(f"· {explain(outlook, interval_s)}\n")
        stream.flush()


_TELLING: Final = (CheckpointStaged, *ENDINGS)


def explain(outlook: Outlook, interval_s: float) -> str:
    """Return in one line how often trials save, and why."""
    return (
        f"a checkpoint every {in_words(interval_s)}{_bound(outlook, interval_s)}: a save holds a trial up for "
        f"{in_words(outlook.blocked_s)} and is durable after {in_words(outlook.durable_s)}; "
        f"one loss in {in_words(outlook.mean_s)} is expected ({_seen(outlook)}); "
        f"saves and lost work take {_share(waste(interval_s, outlook.blocked_s, outlook.mean_s))}"
    )


def _share(share: float) -> str:
    """Return how much of the time something takes, and why if that is most of it."""
    text = f"about {100 * share:.2g} % of the time" if share < _NEARLY_ALL else "nearly all of the time"
    return text if share <= _MOST else f"{text}: saves are too dear for machines that go so often"


def _bound(outlook: Outlook, interval_s: float) -> str:
    """Return which bound has set the interval; empty if none has."""
    if interval_s <= SHORTEST_S:
        return " (the shortest)"
    if interval_s <= outlook.durable_s:
        return " (no faster than one is durable)"
    return " (the longest)" if interval_s == longest_s(outlook.blocked_s) else ""


def _seen(outlook: Outlook) -> str:
    spared = f", and {outlook.spared:.3g} saved before the end" if outlook.spared else ""
    return f"seen: {outlook.losses:.3g} in {in_words(outlook.uptime_s)}{spared}"
