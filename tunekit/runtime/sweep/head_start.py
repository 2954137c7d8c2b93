"""Runs a sweep on Ray, and gives its first worker a head start where there is a cluster to be joined.

Ray is joined before the rest of the driver is loaded and its journal read, unless the sweep seems to be over: then its
results come without Ray.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.collector import without_collector
from tunekit.errors import ConfigError, ExperimentError
from tunekit.journal.glance import may_have_work
from tunekit.runtime.executor.late_modules import put_off_modules
from tunekit.runtime.line.shapes import shape_of
from tunekit.runtime.sweep.plan import Plan
from tunekit.search import RandomSearch
from tunekit.space import SampleFrom
from tunekit.trainable import check_picklable

if TYPE_CHECKING:
    from tunekit.results import ResultGrid
    from tunekit.runtime.executor.first_worker import HeadStart


def fit_on_ray(plan: Plan, *, takeover: bool = False) -> ResultGrid:
    """Run a sweep to its end, or go on with it.

    Args:
        plan: The sweep.
        takeover: Whether to take the place of a driver that is running it.
    """
    if plan.path.startswith("memory://"):
        raise ConfigError(
            f"storage_path: got {plan.run.storage_root!r}, but workers are other processes and cannot see it",
            hint="run it in this process with tunekit.inline(tuner), or give a folder or a bucket",
        )
    pickled = check_picklable(plan.trainable)
    with contextlib.ExitStack() as during:
        with without_collector():
            first = during.enter_context(_head_start(plan))
            from tunekit.runtime.sweep.sweep import fit  # noqa: PLC0415 - while the first worker starts

        return fit(plan, pickled, takeover=takeover, first=first)


@contextmanager
def _head_start(plan: Plan) -> Iterator[HeadStart]:
    """Ask for the first worker if it is clear that there will be one, at once, and what it occupies.

    Why a cluster cannot be joined is not raised: all that can be said without Ray is said first.
    """
    resources = plan.info.resources
    if callable(resources) or _runs_user_code(plan) or "://" in plan.path or not may_have_work(Path(plan.path)):
        yield None
        return
    from tunekit.runtime.driver.signals import SweepInterrupted, interruptible  # noqa: PLC0415 - as the next

    with put_off_modules():
        from tunekit.runtime.executor.first_worker import first_worker  # noqa: PLC0415 - Ray is loaded for work only

    first: HeadStart
    with interruptible(lambda _: None) as interruption:  # Ray does not survive a Ctrl-C while it connects.
        try:
            first = first_worker(shape_of(resources))
        except ExperimentError as error:
            first = error
    try:
        if interruption.exit_code:
            raise SweepInterrupted(interruption.exit_code)
        yield first
    finally:
        if not isinstance(first, ExperimentError | None):
            first.dismiss()


def _runs_user_code(plan: Plan) -> bool:
    """Return whether code that may use Ray runs before the first trial, and would wait for the worker's place."""
    draws = any(isinstance(domain, SampleFrom) for domain in plan.space.domains.values())
    return bool(plan.run.callbacks) or draws or type(plan.searcher) is not RandomSearch
