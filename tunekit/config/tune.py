"""What a sweep looks for, and how far it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tunekit.config.durations import Duration, check_duration, seconds_of
from tunekit.config.prices import check_prices, plain_prices
from tunekit.config.problems import Problems, make_plain, shorten

_MAX_SEED = 2**63 - 1
_POLICIES = {"search_alg": "tunekit.RandomSearch()", "scheduler": "tunekit.ASHA(max_t=50)"}


@runtime_checkable
class Moment(Protocol):
    """What ``datetime.datetime`` is, without importing a module that can read the clock."""

    def timestamp(self) -> float:
        """Return the Unix seconds."""
        ...

    def utcoffset(self) -> object:
        """Return how far its time zone is from UTC; None: it has none."""
        ...

    def isoformat(self) -> str:
        """Return it as text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """What a sweep looks for, how many trials it makes, and who decides about them.

    Raises:
        ConfigError: If a field is out of range or contradicts another one; all fields are reported together.
    """

    metric: str | None = None
    """The reported metric to optimise, nested as ``val/loss``; None: trials are not compared."""
    mode: str | None = None
    """``min`` or ``max``; must be given with ``metric``."""
    num_samples: int = 1
    """Configurations drawn for each cell of the grid, or suggestions of a searcher; -1: until a budget is used up."""
    max_concurrent_trials: int | None = None
    """How many trials run at a time at most; None: as many as the resources hold."""
    deterministic: bool = False
    """Whether the sweep comes to the same end whatever the number of workers, their speed and their losses.

    Needs ``max_concurrent_trials``, which then belongs to what the sweep is: so many trials are under way at a time in
    the logical order of things, on as many workers or fewer. Also ``FailureConfig(hang_timeout_s=…)``, since all wait
    for a trial that hangs, and a trainable that can save, since trials are parked where workers are few.
    """
    time_budget_s: float | str | Duration | None = None
    """How long the sweep runs at most: seconds, a ``timedelta``, or ``90s``, ``30min``, ``2h``.

    Time in which it does not run is not counted.
    """
    deadline: Moment | None = None
    """When the sweep is to end, as a ``datetime`` with a time zone. Trials are then saved and paused, which takes its
    time; run the script again with a later deadline, and they go on."""
    max_cost: float | None = None
    """What the trials may cost by ``prices``, over all runs of the script; then they are saved and paused, as they are
    when the time is up. What their last saves cost comes on top."""
    prices: Mapping[str, float] | None = None
    """What an hour of each resource costs, as in ``{"CPU": 0.04, "GPU": 2.1}``, in any currency.

    It is for ``max_cost``, and for the costs in ``ResultGrid.ledger``.

    A trial costs what it occupies, from when a worker comes to it to the end of its attempt. Time in which it waits for
    a place costs nothing, and neither do workers that nobody uses. What has no price is free.
    """
    search_alg: Any = None
    """The searcher; None: random and grid search."""
    scheduler: Any = None
    """Decides which trials go on; None: all of them (FIFO)."""
    reuse_actors: bool = False
    """Whether a class trainable is given its next configuration by ``reset_config`` instead of being made anew."""
    fresh_process: bool = False
    """Whether each trial gets a process of its own."""
    seed: int | None = None
    """Fixes every draw and the random generators of every trial; None: drawn once and recorded."""

    def __post_init__(self) -> None:
        """Check every field."""
        make_plain(self, "num_samples", "max_concurrent_trials", "time_budget_s", "max_cost", "seed")
        problems = Problems("TuneConfig")
        problems.key("metric", self.metric)
        _check_mode(problems, self.metric, self.mode)
        _check_num_samples(problems, self.num_samples)
        problems.integer("max_concurrent_trials", self.max_concurrent_trials, at_least=1, none_is="no limit")
        check_duration(problems, "time_budget_s", self.time_budget_s, none_is="no limit", example="8h")
        _check_deadline(problems, self.deadline)
        _check_cost(problems, self.max_cost, self.prices)
        _check_policy(problems, "search_alg", self.search_alg, needs=("begin", "identity", "learns", "num_trials"))
        _check_policy(problems, "scheduler", self.scheduler, needs=("begin", "identity", "needs_metric"))
        problems.flag("reuse_actors", self.reuse_actors)
        problems.flag("fresh_process", self.fresh_process)
        problems.flag("deterministic", self.deterministic)
        if self.deterministic is True and self.max_concurrent_trials is None:
            hint = "say how many trials are under way at a time, on as many workers or fewer: max_concurrent_trials=8"
            problems.add("max_concurrent_trials", "is missing, but deterministic=True needs it", hint=hint)
        problems.integer("seed", self.seed, at_least=0, at_most=_MAX_SEED, none_is="drawn once and recorded")
        _check_metric_is_there(problems, self)
        if self.reuse_actors is True and self.fresh_process is True:
            hint = "leave out one of them: an actor that is reused is a process that is not fresh"
            problems.add("fresh_process", "got True with reuse_actors=True, which contradict each other", hint=hint)
        problems.raise_if_any()

    @property
    def plain_prices(self) -> dict[str, float]:
        """What an hour of each resource costs, under Ray's names; empty: nobody has said."""
        return plain_prices(self.prices) if self.prices is not None else {}

    @property
    def budget_s(self) -> float | None:
        """The time budget in seconds; None: there is none."""
        return None if self.time_budget_s is None else seconds_of(self.time_budget_s)


