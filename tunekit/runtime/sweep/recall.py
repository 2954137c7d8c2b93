"""Makes a plan out of what an experiment has recorded, for ``Tuner.restore``.

Code is never stored. What holds code (the trainable, Python objects in the space, a stop function, a scheduler or
searcher of the user's own) must be given again; everything else is JSON and comes back from the journal.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tunekit.config import CheckpointConfig, FailureConfig, FailureRule, RunConfig, TuneConfig
from tunekit.config.rules import recalled
from tunekit.core.events import DriverStarted, Rule, Settings
from tunekit.errors import ConfigError, ExperimentNotFoundError
from tunekit.journal.folder import ExperimentFolder, experiment_folder
from tunekit.journal.header import ExperimentHeader
from tunekit.runtime.sweep.plan import Plan
from tunekit.schedulers import ASHA, FIFO
from tunekit.search import RandomSearch
from tunekit.space.portable import from_portable
from tunekit.store.joining import parent_of
from tunekit.store.opening import resolve
from tunekit.types import Json

_SCHEDULERS = {"FIFO": FIFO, "ASHA": ASHA}
_SEARCHERS = {"RandomSearch": RandomSearch}


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What an experiment says of itself."""

    path: str
    """Its folder, an absolute local path or a URI."""
    header: ExperimentHeader
    settings: Settings
    run: Mapping[str, Json]
    """As of the newest driver."""


def read_recorded(path: str | os.PathLike[str]) -> Recorded:
    """Read what an experiment has recorded, without running or unpickling anything.

    Raises:
        ConfigTypeError: It is neither text nor a path.
        ExperimentNotFoundError: There is no experiment at ``path``.
        JournalError: It is damaged, or of a newer tunekit.
    """
    folder, header = _located(path)
    settings, run = Settings(), {}
    for record in folder.records(holding=b'"driver_started"'):
        if isinstance(record, DriverStarted):
            settings, run = record.settings, record.run
    return Recorded(path=folder.path, header=header, settings=settings, run=run)


def has_begun(path: str | os.PathLike[str]) -> bool:
    """Return whether a driver has ever run the experiment at ``path``. Reads no more than its beginning.

    Raises:
        ConfigTypeError: It is neither text nor a path.
        ExperimentNotFoundError: There is no experiment at ``path``.
        JournalError: Its beginning is damaged, or it is of a newer tunekit.
    """
    folder, _ = _located(path)
    return isinstance(next(folder.records(), None), DriverStarted)


def _located(path: str | os.PathLike[str]) -> tuple[ExperimentFolder, ExperimentHeader]:
    """Return the experiment's folder and header."""
    folder = experiment_folder(resolve(path, what="path"))
    header = folder.header()
    if header is None:
        raise ExperimentNotFoundError(
            f"there is no experiment at {folder.path}: it has no experiment.json",
            hint="give the experiment's own folder, <storage_path>/<name>",
        )
    return folder, header


def recall(
    path: str | os.PathLike[str],
    trainable: Any,
    *,
    param_space: Mapping[str, Any] | None,
    tune: TuneConfig | None,
    run: RunConfig | None,
    resume_errored: bool,
    restart_errored: bool,
) -> Plan:
    """Return the plan to go on with the experiment at ``path``."""
    recorded = read_recorded(path)
    if not recorded.run:
        _check_all_given(param_space=param_space, tune_config=tune, run_config=run)
    if run is None:
        run = _run_config(recorded)
    around, name = _apart(recorded.path)
    return Plan(
        trainable=trainable,
        param_space=_space(recorded) if param_space is None else param_space,
        tune=tune or _tune_config(recorded),
        run=dataclasses.replace(run, name=name, storage_path=around),
        resume_errored=resume_errored,
        restart_errored=restart_errored,
    )


def _apart(path: str) -> tuple[str, str]:
    """Return storage path and name of an experiment."""
    around, name = parent_of(path)
    if not around and path.startswith("memory://"):
        return "memory://", name
    if not around:
        raise ConfigError(
            f"path: got {path!r}, but an experiment needs a folder of its own", hint="copy it into one: tunekit cp"
        )
    return around, name


def _check_all_given(**given: Any) -> None:
    """Refuse to fill in what a driver that died in its first moment had no time to record."""
    missing = " and ".join(argument for argument, value in given.items() if value is None)
    if missing:
        raise _missing(missing, "its first driver died before it had recorded its settings")


