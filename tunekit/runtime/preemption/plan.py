"""Machines that are to go: what is known of them, and which of their trials are saved. Pure.

A notice is remembered, whatever is said of its machine later: Ray calls a machine's end a preemption only if it comes
after the deadline, and a machine that goes a second early was taken away no less. Only who gave a notice can take it
back; and of a machine that is there long after its time, it is forgotten. That time is at least the one at which the
notice was heard last: the cloud's clock and ours may differ by any amount.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_OVERDUE_S: Final = 300.0
"""So long after its deadline a machine that is still there is taken for one that stays."""
_SHARE: Final = 0.8
"""How much of the time that is left may be planned for: some goes by until a trial comes to a row."""


class NodeNotice(NamedTuple):
    """Somebody's word that a machine is to go."""

    source: str
    """Who said so, such as ``Ray`` or ``AWS``."""
    deadline: float | None = None
    """When it is to be gone, in Unix seconds; None: nobody knows."""
    ends: bool = True
    """False: it may well stay, so trials are saved and go on."""


class Notices:
    """All notices, by machine."""

    def __init__(self) -> None:
        """Begin with none."""
        self._notices: dict[str, dict[str, NodeNotice]] = {}
        self._heard_at: dict[tuple[str, str], float] = {}
        """When each was heard last, by machine and source."""

    def hear(self, node: str, notice: NodeNotice, now: float) -> bool:
        """Take a notice in, and return whether it is news."""
        self._heard_at[node, notice.source] = now
        known = self._notices.setdefault(node, {})
        is_news = known.get(notice.source) != notice
        known[notice.source] = notice
        return is_news

    def known(self, node: str, source: str) -> NodeNotice | None:
        """Return what one source has said of a machine."""
        return self._notices.get(node, {}).get(source)

    def withdraw(self, node: str, source: str) -> bool:
        """Forget the notice of one source, and return whether there was one."""
        return self._notices.get(node, {}).pop(source, None) is not None

    def expire(self, alive: Iterable[str], now: float, *, but: str) -> None:
        """Forget what was said of machines that are alive though their time was over long ago; ``but`` never errs."""
        for node in alive:
            notices = self._notices.get(node, {})
            for source, notice in list(notices.items()):
                if source == but or notice.deadline is None:
                    continue
                if now > max(notice.deadline, self._heard_at[node, source]) + _OVERDUE_S:
                    del notices[source]

    def of(self, node: str) -> NodeNotice | None:
        """Return the gravest notice of a machine: one that ends it, and of those the one with the nearest deadline."""
        notices = self._notices.get(node, {}).values()
        return min(notices, key=lambda one: (not one.ends, one.deadline or float("inf")), default=None)

    def reason(self, node: str) -> str:
        """Return why a machine is to go; empty if it is to stay."""
        notice = self.of(node)
        return f"{notice.source}: its machine is taken away" if notice is not None and notice.ends else ""

    @property
    def leaving(self) -> list[str]:
        """The machines that are to go."""
        return sorted(node for node in self._notices if self.reason(node))


class AtRisk(NamedTuple):
    """A trial on a machine that is to go."""

    worker: int
    risk_s: float
    """Seconds of work since what is saved of it."""
    save_s: float
    """Seconds that its newest save took; 0: it is not known."""


def plan_saves(trials: Iterable[AtRisk], window_s: float | None) -> Iterator[tuple[int, bool]]:
    """Yield each worker, those with most work at risk first, and whether its save fits into the time that is left.

    All write to one storage, so their saves count as if one came after the other. A save that does not fit would be
    half of one, and take from those that do; its trial leaves at once, and goes on from its last checkpoint elsewhere.

    Args:
        trials: The trials that run there.
        window_s: Seconds to the deadline; None: any number.
    """
    left = float("inf") if window_s is None else _SHARE * max(0.0, window_s)
    for trial in sorted(trials, key=lambda trial: (-trial.risk_s, trial.worker)):
        fits = trial.save_s <= left
        left -= trial.save_s if fits else 0.0
        yield trial.worker, fits