def _check_deadline(problems: Problems, value: object) -> None:
    if value is None:
        return
    if isinstance(value, type) or not isinstance(value, Moment):
        hint = "datetime.now().astimezone() + timedelta(hours=8); for a length of time: time_budget_s"
        problems.bad_type("deadline", value, "None (no deadline) or a datetime with a time zone", hint=hint)
    elif value.utcoffset() is None:
        hint = "deadline=deadline.astimezone() takes it for the time of this machine"
        problems.bad_value("deadline", value, "a datetime with a time zone", hint=hint)


def _check_cost(problems: Problems, max_cost: object, prices: object) -> None:
    if prices is not None:
        check_prices(problems, "prices", prices)
    if max_cost is None:
        return
    problems.number("max_cost", max_cost, above=0.0, hint="say what the trials may cost, or max_cost=None for any cost")
    if prices is None:
        hint = "say what an hour of each resource costs, such as prices={'CPU': 0.04, 'GPU': 2.1}"
        problems.add("prices", f"is missing, but max_cost={shorten(max_cost)} needs it", hint=hint)


def _check_mode(problems: Problems, metric: object, mode: object) -> None:
    if mode is not None:
        problems.one_of("mode", mode, ("min", "max"))
    if metric is not None and mode is None:
        hint = "mode='min' for a loss, mode='max' for an accuracy"
        problems.add("mode", f"must be 'min' or 'max' when metric={metric!r} is given", hint=hint)
    elif metric is None and mode in {"min", "max"}:
        problems.add("mode", f"got {mode!r}, but there is no metric", hint="name the reported metric, as metric='loss'")


def _check_num_samples(problems: Problems, value: object) -> None:
    if value != -1 or not isinstance(value, int):
        problems.integer("num_samples", value, at_least=1, also="-1 (until the space or a budget is used up)")


def _check_policy(problems: Problems, field: str, value: object, *, needs: tuple[str, ...]) -> None:
    if value is None:
        return
    if isinstance(value, type):
        problems.bad_type(field, value, "an instance", hint=f"did you mean {field}={value.__name__}()?")
        return
    missing = [name for name in needs if not hasattr(value, name)]
    if missing:
        allowed = f"an object with {', '.join(needs)} (it lacks {', '.join(missing)})"
        problems.bad_type(field, value, allowed, hint=f"write {field}={_POLICIES[field]}, or leave it out")


def _check_metric_is_there(problems: Problems, config: TuneConfig) -> None:
    for field, policy, trait in (
        ("scheduler", config.scheduler, "needs_metric"),
        ("search_alg", config.search_alg, "learns"),
    ):
        if config.metric is None and getattr(policy, trait, False) is True and not isinstance(policy, type):
            name = type(policy).__name__
            problems.add("metric", f"is missing, but {field}={name} compares trials by it", hint="set metric and mode")
