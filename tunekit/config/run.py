"""How a sweep runs: where its results go, when trials stop, what is saved, and what a failure costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from tunekit.config.durations import AUTO, Duration, check_duration, seconds_of
from tunekit.config.problems import (
    Problems,
    did_you_mean,
    flag_meant,
    is_finite,
    is_number,
    make_plain,
    plain_number,
    shorten,
)
from tunekit.config.rules import FailureRule, check_rules

DEFAULT_STORAGE_PATH = "~/tunekit_results"
"""Where experiments go when ``RunConfig.storage_path`` is None."""

StopFunction: TypeAlias = Callable[[str, dict[str, Any]], bool]
"""Called with the trial's name and each of its results; True ends the trial."""

_LEAST_SILENCE_S = 0.1
"""Of a worker, before it is given up: a shorter time passes between any two of its words."""

_PATH_HINT = "give a folder such as storage_path='results', or leave it out for ~/tunekit_results"

_OF_CALLBACKS = ("setup", "position", "on_restore", "on_trial_result", "flush")
"""What tells a callback of ours from one of another library."""


@runtime_checkable
class PathLike(Protocol):
    """What ``pathlib.Path`` is, without importing a module that can touch the disk."""

    def __fspath__(self) -> str:
        """Return the path as a string."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are saved, and which of them are kept.

    Raises:
        ConfigError: If a field is out of range or contradicts another one; all fields are reported together.
    """

    num_to_keep: int | None = None
    """How many checkpoints each trial keeps, the best or else the newest (its newest is always kept too); None: all."""
    checkpoint_score_attribute: str | None = None
    """The reported metric (nested as ``val/loss``) by which the best ones are kept; None: the newest ones are."""
    checkpoint_score_order: str = "max"
    """Whether a high (``max``) or a low (``min``) score is the better one."""
    checkpoint_frequency: int | None = 0
    """Save every so many iterations; 0 or None: not periodically."""
    checkpoint_at_end: bool | None = None
    """Whether to save when a trial ends; None: if it can."""
    checkpoint_every_s: float | str | Duration | None = None
    """Save when so long has passed since the last save: seconds, a ``timedelta``, or ``90s``, ``30min``, ``2h``.

    ``auto``: the interval sets itself, by what a save costs and how often work is lost.
    """
    checkpoint_on_failure: bool = False
    """Whether to save what is there when user code raises, apart from the others: nothing goes on from it by itself."""
    max_experiment_bytes: int | None = None
    """Bytes that the checkpoints of all trials may take together; None: any. What trials need to go on always stays."""

    def __post_init__(self) -> None:
        """Check every field."""
        make_plain(self, "num_to_keep", "checkpoint_frequency", "checkpoint_every_s", "max_experiment_bytes")
        problems = Problems("CheckpointConfig")
        problems.integer("num_to_keep", self.num_to_keep, at_least=1, none_is="keep all")
        problems.key("checkpoint_score_attribute", self.checkpoint_score_attribute)
        problems.one_of("checkpoint_score_order", self.checkpoint_score_order, ("max", "min"))
        problems.integer("checkpoint_frequency", self.checkpoint_frequency, at_least=0, none_is="never")
        problems.flag("checkpoint_at_end", self.checkpoint_at_end, none_is="if the trainable can save")
        check_duration(problems, "checkpoint_every_s", self.checkpoint_every_s, none_is="no saves by time", auto=True)
        problems.flag("checkpoint_on_failure", self.checkpoint_on_failure)
        problems.integer("max_experiment_bytes", self.max_experiment_bytes, at_least=1, none_is="any number")
        if self.checkpoint_score_order == "min" and self.checkpoint_score_attribute is None:
            problems.add(
                "checkpoint_score_order",
                "got 'min', but there is no checkpoint_score_attribute to order by",
                hint="set checkpoint_score_attribute to the metric that ranks checkpoints, such as 'loss'",
            )
        problems.raise_if_any()

    @property
    def frequency(self) -> int:
        """Save every so many iterations; 0: not periodically."""
        return self.checkpoint_frequency or 0

    @property
    def every_s(self) -> float | None:
        """Save when so many seconds have passed since the last save; None: not by time, or as often as is best."""
        return None if self.checkpoint_every_s is None or self.is_auto else seconds_of(self.checkpoint_every_s)

    @property
    def is_auto(self) -> bool:
        """Whether saves by time come as often as is best."""
        return isinstance(self.checkpoint_every_s, str) and self.checkpoint_every_s == AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureConfig:
    """What a failure costs. Preemption is not a failure.

    Raises:
        ConfigError: If a field is out of range or contradicts another one; all fields are reported together.
    """

    max_failures: int = 0
    """How many failures each trial survives: exceptions, crashes, lack of memory, hangs; -1: any number."""
    max_preemption_failures: int = -1
    """How often each trial survives that its machine is taken away or lost; -1: any number."""
    backoff_s: float | str | Duration = 0.0
    """How long a trial waits after its first failure, twice that after its second, and so on, up to ten minutes."""
    max_identical_failures: int | None = 5
    """So many trials that fail in the same way, before any trial has reported a result, end the run; None: never."""
    fail_fast: bool | str = False
    """Whether the first failed trial ends the experiment; ``raise``: and ``fit()`` raises its error."""
    rules: Sequence[FailureRule] = ()
    """What to do about failures that the user knows: the first rule whose pattern fits the error holds."""
    silent_restart: str = "warn"
    """What becomes of a trial that was given a checkpoint and began anew all the same: ``warn`` says so, once a trial;
    ``fail`` ends it with an error, before it has thrown away what it had learned."""
    hang_timeout_s: float | str | Duration | None = None
    """A running trial that reports nothing for so long is killed and tried again; None: it may take any time.

    Seconds, a ``timedelta``, or ``90s``, ``30min``, ``2h``. It must be longer than the longest step, and than all that
    comes before the first report: loading data, compiling, ``setup``. A trial that waits for us (for a place, a
    decision, a save) is not taken for hung.
    """

    def __post_init__(self) -> None:
        """Check every field."""
        make_plain(
            self, "max_failures", "max_preemption_failures", "backoff_s", "max_identical_failures", "hang_timeout_s"
        )
        problems = Problems("FailureConfig")
        for budget in ("max_failures", "max_preemption_failures"):
            hint = f"{budget}=3 lets a trial survive three, {budget}=-1 any number"
            problems.integer(budget, getattr(self, budget), at_least=-1, hint=hint)
        check_duration(problems, "backoff_s", self.backoff_s, zero=True, example="10s")
        problems.integer("max_identical_failures", self.max_identical_failures, at_least=1, none_is="any number")
        check_duration(
            problems,
            "hang_timeout_s",
            self.hang_timeout_s,
            none_is="any time between two reports",
            at_least=_LEAST_SILENCE_S,
        )
        check_rules(problems, self.rules)
        problems.one_of("silent_restart", self.silent_restart, ("warn", "fail"))
        if not isinstance(self.fail_fast, bool | str):
            hint = flag_meant("fail_fast", self.fail_fast)
            problems.bad_type("fail_fast", self.fail_fast, "True, False or 'raise'", hint=hint)
        elif self.fail_fast not in {True, False, "raise"}:
            meant = did_you_mean(self.fail_fast, ("raise",))
            hint = f"did you mean fail_fast={meant!r}?" if meant else flag_meant("fail_fast", self.fail_fast)
            problems.bad_value("fail_fast", self.fail_fast, "True, False or 'raise'", hint=hint)
        elif self.fail_fast and self.max_failures != 0:
            problems.add(
                "fail_fast",
                f"got {self.fail_fast!r} with max_failures={shorten(self.max_failures)}, which contradict each other",
                hint="leave max_failures at 0 to end at the first failure, or fail_fast at False to retry",
            )
        problems.raise_if_any()

    @property
    def hang_s(self) -> float | None:
        """Seconds without a report after which a running trial is taken for hung; None: never."""
        return None if self.hang_timeout_s is None else seconds_of(self.hang_timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Where the results of a sweep go, and how its trials are run.

    Raises:
        ConfigError: If a field is out of range or of the wrong type; all fields are reported together.
    """

    name: str | None = None
    """The experiment's name, one folder below ``storage_path``; None: the trainable's name."""
    storage_path: str | PathLike | None = None
    """A folder, or a URI such as ``s3://bucket/sweeps`` or ``memory://name``; None: ``~/tunekit_results``."""
    stop: Mapping[str, float] | StopFunction | None = None
    """A trial ends as soon as one of these keys reaches its number (>=), or when the function says so."""
    time_limit_s: float | str | Duration | None = None
    """A trial that has run for so long, all of its attempts together, ends as by a stop condition; None: never."""
    checkpoint_config: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When checkpoints are saved, and which are kept."""
    failure_config: FailureConfig = field(default_factory=FailureConfig)
    """What a failure costs."""
    callbacks: Sequence[Any] = ()
    """Follow the sweep and can change nothing: instances of subclasses of ``tunekit.Callback``."""
    on_change: str = "error"
    """What to do when the script no longer describes the experiment of its name.

    ``error``: refuse, and show every difference. ``extend``: a changed search space is drawn from for new trials, while
    those that exist keep their configurations. ``fork``: leave that experiment alone, and begin or go on with one named
    ``<name>-2``, or ``-3`` and so on. A change of metric or mode is an error in any case.
    """
    verbose: int = 1
    """0: silent; 1: a line per trial; 2 and more: a line per result."""
    stop_grace_s: float | str | Duration = 10.0
    """How long from a stop to the signal that interrupts user code, and again from there to SIGKILL."""
    preemption_grace_s: float | str | Duration = 30.0
    """How long from SIGTERM to the end of a worker process: time to come to a report and to save."""
    lease_s: float | str | Duration = 60.0
    """How long a worker works on without word from the driver's node before it ends itself."""

    def __post_init__(self) -> None:
        """Check every field."""
        make_plain(self, "time_limit_s", "verbose", "stop_grace_s", "preemption_grace_s", "lease_s")
        if isinstance(self.stop, Mapping):
            object.__setattr__(self, "stop", {key: plain_number(limit) for key, limit in self.stop.items()})
        problems = Problems("RunConfig")
        if self.name is not None:
            problems.folder_name("name", self.name)
        _check_storage_path(problems, self.storage_path)
        _check_stop(problems, self.stop)
        check_duration(problems, "time_limit_s", self.time_limit_s, none_is="trials of any length", example="2h")
        _check_part(problems, "checkpoint_config", self.checkpoint_config, CheckpointConfig)
        _check_part(problems, "failure_config", self.failure_config, FailureConfig)
        _check_callbacks(problems, self.callbacks)
        problems.one_of("on_change", self.on_change, ("error", "extend", "fork"))
        problems.integer("verbose", self.verbose, at_least=0, at_most=3)
        check_duration(problems, "stop_grace_s", self.stop_grace_s, zero=True, example="10s")
        check_duration(problems, "preemption_grace_s", self.preemption_grace_s, example="30s")
        check_duration(problems, "lease_s", self.lease_s, at_least=_LEAST_SILENCE_S, example="60s")
        problems.raise_if_any()

    @property
    def limit_s(self) -> float | None:
        """Seconds that a trial may run, all of its attempts together; None: any."""
        return None if self.time_limit_s is None else seconds_of(self.time_limit_s)

    @property
    def storage_root(self) -> str:
        """The storage path as a string, with the default filled in; a leading ``~`` is not expanded."""
        if self.storage_path is None:
            return DEFAULT_STORAGE_PATH
        return self.storage_path if isinstance(self.storage_path, str) else self.storage_path.__fspath__()


def _check_storage_path(problems: Problems, value: object) -> None:
    allowed = "None, a folder, or a URI"
    if value is None:
        return
    path = value.__fspath__() if isinstance(value, PathLike) and not isinstance(value, type) else value
    if not isinstance(path, str):
        problems.bad_type("storage_path", value, allowed, hint=_PATH_HINT)
    elif not path.strip() or "\0" in path:
        problems.bad_value("storage_path", value, allowed, hint=_PATH_HINT)
    elif not isinstance(value, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path):
        # pathlib takes "s3://bucket" for a relative path and drops a slash.
        problems.bad_value("storage_path", value, allowed, hint="pass a URI as text")


def _check_stop(problems: Problems, stop: object) -> None:
    if stop is None or (callable(stop) and not isinstance(stop, type)):
        return
    if not isinstance(stop, Mapping):
        allowed = "None, a dict such as {'training_iteration': 50}, or a function (trial_id, result) -> bool"
        problems.bad_type("stop", stop, allowed, hint="stop={'training_iteration': 50} ends each trial there")
        return
    for key, value in stop.items():
        place = f"stop[{shorten(key)}]"
        if not isinstance(key, str) or not key:
            hint = "name a metric as it is reported, such as stop={'loss': 0.1}"
            problems.bad_type("stop", key, "keyed by names of metrics", hint=hint)
        elif not is_number(value):
            hint = "a metric stops a trial when it reaches a number; for anything else pass a function"
            problems.bad_type(place, value, "a number", hint=hint)
        elif not is_finite(value):
            hint = "leave out the metric that is to end nothing"
            problems.bad_value(place, value, "a finite number", hint=hint)
        elif key == "training_iteration" and value < 1:
            hint = "a trial ends after so many iterations: stop={'training_iteration': 1} after its first"
            problems.bad_value(place, value, ">= 1: iterations count from 1", hint=hint)


def _check_callbacks(problems: Problems, callbacks: object) -> None:
    if not isinstance(callbacks, list | tuple):
        hint = "put it into a list, even if it is one: callbacks=[tunekit.JsonlLogger(...)]"
        problems.bad_type("callbacks", callbacks, "a list of callbacks", hint=hint)
        return
    for place, callback in enumerate(callbacks):
        # By what it has: the class itself lives above this layer.
        if isinstance(callback, type) or not all(callable(getattr(callback, name, None)) for name in _OF_CALLBACKS):
            hint = "derive the class from tunekit.Callback, and give an instance of it"
            problems.bad_type(f"callbacks[{place}]", callback, "an instance of a tunekit.Callback", hint=hint)
        elif any(callback is other for other in callbacks[:place]):
            hint = "make an instance for each place, or leave out one"
            problems.bad_value(f"callbacks[{place}]", callback, "given once", hint=hint)


def _check_part(problems: Problems, name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        did = isinstance(value, Mapping | type)
        hint = f"did you mean {name}={kind.__name__}(...)?" if did else f"write {name}=tunekit.{kind.__name__}(...)"
        problems.bad_type(name, value, f"a {kind.__name__}", hint=hint)
