"""What the seconds of a sweep went into, as users see it: seconds as floats, trials by name, money."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from tunekit.config.durations import in_words
from tunekit.config.prices import PRICES_HINT, check_prices, plain_prices
from tunekit.config.problems import Problems
from tunekit.core.books import NO_LOSS, Spent, summed
from tunekit.errors import ConfigError
from tunekit.types import TrialId

_SECOND: Final = 1_000_000
_HOUR_S: Final = 3600.0
_BRIEF_S: Final = 100.0
"""A ledger of less than this is shown in milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Seconds by what they went into. Each second is in exactly one of them."""

    useful_s: float = 0.0
    """Training, up to rows that stand."""
    pruned_s: float = 0.0
    """The same, of trials that a scheduler stopped early."""
    recomputed_s: float = 0.0
    """Training that had to be done again, or came to nothing."""
    checkpointing_s: float = 0.0
    """User code waited for saves."""
    restoring_s: float = 0.0
    """Code was loaded, and a checkpoint read, verified and loaded."""
    waiting_s: float = 0.0
    """The trial stood at its horizon, for a decision."""
    queued_s: float = 0.0
    """No worker had come to the attempt."""

    @property
    def leased_s(self) -> float:
        """All of them: from the launch of each attempt to its end."""
        return self.held_s + self.queued_s

    @property
    def held_s(self) -> float:
        """All but those queued: a worker was there for the trial. This is what costs."""
        return self.useful_s + self.pruned_s + self.lost_s

    @property
    def lost_s(self) -> float:
        """Recomputed, checkpointing, restoring and waiting."""
        return self.recomputed_s + self.checkpointing_s + self.restoring_s + self.waiting_s

    def by_kind(self) -> dict[str, float]:
        """Return them by what they went into, such as ``{"useful": 3600.0, "pruned": 0.0, …}``."""
        return {one.name.removesuffix("_s"): getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a sweep cost, in the currency of the prices."""

    total: float
    """Of all seconds in which a worker was there for a trial."""
    useful: float
    """Of those useful and pruned."""
    lost: float
    """Of the rest."""
    by_kind: dict[str, float]
    """By what the seconds went into; those queued cost nothing."""
    by_cause: dict[str, float]
    by_trial: dict[str, float]

    def __str__(self) -> str:
        """Return the three amounts in one line."""
        form = ",.2f" if self.total >= 1 else ".2g"
        return f"{self.total:{form}} in all: {self.useful:{form}} useful, {self.lost:{form}} lost"


