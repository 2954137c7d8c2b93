"""Makes of an order to launch what a worker can be given, or says why that is impossible."""

from __future__ import annotations

from collections.abc import Callable

import cloudpickle

from tunekit.core.commands import LaunchTrial
from tunekit.core.events import LaunchFailed
from tunekit.runtime.line.failure import error_info
from tunekit.runtime.line.shapes import Offers, Shape, shape_of
from tunekit.runtime.line.spec import AttemptSpec
from tunekit.runtime.line.wire import Assign

SpecOf = Callable[[LaunchTrial], AttemptSpec]
"""Makes what a worker is told of an attempt. It calls user code: a space's functions, a function of resources."""


def spec_or_failure(spec_of: SpecOf, command: LaunchTrial) -> AttemptSpec | LaunchFailed:
    """Return what a worker is told of an attempt; or that its user code raised, as it would again."""
    try:
        return spec_of(command)
    except Exception as error:  # noqa: BLE001 - bad news, thus an event
        return refused(command, error)


def prepare(spec_of: SpecOf, offers: Offers, command: LaunchTrial) -> tuple[Assign, Shape] | LaunchFailed:
    """Return an attempt that can be sent, and the resources that it needs."""
    spec = spec_or_failure(spec_of, command)
    if isinstance(spec, LaunchFailed):
        return spec
    try:
        shape = shape_of(spec.resources)
        offers.check(shape)
        pickled = cloudpickle.dumps(spec)
        return Assign(trial=command.trial, attempt=command.attempt, spec=pickled, avoid=command.avoid), shape
    except Exception as error:  # noqa: BLE001 - as above; pickling runs user code, too
        return refused(command, error)


def refused(attempt: LaunchTrial | Assign, error: Exception) -> LaunchFailed:
    """Return that an attempt cannot be launched, now or later."""
    return LaunchFailed(trial=attempt.trial, attempt=attempt.attempt, error=error_info(error), retryable=False)
