"""How a sweep runs: where its results go, and when trials stop."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from tunekit.config.checkpoints import CheckpointConfig
from tunekit.config.durations import LEAST_SILENCE_S, Duration, check_duration, seconds_of
from tunekit.config.failures import FailureConfig
from tunekit.config.problems import (
    Problems,
    is_finite,
    is_number,
    make_plain,
    plain_number,
    shorten,
)

DEFAULT_STORAGE_PATH = "~/tunekit_results"
"""Where experiments go when ``RunConfig.storage_path`` is None."""

StopFunction: TypeAlias = Callable[[str, dict[str, Any]], bool]
"""Called with the trial's name and each of its results; True ends the trial."""

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
        check_duration(problems, "lease_s", self.lease_s, at_least=LEAST_SILENCE_S, example="60s")
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