class Ledger:
    """What the seconds of a sweep went into. Made by ``ResultGrid.ledger``.

    Args:
        spent: Microseconds of each trial, by cause.
        trial_name: Names the trials.
        resources: What a trial occupies, such as ``{"CPU": 2.0}``.
        prices: What an hour of each resource costs, if the script says so.
    """

    def __init__(
        self,
        spent: Mapping[TrialId, Mapping[str, Spent]],
        *,
        trial_name: Callable[[TrialId], str],
        resources: Callable[[TrialId], Mapping[str, float]],
        prices: Mapping[str, float] | None = None,
    ) -> None:
        """Add up."""
        self._spent = spent
        self._trial_name = trial_name
        self._resources = resources
        self._prices = prices
        self._indexes = {trial_name(trial): trial for trial in spent}
        self.total: Seconds = _seconds([summed(spent)])
        """Of the whole sweep."""
        self.by_trial: dict[str, Seconds] = {
            trial_name(trial): _seconds(by_cause.values()) for trial, by_cause in spent.items()
        }
        """Of each trial that was ever launched, by its name."""
        self.by_cause: dict[str, Seconds] = _by_cause(spent)
        """By the loss that made them necessary: a ``LossCause``, or ``paused``. ``no loss`` is what would have been
        spent in any case, and stands first; the others follow, the dearest first."""

    def of(self, trial: str) -> dict[str, Seconds]:
        """Return what one trial has spent, by cause.

        Args:
            trial: Its name, such as ``train_00003``.

        Raises:
            KeyError: No trial of this name was ever launched.
        """
        index = self._indexes[trial]
        return _by_cause({index: self._spent[index]})

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain dicts of seconds, which JSON can hold."""
        return {
            "total": _plain(self.total),
            "by_cause": {cause: _plain(seconds) for cause, seconds in self.by_cause.items()},
            "by_trial": {
                name: {**_plain(seconds), "by_cause": {cause: _plain(one) for cause, one in self.of(name).items()}}
                for name, seconds in self.by_trial.items()
            },
        }

    def cost(self, prices: Mapping[str, float] | None = None) -> Cost:
        """Return what the sweep cost in money.

        A trial costs what it occupies for as long as a worker is there for it. What it occupies is what the script says
        now. What has no price costs nothing; neither do workers that nobody uses, nor seconds queued.

        Args:
            prices: Per resource and hour, such as ``{"CPU": 0.04, "GPU": 2.1}``, in any currency. ``memory`` is in
                bytes, so its price is that of one byte. None: those of ``TuneConfig(prices=…)``.

        Raises:
            ConfigError: A price is no finite number of at least 0, or no trial occupies anything that has one.
        """
        priced = _checked(self._prices if prices is None else prices)
        rates = {trial: self._rate(trial, priced) for trial in self._spent}
        if rates and all(rate is None for rate in rates.values()):
            used = sorted({name for trial in self._spent for name in self._resources(trial)})
            raise ConfigError(
                f"cost: got prices for {', '.join(sorted(priced))}, but trials occupy only {', '.join(used)}",
                hint=PRICES_HINT,
            )
        by_kind: dict[str, float] = dict.fromkeys(Seconds().by_kind(), 0.0)
        by_cause: dict[str, float] = dict.fromkeys(self.by_cause, 0.0)
        by_trial: dict[str, float] = dict.fromkeys(self.by_trial, 0.0)
        for trial, causes in self._spent.items():
            for cause, spent in causes.items():
                for kind, micros in spent.by_kind().items():
                    money = (rates[trial] or 0.0) * micros / _SECOND if kind != "queued" else 0.0
                    by_kind[kind] += money
                    by_cause[cause] += money
                    by_trial[self._trial_name(trial)] += money
        useful = by_kind["useful"] + by_kind["pruned"]
        total = math.fsum(by_kind.values())
        return Cost(
            total=total, useful=useful, lost=total - useful, by_kind=by_kind, by_cause=by_cause, by_trial=by_trial
        )

    def _rate(self, trial: TrialId, prices: Mapping[str, float]) -> float | None:
        """Return what a trial costs per second; None if nothing that it occupies has a price."""
        occupied = [(amount, prices[name]) for name, amount in self._resources(trial).items() if name in prices]
        return math.fsum(amount * price for amount, price in occupied) / _HOUR_S if occupied else None

    def __repr__(self) -> str:
        """Return the sums."""
        total = self.total
        useful_s = total.useful_s + total.pruned_s
        return f"<Ledger {total.held_s:.1f} s of workers: {useful_s:.1f} useful, {total.lost_s:.1f} lost>"

    def __str__(self) -> str:
        """Return a table of seconds, with a line for each cause, and the two lines that sum it up."""
        kinds = [*Seconds().by_kind(), "leased"]
        rows = [(cause, [*seconds.by_kind().values(), seconds.leased_s]) for cause, seconds in self.by_cause.items()]
        rows.append(("total", [*self.total.by_kind().values(), self.total.leased_s]))
        first = max(len(name) for name, _ in rows)
        digits = 1 if self.total.leased_s >= _BRIEF_S else 3
        cells = [[f"{value:,.{digits}f}" for value in values] for _, values in rows]
        widths = [max(len(kind), *(len(row[at]) for row in cells)) for at, kind in enumerate(kinds)]
        head = "  ".join(kind.rjust(width) for kind, width in zip(kinds, widths, strict=True))
        lines = [f"{'seconds':{first}}  {head}"]
        for (name, _), row in zip(rows, cells, strict=True):
            lines.append(
                f"{name:{first}}  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            )
        return "\n".join([*lines, "", *in_two_lines(self._spent)])


def in_two_lines(spent: Mapping[TrialId, Mapping[str, Spent]]) -> list[str]:
    """Return how much was useful and how much was lost, and to what; nothing if no worker came to any trial."""
    total = _seconds([summed(spent)])
    if not total.held_s:
        return []
    recomputed = {cause: seconds.recomputed_s for cause, seconds in _by_cause(spent).items() if seconds.recomputed_s}
    parts = [
        f"{kind} {in_words(seconds)}" + (_listed(recomputed) if kind == "recomputed" else "")
        for kind, seconds in total.by_kind().items()
        if seconds and kind in {"recomputed", "checkpointing", "restoring", "waiting"}
    ]
    pruned = f" ({in_words(total.pruned_s)} of it in trials that were stopped early)" if total.pruned_s else ""
    lost = f" ({', '.join(parts)})" if parts else ""
    return [
        f"useful  {_share(total.useful_s + total.pruned_s, total.held_s)}{pruned}",
        f"lost    {_share(total.lost_s, total.held_s)}{lost}",
    ]


def _share(part_s: float, whole_s: float) -> str:
    return f"{in_words(part_s)}, {100 * part_s / whole_s:.1f} %"


def _listed(by_cause: Mapping[str, float]) -> str:
    return f" [{', '.join(f'{cause} {in_words(seconds)}' for cause, seconds in by_cause.items())}]"


def _seconds(spent: Iterable[Spent]) -> Seconds:
    total = Spent()
    for each in spent:
        total.add(each)
    return Seconds(**{f"{kind}_s": micros / _SECOND for kind, micros in total.by_kind().items()})


def _by_cause(spent: Mapping[TrialId, Mapping[str, Spent]]) -> dict[str, Seconds]:
    causes: dict[str, list[Spent]] = {}
    for by_cause in spent.values():
        for cause, each in by_cause.items():
            causes.setdefault(cause, []).append(each)
    found = {cause: _seconds(each) for cause, each in causes.items()}
    return dict(sorted(found.items(), key=lambda item: (item[0] != NO_LOSS, -item[1].leased_s, item[0])))


def _plain(seconds: Seconds) -> dict[str, float]:
    return {**seconds.by_kind(), "leased": seconds.leased_s}


def _checked(prices: Mapping[str, float] | None) -> dict[str, float]:
    problems = Problems("cost")
    if prices is None:
        problems.add("prices", "is missing", hint="give prices={'CPU': 0.04, 'GPU': 2.1}, or TuneConfig(prices=…)")
    else:
        check_prices(problems, "prices", prices)
    problems.raise_if_any()
    return plain_prices(prices or {})
