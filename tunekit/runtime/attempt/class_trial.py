"""Runs a class trainable: ``setup``, ``load_checkpoint``, ``step`` after ``step``, ``save_checkpoint``, ``cleanup``."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunekit.checkpoint import Checkpoint
from tunekit.config.problems import shorten
from tunekit.errors import ReportError, SessionError
from tunekit.runtime.attempt.surroundings import context_of, trial_dir
from tunekit.runtime.attempt.trial_run import TrialRun, logger
from tunekit.runtime.saving.user_saves import content_of, tell_change
from tunekit.session import Context, TrialStopped
from tunekit.trainable import BoundTrainable, Trainable
from tunekit.trainable.base import create, set_iteration, tell
from tunekit.trainable.description import describe


def run_class(run: TrialRun, bound: BoundTrainable, checkpoint: Path | None) -> None:
    """Run an instance of the class until the trial ends.

    Raises:
        TrialStopped: The trial ended.
        BaseException: Whatever user code raised.
    """
    instance = _instance(run, bound)
    try:
        if checkpoint is not None:
            run.go_on()
            set_iteration(instance, run.iteration)
            content = content_of(checkpoint)
            with run.watch.loading(), run.exposed():
                instance.load_checkpoint(content)
            tell_change(checkpoint, content, run.sweep.path, run.spec.trial_name)
            run.triggers.restart()
        _loop(run, bound, instance)
    except BaseException as error:
        run.save_failed(error)  # Now, because cleanup() releases what there is to save.
        raise
    finally:
        if run.sweep.reuse_actors and run.ending is not None and not run.was_interrupted:
            _keep(bound, instance)
        else:
            _clean_up(run, instance)


def _loop(run: TrialRun, bound: BoundTrainable, instance: Trainable) -> None:
    if describe(bound).can_save:  # With its parameters, without which setup() may not be usable.
        run.write = instance.save_checkpoint
    else:
        run.lack = "the class does not define save_checkpoint and load_checkpoint"
    while True:
        with run.exposed():
            result = instance.step()
        if not isinstance(result, Mapping):
            raise ReportError(
                f"step() must return a dict of metrics, got {shorten(result)} ({type(result).__qualname__})",
                hint="return a dict such as {'loss': loss}",
            )
        plain, wishes = run.read(result, "step()")
        due = run.due(wishes)
        ends = run.record(plain, saves=due is not None)
        set_iteration(instance, run.iteration)
        run.follow_up(due, ends=ends)


def _instance(run: TrialRun, bound: BoundTrainable) -> Trainable:
    """Return an instance that was set up for the trial: the one that was kept, or a new one."""
    folder = trial_dir(run.sweep, run.spec)
    about: dict[str, Any] = {
        "trial_name": run.spec.trial_name,
        "experiment": run.sweep.experiment,
        "logdir": None if folder is None else str(folder),
        "resources": dict(run.spec.resources),
    }
    instance = _take(bound)
    if instance is not None:
        tell(instance, **about)
        is_reset = False
        try:
            with run.exposed():
                is_reset = instance.reset_config(run.spec.config)
        finally:
            if not is_reset:
                _clean_up(run, instance)
        if is_reset:
            instance.config = run.spec.config
            return instance
    with run.exposed():
        cls: type[Trainable] = bound.target
        return create(cls, run.spec.config, parameters=bound.parameters, **about)


def _clean_up(run: TrialRun, instance: Trainable) -> None:
    """Call ``cleanup``; what it raises is logged and changes no result."""
    try:
        with run.exposed():
            instance.cleanup()
    except TrialStopped:
        logger.warning("%s: cleanup() was interrupted: it took too long", run.spec.trial_name)
    except Exception:  # noqa: BLE001 - whatever it is, it comes too late to matter
        logger.exception("%s: cleanup() failed; its results stand", run.spec.trial_name)


# -- reuse -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Kept:
    target: Any = None
    originals: Mapping[str, Any] = field(default_factory=dict)
    """Its parameters, or what they are copies of."""
    instance: Trainable | None = None
    is_registered: bool = False


_kept = _Kept()


def release() -> None:
    """Clean the instance up that was kept for the next trial, if there is one. For the end of a sweep or process."""
    instance = _let_go()
    if instance is not None:
        try:
            instance.cleanup()
        except Exception:  # noqa: BLE001 - as above
            logger.exception("cleanup() failed; its results stand")


def _keep(bound: BoundTrainable, instance: Trainable) -> None:
    if not _kept.is_registered:
        _kept.is_registered = True
        atexit.register(release)
    _kept.target, _kept.originals, _kept.instance = bound.target, _originals(bound), instance


def _let_go() -> Trainable | None:
    instance = _kept.instance
    _kept.target, _kept.originals, _kept.instance = None, {}, None
    return instance


def _take(bound: BoundTrainable) -> Trainable | None:
    """Return the kept instance if it is of the same class with the same parameters; else clean it up."""
    if _kept.instance is None:
        return None
    if _kept.target is bound.target and _same(_kept.originals, _originals(bound)):
        return _let_go()
    release()
    return None


def _originals(bound: BoundTrainable) -> Mapping[str, Any]:
    return bound.parameters if bound.originals is None else bound.originals


def _same(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    """Return whether both hold the same objects; arrays cannot be asked whether they are equal."""
    return left.keys() == right.keys() and all(left[name] is right[name] for name in left)


class ClassSession:
    """What the methods of a class find behind ``get_context()`` and its like."""

    def __init__(self, run: TrialRun, checkpoint: Path | None) -> None:
        """Remember the checkpoint that the attempt goes on from."""
        self._run = run
        self._checkpoint = checkpoint

    def report(self, metrics: Any, checkpoint: Any) -> None:
        """Refuse: a class reports by returning."""
        del metrics, checkpoint
        raise SessionError(
            "report() was called inside a class trainable",
            hint="return the metrics from step(); set 'should_checkpoint': True in them to save a checkpoint now",
        )

    def get_checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint that ``load_checkpoint`` is given."""
        return None if self._checkpoint is None else Checkpoint(self._checkpoint)

    def restore(self, saver: Any) -> bool:
        """Refuse: a class restores itself."""
        del saver
        raise SessionError("restore() was called inside a class trainable", hint="define load_checkpoint(self, path)")

    def context(self) -> Context:
        """Return where the class runs."""
        return context_of(self._run, None)

    def interrupt(self, trial: int, attempt: int) -> None:
        """Raise TrialStopped if user code of this attempt runs."""
        self._run.interrupt(trial, attempt)
