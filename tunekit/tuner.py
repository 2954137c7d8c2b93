"""``Tuner``: what a user holds. It puts the parts together and decides nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunekit.config import CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from tunekit.config.problems import Problems, flag_meant
from tunekit.errors import ConfigError, ConfigTypeError, TunekitError
from tunekit.runtime.sweep.plan import Plan

if TYPE_CHECKING:
    import os

    from tunekit.results import ResultGrid

__all__ = ["CheckpointConfig", "FailureConfig", "RunConfig", "TuneConfig", "Tuner", "inline"]


class Tuner:
    """A sweep: a trainable, a search space, and how to go about it.

    Everything is checked here, before anything is touched. ``fit()`` runs the sweep; run the same script again and it
    goes on where it ended, whatever ended it.

    Args:
        trainable: A function ``train(config)`` or a subclass of ``tunekit.Trainable``.
        param_space: The search space: domains such as ``tunekit.uniform(0, 1)`` and constants, nested as you like.
        tune_config: What to look for, and how many trials to make.
        run_config: Where results go, when trials stop, what is saved, what a failure costs.

    Raises:
        ConfigError: A setting is out of range, or contradicts another one or the trainable.
        TrainableError: The trainable cannot be used.
    """

    def __init__(
        self,
        trainable: Any,
        *,
        param_space: Mapping[str, Any] | None = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
    ) -> None:
        """Check everything that can be known before any trial starts."""
        problems = Problems("Tuner")
        _check_part(problems, "param_space", param_space, Mapping)
        _check_part(problems, "tune_config", tune_config, TuneConfig)
        _check_part(problems, "run_config", run_config, RunConfig)
        problems.raise_if_any()
        self._plan = Plan(
            trainable=trainable,
            param_space=param_space or {},
            tune=tune_config or TuneConfig(),
            run=run_config or RunConfig(),
        )

    @classmethod
    def restore(
        cls,
        path: str | os.PathLike[str],
        trainable: Any,
        *,
        param_space: Mapping[str, Any] | None = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
        resume_errored: bool = False,
        restart_errored: bool = False,
    ) -> Tuner:
        """Return a tuner that goes on with the experiment at ``path``, wherever the folder has been moved to.

        What is left out is taken from the experiment itself. Code is never stored, so whatever holds code must be given
        again: the trainable, a space with Python objects in it, a stop function.

        Args:
            path: The experiment's folder: a local path, or a URI such as ``s3://bucket/sweeps/digits``.
            trainable: The same trainable; its code may have changed.
            param_space: The search space; None: as recorded.
            tune_config: As recorded if None.
            run_config: As recorded if None; its name and storage path are those of ``path`` in any case.
            resume_errored: Whether failed trials go on from their newest checkpoint.
            restart_errored: Whether failed trials start over.

        Raises:
            ExperimentNotFoundError: There is no experiment at ``path``.
            ExperimentMismatchError: It is another experiment.
            ConfigError: Something that holds code is needed and was not given.
        """
        from tunekit.runtime.sweep.recall import recall  # noqa: PLC0415 - fit() does without

        return cls._from_plan(
            recall(
                path,
                trainable,
                param_space=param_space,
                tune=tune_config,
                run=run_config,
                resume_errored=resume_errored,
                restart_errored=restart_errored,
            )
        )

    @classmethod
    def can_restore(cls, path: str | os.PathLike[str]) -> bool:
        """Return whether at ``path`` an experiment has begun that this version of tunekit can read.

        Looks at its beginning only, so that the answer takes no time; ``restore`` reads and verifies all of it.

        Raises:
            ConfigTypeError: ``path`` is neither text nor a path.
        """
        from tunekit.runtime.sweep.recall import has_begun  # noqa: PLC0415 - as above

        try:
            return has_begun(path)
        except ConfigTypeError:
            raise
        except (TunekitError, OSError):
            return False

    @classmethod
    def _from_plan(cls, plan: Plan) -> Tuner:
        tuner = cls.__new__(cls)
        tuner._plan = plan  # noqa: SLF001 - its own class
        return tuner

    def fit(self, *, takeover: bool = False) -> ResultGrid:
        """Run the sweep on Ray until it ends, or go on with it; a finished one returns at once.

        Args:
            takeover: Whether to go on in the place of a driver that is running this experiment, or seems to be: one
                that was stopped, or is on a machine that does not answer. It records nothing any more, and ends with
                ``ExperimentExistsError``. Without it, a second driver is refused.

        Returns:
            Every trial of the experiment, those of earlier runs of the script included.

        Raises:
            ExperimentMismatchError: The folder holds an experiment with another identity or space.
            ExperimentExistsError: Another driver is running it, or has taken over from this one.
            StorageError: The storage path cannot be used.
            ResourcesError: No node could ever hold one trial.
            TrialError: A trial failed under ``fail_fast="raise"``.
            ConfigError: The trainable turned out not to fit the configuration.
            KeyboardInterrupt: Ctrl-C; everything is saved, and the same script goes on.
        """
        from tunekit.runtime.sweep.head_start import fit_on_ray  # noqa: PLC0415 - what runs it is loaded when it runs

        _check_takeover(takeover)
        return fit_on_ray(self._plan, takeover=takeover)

    def get_results(self) -> ResultGrid:
        """Return the results so far, without running anything.

        Raises:
            ExperimentNotFoundError: The experiment has not begun.
        """
        from tunekit.runtime.sweep.sweep import load  # noqa: PLC0415 - as above

        return load(self._plan)


def inline(tuner: Tuner, *, takeover: bool = False) -> ResultGrid:
    """Run a tuner's sweep in this process, one trial after another, without Ray.

    Trials run on the calling thread, so a debugger's breakpoints work in them. Journal, checkpoints and results are the
    same, and the same experiment can go on with ``tuner.fit()``.

    Args:
        tuner: The sweep.
        takeover: As in ``Tuner.fit``.

    Raises:
        TunekitError: As ``Tuner.fit``.
    """
    if not isinstance(tuner, Tuner):
        raise ConfigError(
            f"inline: got {tuner!r}, but must be a Tuner", hint="tunekit.inline(tunekit.Tuner(train, param_space=…))"
        )
    from tunekit.runtime.sweep.sweep import fit  # noqa: PLC0415 - as above

    _check_takeover(takeover)
    return fit(tuner._plan, takeover=takeover)  # noqa: SLF001 - the same module


def _check_takeover(takeover: object) -> None:
    if not isinstance(takeover, bool):
        raise ConfigTypeError(
            f"takeover: got {takeover!r}, but must be True or False", hint=flag_meant("takeover", takeover)
        )


def _check_part(problems: Problems, name: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        example = "{'lr': tunekit.uniform(0, 1)}" if kind is Mapping else f"tunekit.{kind.__name__}(...)"
        problems.bad_type(name, value, f"None or a {kind.__name__}", hint=f"write {name}={example}")
