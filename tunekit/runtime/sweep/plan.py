"""What a script asks for, checked as a whole before anything is touched."""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunekit import __version__
from tunekit.config import CheckpointConfig, RunConfig, TuneConfig
from tunekit.config.durations import AUTO, seconds_of
from tunekit.config.problems import Problems
from tunekit.core.events import ResultReported, Rule, Settings
from tunekit.core.failures import MAX_FUTILE_PREEMPTIONS
from tunekit.logs import logger_of
from tunekit.runtime.attempt.generators import seeded
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.schedulers import FIFO
from tunekit.search import RandomSearch
from tunekit.space import Space
from tunekit.space.portable import to_outline, to_portable
from tunekit.store.joining import joined
from tunekit.store.layout import trial_name
from tunekit.store.opening import resolve
from tunekit.trainable import TrainableInfo, code_digest, describe
from tunekit.types import Json, Mode, TrialId

_logger = logger_of("tunekit")

_ASK_BATCH = 32
"""Configurations asked for at once from a searcher that does not learn, when their number is known."""
PREFETCH = 4
"""Trials that wait ready on a busy worker, when no decision about them could still change."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sweep as the script describes it.

    Raises:
        TrainableError: The trainable cannot be used.
        ConfigError: Settings contradict the trainable or the search space.
    """

    trainable: Any
    param_space: Mapping[str, Any]
    tune: TuneConfig
    run: RunConfig
    resume_errored: bool = False
    restart_errored: bool = False

    def __post_init__(self) -> None:
        """Check what can be known before any trial starts."""
        _ = self.info, self.space, self.scheduler, self.path
        self._check_searcher()
        problems = Problems(f"Tuner({self.info.name})")
        _check_can_save(problems, self.info, self.run.checkpoint_config)
        if self.resume_errored and self.restart_errored:
            hint = "resume_errored goes on from the newest checkpoints, restart_errored starts over: give one of them"
            problems.add("restart_errored", "got True with resume_errored=True, which contradict each other", hint=hint)
        self._check_order(problems)
        self._check_prices(problems)
        problems.raise_if_any()
        _warn_of_starting_over(self.info, self.run.checkpoint_config)

    def _check_order(self, problems: Problems) -> None:
        """Check what a sweep in deterministic mode cannot go without."""
        if not self.tune.deterministic:
            return
        if self.run.failure_config.hang_timeout_s is None:
            problems.add(
                "FailureConfig.hang_timeout_s",
                "is missing, but deterministic=True needs it, since all trials wait for one that hangs",
                hint="say how long a trial may be silent, such as FailureConfig(hang_timeout_s='30min')",
            )
        if self.info.kind == "class" and not self.info.can_save:
            problems.add("deterministic", f"got True, but {self.info.name} cannot save checkpoints", hint=_SAVE_HINT)
        if callable(self.info.resources):
            problems.add(
                "deterministic",
                "got True, but the resources differ by trial, so one might not fit",
                hint="give with_resources a dict that holds what the largest trial needs",
            )

    def _check_prices(self, problems: Problems) -> None:
        """Refuse a limit that is never reached, since nothing that a trial occupies has a price."""
        prices, resources = self.tune.plain_prices, self.info.resources
        if self.tune.max_cost is None or callable(resources):
            return
        occupied = sorted(name for name, amount in resources.items() if amount)
        if any(prices.get(name) for name in occupied):
            return
        priced = ", ".join(sorted(name for name, price in prices.items() if price)) or "nothing"
        what = f"only {', '.join(occupied)}, for nothing" if occupied else "nothing"
        problems.add("max_cost", f"got prices for {priced}, but a trial occupies {what}", hint=_PRICES_HINT)

    def _check_searcher(self) -> None:
        """Begin a search for a moment: whether the searcher fits the space shows in no other way."""
        mode = Mode(self.tune.mode or "min")
        self.searcher.begin(self.space, metric=self.tune.metric, mode=mode, seed=self.tune.seed or 0)

    @cached_property
    def info(self) -> TrainableInfo:
        """What the trainable is."""
        return describe(self.trainable)

    @cached_property
    def space(self) -> Space:
        """The search space."""
        return Space(self.param_space, lend=seeded)

    @cached_property
    def scheduler(self) -> Any:
        """The scheduler, with the default filled in."""
        return self.tune.scheduler if self.tune.scheduler is not None else FIFO()

    @cached_property
    def searcher(self) -> Any:
        """The searcher, with the default filled in."""
        return self.tune.search_alg if self.tune.search_alg is not None else RandomSearch()

    @cached_property
    def name(self) -> str:
        """The experiment's name."""
        return self.run.name or self.info.name

    @cached_property
    def path(self) -> str:
        """The experiment's folder, an absolute path or a URI."""
        return joined(resolve(self.run.storage_root), self.name)

    @cached_property
    def saves_at_end(self) -> bool:
        """Whether trials that end save a checkpoint."""
        at_end = self.run.checkpoint_config.checkpoint_at_end
        if at_end is None:
            return self.info.kind == "class" and self.info.can_save
        return at_end

    @cached_property
    def num_trials(self) -> int | None:
        """How many trials the script asks for over all of its runs; None: as many as there are."""
        num_trials: int | None = self.searcher.num_trials(self.space, self.tune.num_samples)
        return num_trials

    @property
    def logical_slots(self) -> int | None:
        """How many trials are under way at a time in deterministic mode; None: it is off."""
        return self.tune.max_concurrent_trials if self.tune.deterministic else None

    def draw_seed(self) -> int:
        """Return the seed: the script's, or a new one, to be drawn once in the life of an experiment."""
        return self.tune.seed if self.tune.seed is not None else secrets.randbits(32)

    def identity(self, seed: int) -> dict[str, Json]:
        """Return what may not change over the life of the experiment."""
        slots = {"logical_slots": self.logical_slots} if self.logical_slots is not None else {}
        return {
            **slots,
            "metric": self.tune.metric,
            "mode": self.tune.mode,
            "seed": seed,
            "trainable": {"name": self.info.qualified_name, "kind": self.info.kind},
            "searcher": self.searcher.identity(),
            "scheduler": self.scheduler.identity(),
            "threads": self._threads(),
        }

    def _threads(self) -> int | None:
        """Return the threads per trial, which decide the bits of a matrix product; None: they differ by trial."""
        resources = self.info.resources
        return None if callable(resources) else max(1, int(resources.get("CPU", 1)))

    def settings(self, seed: int, now: float = 0.0) -> Settings:
        """Return what the core must know.

        Args:
            seed: As in ``identity``.
            now: What time it is, in experiment seconds.
        """
        checkpoint, failure = self.run.checkpoint_config, self.run.failure_config
        return Settings(
            metric=self.tune.metric,
            mode=self.tune.mode or "min",
            seed=seed,
            num_trials=self.num_trials,
            ask_batch=1 if self.searcher.learns or self.num_trials is None else _ASK_BATCH,
            searcher_learns=self.searcher.learns,
            time_budget_s=self.tune.budget_s,
            deadline_s=self._deadline_s(now),
            max_cost=self.tune.max_cost,
            prices=self.tune.plain_prices,
            max_failures=failure.max_failures,
            max_preemption_failures=failure.max_preemption_failures,
            max_futile_preemptions=MAX_FUTILE_PREEMPTIONS,
            backoff_s=seconds_of(failure.backoff_s),
            max_identical_failures=failure.max_identical_failures,
            rules=[Rule(rule.pattern, rule.action, rule.max_times) for rule in failure.rules],
            fail_fast=bool(failure.fail_fast),
            silent_restart=failure.silent_restart,
            hang_timeout_s=failure.hang_s,
            time_limit_s=self.run.limit_s,
            num_to_keep=checkpoint.num_to_keep,
            score_attribute=checkpoint.checkpoint_score_attribute,
            score_order=checkpoint.checkpoint_score_order,
            max_experiment_bytes=checkpoint.max_experiment_bytes,
            saves_at_end=self.saves_at_end,
            asks_every_result=callable(self.run.stop),
            stop_grace_s=seconds_of(self.run.stop_grace_s),
            resume_errored=self.resume_errored,
            restart_errored=self.restart_errored,
            fails_without_checkpoint=True,
            tells_outlook=checkpoint.is_auto,
            logical_slots=self.logical_slots,
        )

    def _deadline_s(self, now: float) -> float | None:
        """Return the deadline in experiment seconds, of which none passes while no driver runs."""
        deadline = self.tune.deadline
        return None if deadline is None else now + max(0.0, deadline.timestamp() - time.time())

    def record(self) -> dict[str, Json]:
        """Return the rest of the script's wishes as JSON, so that the experiment can be restored from its path."""
        checkpoint, portable = self.run.checkpoint_config, to_portable(self.param_space)
        return {
            "name": self.info.name,
            "space": portable,
            "outline": to_outline(self.param_space) if portable is None else None,
            "space_signature": self.space.signature(),
            "code": code_digest(self.trainable),
            "points_to_evaluate": self._points(),
            "num_samples": self.tune.num_samples,
            "max_concurrent_trials": self.tune.max_concurrent_trials,
            "deadline": None if self.tune.deadline is None else self.tune.deadline.isoformat(),
            "reuse_actors": self.tune.reuse_actors,
            "fresh_process": self.tune.fresh_process,
            "stop": dict(self.run.stop) if isinstance(self.run.stop, Mapping) else None,
            "stop_function": callable(self.run.stop),
            "checkpoint_frequency": checkpoint.frequency,
            "checkpoint_at_end": checkpoint.checkpoint_at_end,
            "checkpoint_every_s": AUTO if checkpoint.is_auto else checkpoint.every_s,
            "checkpoint_on_failure": checkpoint.checkpoint_on_failure,
            "fail_fast": self.run.failure_config.fail_fast,
            "preemption_grace_s": seconds_of(self.run.preemption_grace_s),
            "lease_s": seconds_of(self.run.lease_s),
        }

    def _points(self) -> Json:
        """Return the points that random search begins with; None: they hold Python objects, or are another searcher's.

        The identity holds only fingerprints of them.
        """
        return to_portable(list(self.searcher.points_to_evaluate)) if isinstance(self.searcher, RandomSearch) else None

    def sweep_spec(self, seed: int, *, nonce: str) -> SweepSpec:
        """Return what every worker is told."""
        return SweepSpec(
            experiment=self.name,
            path=self.path,
            nonce=nonce,
            version=__version__,
            seed=seed,
            metric=self.tune.metric,
            stop=dict(self.run.stop) if isinstance(self.run.stop, Mapping) else {},
            checkpoint=self.run.checkpoint_config,
            reuse_actors=self.tune.reuse_actors,
            fresh_process=self.tune.fresh_process,
            deterministic=self.tune.deterministic,
            preemption_grace_s=seconds_of(self.run.preemption_grace_s),
            lease_s=seconds_of(self.run.lease_s),
            hang_timeout_s=self.run.failure_config.hang_s,
            silent_restart=self.run.failure_config.silent_restart,
        )

    def trial_name(self, trial: TrialId) -> str:
        """Return the name of a trial, which is also its folder."""
        return trial_name(self.info.name, trial)

    def attempt_spec(self, config: dict[str, Any], **launch: Any) -> AttemptSpec:
        """Return what a worker is told about one attempt."""
        shape = self.resources(lambda: config)
        return AttemptSpec(trial_name=self.trial_name(launch["trial"]), config=config, resources=shape, **launch)

    def resources(self, config: Callable[[], dict[str, Any]]) -> Mapping[str, float]:
        """Return what a trial occupies. Its configuration is made only if that depends on it."""
        resources = self.info.resources
        return resources(config()) if callable(resources) else resources

    def judge(self, row: ResultReported, config: dict[str, Any]) -> str:
        """Ask the script's stop function about a row; return why its trial ends here, or an empty string.

        The function gets copies: whatever it does to them changes neither record nor configuration.

        Args:
            row: The row, which nobody has judged yet.
            config: The configuration of its trial, made for this call.
        """
        stop = self.run.stop
        if isinstance(stop, Mapping) or stop is None:
            return ""
        result = {
            **copy.deepcopy(row.metrics),
            "training_iteration": row.iteration,
            "time_total_s": row.time_total_s,
            "time_this_iter_s": row.time_this_iter_s,
            "timestamp": row.timestamp,
            "trial_id": self.trial_name(row.trial),
            "config": config,
        }
        if not stop(self.trial_name(row.trial), result):
            return ""
        return f"{getattr(stop, '__name__', type(stop).__name__)} said so"