def _space(recorded: Recorded) -> Mapping[str, Any]:
    portable = recorded.run.get("space")
    if portable is None:
        raise _missing("param_space", "the search space holds Python objects, which are never stored")
    space: Mapping[str, Any] = from_portable(portable)
    return space


def _tune_config(recorded: Recorded) -> TuneConfig:
    identity, run = recorded.header.identity, recorded.run
    return TuneConfig(
        metric=identity.get("metric"),
        mode=identity.get("mode"),
        seed=identity.get("seed"),
        num_samples=run.get("num_samples", 1),
        max_concurrent_trials=run.get("max_concurrent_trials"),
        time_budget_s=recorded.settings.time_budget_s,
        deadline=_deadline(run.get("deadline")),
        max_cost=recorded.settings.max_cost,
        prices=recorded.settings.prices or None,
        scheduler=_policy("scheduler", identity.get("scheduler"), _SCHEDULERS),
        search_alg=_policy("search_alg", _searcher(recorded), _SEARCHERS),
        reuse_actors=run.get("reuse_actors", False),
        fresh_process=run.get("fresh_process", False),
        deterministic=recorded.settings.logical_slots is not None,
    )


def _deadline(recorded: str | None) -> datetime | None:
    return None if recorded is None else datetime.fromisoformat(recorded)


def _searcher(recorded: Recorded) -> dict[str, Any]:
    """Return the searcher's identity with its points themselves in place of their fingerprints."""
    identity = dict(recorded.header.identity.get("searcher") or {})
    if identity.get("points_to_evaluate"):
        points = recorded.run.get("points_to_evaluate")
        if points is None:
            raise _missing("tune_config", "points_to_evaluate holds Python objects, which are never stored")
        identity["points_to_evaluate"] = from_portable(points)
    return identity


def _policy(field: str, identity: Any, known: Mapping[str, Any]) -> Any:
    """Return the scheduler or searcher of which an identity speaks."""
    arguments = dict(identity or {})
    cls = known.get(arguments.pop("class", ""))
    if cls is None:
        raise _missing("tune_config", f"its {field} is a class of yours: {identity}")
    return cls(**arguments)


def _run_config(recorded: Recorded) -> RunConfig:
    settings, run = recorded.settings, recorded.run
    if run.get("stop_function"):
        raise _missing("run_config", "stop was a function, and code is never stored")
    return RunConfig(
        stop=run.get("stop"),
        time_limit_s=settings.time_limit_s,
        checkpoint_config=CheckpointConfig(
            num_to_keep=settings.num_to_keep,
            checkpoint_score_attribute=settings.score_attribute,
            checkpoint_score_order=settings.score_order,
            checkpoint_frequency=run.get("checkpoint_frequency", 0),
            checkpoint_at_end=run.get("checkpoint_at_end"),
            checkpoint_every_s=run.get("checkpoint_every_s"),
            checkpoint_on_failure=run.get("checkpoint_on_failure", False),
            max_experiment_bytes=settings.max_experiment_bytes,
        ),
        failure_config=FailureConfig(
            max_failures=settings.max_failures,
            max_preemption_failures=settings.max_preemption_failures,
            backoff_s=settings.backoff_s,
            max_identical_failures=settings.max_identical_failures,
            fail_fast=run.get("fail_fast", settings.fail_fast),
            hang_timeout_s=settings.hang_timeout_s,
            rules=_rules(settings.rules),
            silent_restart=settings.silent_restart,
        ),
        stop_grace_s=settings.stop_grace_s,
        preemption_grace_s=run.get("preemption_grace_s", 30.0),
        lease_s=run.get("lease_s", 60.0),
    )


def _rules(recorded: Sequence[Rule]) -> list[FailureRule]:
    """Return the rules, without any that comes after one with the same pattern, which earlier versions let pass."""
    first = {rule.pattern: rule for rule in reversed(recorded)}
    return [recalled(rule.pattern, rule.action, rule.max_times) for rule in recorded if first[rule.pattern] is rule]


def _missing(argument: str, why: str) -> ConfigError:
    return ConfigError(
        f"Tuner.restore needs {argument}: {why}", hint=f"pass the same {argument} as in the script that began it"
    )
