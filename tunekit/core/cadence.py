"""How often to save: the interval at which saving and losing cost least together.

A save that holds a trial up for C seconds costs C/T of its time if it is done every T seconds. A loss, one in M seconds
on average, costs the work since the newest save, T/2 of it. What is wasted, to first order C/T + T/(2·M), is least at
T = sqrt(2·C·M) (Young 1974); where C is no longer small beside M, Daly's (2006) correction holds. A loss also costs the
time until the newest save was durable, and that of detecting and restoring; these do not depend on T.

*M* is learned from all trials of the experiment together: the mean of a Gamma distribution whose prior is one loss in
four hours. Only what costs work counts as a loss (``core.exposure``): an attempt that was warned in time and left after
saving its newest row has lost nothing, which is why the share q of warnings that are heeded, as in
T = sqrt(2·C·M/(1-q)), is nowhere below. What was seen counts half after each day, because machines are taken away in
bursts.

*C*, and the seconds P until a save is durable, are measured, by each trial for itself; before its first save it goes by
what others have measured. A trial for which nobody knows C saves its first row, to find out.

Bounds: T >= P, or saves would pile up; T >= 10 s, or the driver would be busy with publishing; T <= 2 h, since nobody
knows all that can happen to a machine, or 5·C if that is longer, or such saves would take much of the time for nothing.
There is no bound by the share of the time that saves take: where that is large at the optimum, it is because losses are
frequent, and each longer interval loses more than it saves. A loss in M seconds leaves, exactly, the share

    useful(T) = T/(M·(exp((T + C)/M) - 1)),

and Daly's T keeps that within a hundredth of the best, with C = M as well; with C >= 2·M it is T = M.

Source: J. W. Young, "A first order approximation to the optimum checkpoint interval" (1974); J. T. Daly, "A higher
order estimate of the optimum checkpoint interval for restart dumps" (2006). Their δ is ``blocked_s``, their M is
``mean_s``.

A launch records what a trial was told, and a replay must come to the same figures on every machine. So the record is
kept by adding, multiplying and halving only, which all processors round alike; roots are drawn in the worker.
"""

from __future__ import annotations

import math

import msgspec

PRIOR_S = 4 * 3600.0
"""Seconds of a trial in which one loss is expected as long as nothing is known."""
HALF_LIFE_S = 24 * 3600.0
"""After so long, what was seen counts half."""
SHORTEST_S = 10.0
LONGEST_S = 2 * 3600.0
LARGEST_SHARE = 0.2
"""Saves take no more of the time than this only because the interval may not be longer."""
_WEIGHT = 0.2
"""Of the newest measurement."""
_LARGEST_STEP = 4.0
"""A measurement counts as no more than so many times what was known: one that took long may be an exception."""


