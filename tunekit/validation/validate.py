"""``validate_save_restore``: does a trainable come back as it was saved?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cloudpickle

from tunekit.config.problems import Problems
from tunekit.errors import TrainableError
from tunekit.trainable import BoundTrainable, Trainable, check_picklable, describe
from tunekit.trainable.bound import as_bound
from tunekit.validation.complaints import Complaints, Problem
from tunekit.validation.examination import Examination
from tunekit.validation.laboratory import Laboratory, Processes, Subject


def validate_save_restore(
    trainable: Any, config: Mapping[str, Any] | None = None, *, steps: int = 3, use_object_store: bool = False
) -> bool:
    """Train, save, restore in a fresh process, train on, and compare with a run that nobody interrupted, bit for bit.

    Both the results and what the checkpoints hold are compared. A trainable that passes can be killed at any time
    and loses nothing but the iterations since its last checkpoint.

    Args:
        trainable: A class with ``save_checkpoint`` and ``load_checkpoint``, or a function that reports a saver or
            checkpoints. It is run by the code that runs it in a sweep, in processes of its own.
        config: What it is given.
        steps: How many iterations to train before the restore, and how many after it. A trial that ends earlier by
            itself is interrupted one iteration before its end at the latest.
        use_object_store: Whether the checkpoint travels through Ray's object store instead of a folder; no file is
            left. Ray is started for it and ended again, unless it is running.

    Returns:
        True.

    Raises:
        ValidationError: The trainable does not come back as it was saved; says what differs, and why.
        TrainableError: It is no trainable at all.
        ConfigError: Another argument is not as it must be.
        StorageError: There is no room for temporary files.
    """
    subject = subject_of(trainable, config, steps)
    if use_object_store:
        # Imported here, because it needs Ray.
        from tunekit.validation.object_store import ObjectStore  # noqa: PLC0415

        with ObjectStore(subject) as store:
            examine(subject, store, steps)
    else:
        with Processes(subject) as processes:
            examine(subject, processes, steps)
    return True


def examine(subject: Subject, laboratory: Laboratory, steps: int) -> None:
    """Examine a subject.

    Raises:
        ValidationError: What is wrong with it.
    """
    Examination(subject, laboratory, steps).run()


def subject_of(
    trainable: Any,
    config: Mapping[str, Any] | None,
    steps: int,
    *,
    module: tuple[str, str] | None = None,
) -> Subject:
    """Check the arguments and return what is to be examined.

    Args:
        trainable: See ``validate_save_restore``.
        config: The same.
        steps: The same.
        module: Name and file of the module that holds the trainable, if it cannot be found by its name.

    Raises:
        ConfigError: ``config`` or ``steps`` is not as it must be.
        TrainableError: It is no trainable, or cannot be pickled, or (as ValidationError) lacks methods.
    """
    problems = Problems("validate_save_restore")
    if config is not None and not isinstance(config, Mapping):
        problems.bad_type("config", config, "None or a dict", hint="give the configuration of one trial")
    problems.integer("steps", steps, at_least=1)
    problems.raise_if_any()
    bound = as_bound(trainable)
    _check_methods(bound)
    info = describe(bound)
    settings = dict(config or {})
    amounts = info.resources(settings) if callable(info.resources) else info.resources
    complaints = Complaints(info.name, is_class=info.kind == "class")
    return Subject(
        name=info.name,
        is_class=info.kind == "class",
        trainable=_pickled(bound, complaints),
        config=_pickled_config(settings, complaints),
        num_cpus=float(amounts.get("CPU", 1.0)),
        num_gpus=float(amounts.get("GPU", 0.0)),
        module=module,
    )


def _check_methods(bound: BoundTrainable) -> None:
    cls = bound.target
    if not isinstance(cls, type) or not issubclass(cls, Trainable):
        return
    needed = ("step", "save_checkpoint", "load_checkpoint")
    if missing := [name for name in needed if getattr(cls, name) is getattr(Trainable, name)]:
        raise Complaints(cls.__qualname__.rpartition(".")[2], is_class=True).missing_methods(missing)


def _pickled(bound: BoundTrainable, complaints: Complaints) -> bytes:
    try:
        check_picklable(bound)
        return cloudpickle.dumps(bound)  # type: ignore[no-any-return]
    except TrainableError as error:
        raise complaints.of(
            Problem.NOT_PICKLABLE, error.message, hint=error.hint, key=str(error.fields.get("blamed", ""))
        ) from error


def _pickled_config(config: dict[str, Any], complaints: Complaints) -> bytes:
    try:
        return cloudpickle.dumps(config)  # type: ignore[no-any-return]
    except Exception as error:
        raise complaints.of(
            Problem.NOT_PICKLABLE,
            f"the config cannot be sent to another process: {error}",
            hint="make such objects in setup(), from plain values in the config",
            key="config",
        ) from error