_PRICES_HINT = "give a price for what trials occupy, or say with with_resources(train, {'gpu': 1}) what that is"
_SAVE_HINT = "give the class both save_checkpoint(path) and load_checkpoint(path)"


def _warn_of_starting_over(info: TrainableInfo, config: CheckpointConfig) -> None:
    """Say once what it costs that a class cannot save, unless the script shows that it knows."""
    if info.kind == "class" and not info.can_save and config.checkpoint_at_end is None:
        _logger.warning(
            "%s has no save_checkpoint and load_checkpoint, so its trials start over after a failure "
            "(set checkpoint_at_end=False if that is meant)",
            info.name,
        )


def _check_can_save(problems: Problems, info: TrainableInfo, config: CheckpointConfig) -> None:
    """Refuse what a class without save methods cannot be asked for."""
    if info.kind != "class" or info.can_save:
        return
    asked = {
        "checkpoint_frequency": config.frequency,
        "checkpoint_every_s": config.checkpoint_every_s,
        "checkpoint_at_end": config.checkpoint_at_end,
        "checkpoint_on_failure": config.checkpoint_on_failure,
    }
    for name, value in asked.items():
        if value:
            problems.add(name, f"got {value!r}, but {info.name} cannot save checkpoints", hint=_SAVE_HINT)