class Outlook(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a trial may expect, as all trials of the experiment have found it so far: facts, no conclusions."""

    uptime_s: float = 0.0
    """Seconds that trials have run, recent ones counting more."""
    losses: float = 0.0
    """How often one of them has lost work meanwhile, counted alike."""
    spared: float = 0.0
    """How often one had to leave and had saved everything before, counted alike."""
    blocked_s: float = 0.0
    """Seconds for which a save holds a trial up; 0: nobody knows yet."""
    durable_s: float = 0.0
    """Seconds from when a save is asked for to when it is durable; 0: nobody knows yet."""

    @property
    def mean_s(self) -> float:
        """Seconds from one loss of a trial to the next, on average."""
        return (PRIOR_S + self.uptime_s) / (1.0 + self.losses)

    @property
    def interval_s(self) -> float | None:
        """Seconds that a trial is to work between two saves; None: the cost of a save is not known yet."""
        return bounded_s(self.blocked_s, self.durable_s, self.mean_s) if self.blocked_s else None


def waste(interval_s: float, blocked_s: float, mean_s: float) -> float:
    """Return which share of the time saves and lost work take together: 1 - useful(T)."""
    ratio = (interval_s + blocked_s) / mean_s
    return 1.0 - interval_s / mean_s * math.exp(-ratio) / -math.expm1(-ratio)


def optimum_s(blocked_s: float, mean_s: float) -> float:
    """Return the seconds of work between two saves that waste least, without bounds.

    Args:
        blocked_s: Seconds for which a save holds the trial up.
        mean_s: Seconds from one loss to the next, on average.
    """
    if blocked_s >= 2.0 * mean_s:
        return mean_s
    ratio = blocked_s / (2.0 * mean_s)
    return math.sqrt(2.0 * blocked_s * mean_s) * (1.0 + math.sqrt(ratio) / 3.0 + ratio / 9.0) - blocked_s


def bounded_s(blocked_s: float, durable_s: float, mean_s: float) -> float:
    """Return the seconds of work between two saves that waste least, within bounds.

    Args:
        blocked_s: Seconds for which a save holds the trial up.
        durable_s: Seconds from when a save is asked for to when it is durable.
        mean_s: Seconds from one loss to the next, on average.
    """
    return max(SHORTEST_S, durable_s, min(longest_s(blocked_s), optimum_s(blocked_s, mean_s)))


def longest_s(blocked_s: float) -> float:
    """Return the longest interval between two saves that is ever chosen for its own sake."""
    return max(LONGEST_S, blocked_s / LARGEST_SHARE)


def is_better_now(elapsed_s: float, step_s: float, interval_s: float) -> bool:
    """Return whether to save at this row, ``elapsed_s`` after the newest save, rather than at the next one.

    Rows are the only places to save at, and the optimum lies between two of them. Waste is the same at T/x and T·x, so
    the nearer one is found by their product.

    Args:
        elapsed_s: Seconds of work since the newest save.
        step_s: Seconds from one row to the next.
        interval_s: The optimum.
    """
    return elapsed_s * (elapsed_s + step_s) >= interval_s * interval_s


class Measured(msgspec.Struct):
    """A mean of measurements that follows their changes, and does not fall for a single one."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Take a measurement in. The first one counts only until there is another: much is loaded and made then."""
        self.count += 1
        if self.count <= 2:  # noqa: PLR2004 - the first and the second
            self.value = value
        else:
            self.value += _WEIGHT * (min(value, _LARGEST_STEP * self.value) - self.value)


class Exposure(msgspec.Struct):
    """How long trials have run, and how often they have lost work: two sums for all, changed where attempts end."""

    uptime_s: float = 0.0
    losses: float = 0.0
    spared: float = 0.0
    num_running: int = 0
    counted_to: float = 0.0
    """Up to when the seconds of those that run are counted, in experiment seconds."""
    blocked: Measured = msgspec.field(default_factory=Measured)
    durable: Measured = msgspec.field(default_factory=Measured)

    def begin(self, now: float) -> None:
        """Count an attempt that begins to run."""
        self._count_to(now)
        self.num_running += 1

    def end(self, now: float) -> None:
        """Count an attempt that runs no more, whyever."""
        self._count_to(now)
        self.num_running -= 1

    def lose(self, now: float, *, spared: bool = False) -> None:
        """Count that a trial has to go on from a checkpoint.

        Args:
            now: In experiment seconds.
            spared: Whether it had saved all that it had to lose, because it was warned.
        """
        self._count_to(now)
        if spared:
            self.spared += 1.0
        else:
            self.losses += 1.0

    def measure(self, blocked_s: float, durable_s: float) -> None:
        """Take in what a save has cost; 0: it was not measured."""
        if blocked_s > 0.0 and durable_s > 0.0:
            self.blocked.add(blocked_s)
            self.durable.add(durable_s)

    def outlook(self, now: float) -> Outlook:
        """Return what a trial may expect now. Whoever asks, and how often, changes nothing."""
        uptime_s, losses, spared = self._at(now)
        return Outlook(
            uptime_s=round(uptime_s, 3),
            losses=round(losses, 6),
            spared=round(spared, 6),
            blocked_s=round(self.blocked.value, 6),
            durable_s=round(self.durable.value, 6),
        )

    def _count_to(self, now: float) -> None:
        since = self.counted_to
        if now < (since // HALF_LIFE_S + 1.0) * HALF_LIFE_S:
            self.uptime_s += self.num_running * (now - since)
        else:
            self.uptime_s, self.losses, self.spared = self._at(now)
        self.counted_to = now

    def _at(self, now: float) -> tuple[float, float, float]:
        """Return the sums up to now: those that run are counted, and a day's end halves what was before it."""
        uptime_s, losses, spared, since = self.uptime_s, self.losses, self.spared, self.counted_to
        while (midnight := (since // HALF_LIFE_S + 1.0) * HALF_LIFE_S) <= now:
            uptime_s += self.num_running * (midnight - since)
            uptime_s, losses, spared, since = uptime_s / 2, losses / 2, spared / 2, midnight
        return uptime_s + self.num_running * (now - since), losses, spared
