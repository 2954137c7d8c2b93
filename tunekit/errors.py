"""Every exception that tunekit raises, in one tree.

::

    TunekitError
    ├── ConfigError (ValueError)               a setting is out of range, unknown or contradictory
    │   ├── ConfigTypeError (TypeError)        a setting has the wrong type
    │   └── ResourcesError                     no node could ever hold one trial
    ├── TrainableError (TypeError)             the trainable cannot be used at all
    │   ├── SilentRestartError                 it was given a checkpoint, and began anew all the same
    │   └── ValidationError                    it runs, but cannot be saved and restored as it should
    ├── ReportError (ValueError)               report() was given something that cannot be recorded
    │   └── MetricNotFoundError (KeyError)     the metric of the sweep is not among the reported ones
    ├── SessionError (RuntimeError)            report() and its like were called outside a trial
    ├── ExperimentError
    │   ├── ExperimentNotFoundError (FileNotFoundError)   no experiment at this path
    │   ├── ExperimentExistsError (FileExistsError)       another driver is running this experiment
    │   └── ExperimentMismatchError (ValueError)          the script does not describe this experiment
    ├── StorageError (OSError)                 the storage path is unusable or failed
    ├── JournalError
    │   ├── JournalCorruptError (ValueError)   the journal is damaged before its end
    │   └── JournalVersionError (ValueError)   the journal was written by a newer tunekit
    ├── ReplayMismatchError                    replaying the journal gave other commands than it records
    ├── CheckpointError
    │   ├── CheckpointNotFoundError (FileNotFoundError)
    │   ├── CheckpointCorruptError (ValueError)
    │   ├── CheckpointVersionError (ValueError)   the checkpoint was written by a newer tunekit
    │   └── SaveError (ValueError)             user code saved something that cannot be a checkpoint
    ├── NoResultError (LookupError)            no trial has a result that answers the question
    ├── TrialError                             what a failed trial died of, as its ``Result.error``
    └── CoreBugError                           tunekit broke its own rules; please report it
        ├── InvalidTransitionError
        └── InvariantViolationError

Each message says what happened, which value was got and what is allowed; ``hint`` says what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunekit.printable import printable


class TunekitError(Exception):
    """Base of all tunekit errors.

    Args:
        message: What happened, the value got, what is allowed.
        hint: What to do next; shown after a blank line.
    """

    def __init__(self, message: str = "", *, hint: str = "", **fields: Any) -> None:
        """Keep the message, the hint and every structured field as an attribute."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields
        for name, value in fields.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        """Return the message, then the hint after a blank line; nothing in it steers a terminal."""
        return printable(f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle through the structured parts, so that errors cross process borders."""
        return (_rebuild, (type(self), self.message, self.hint, self.fields))


def _rebuild(cls: type[TunekitError], message: str, hint: str, fields: dict[str, Any]) -> TunekitError:
    return cls(message, hint=hint, **fields)


class ConfigError(TunekitError, ValueError):
    """A setting is out of range, unknown or contradicts another one."""

    @classmethod
    def collect(cls, subject: str, problems: Sequence[str], *, hint: str = "") -> ConfigError:
        """Return one error that lists every problem of ``subject`` at once.

        Args:
            subject: The class or call that was given the settings.
            problems: Lines such as ``num_to_keep: got 0, but must be None or an integer >= 1``.
            hint: What to do next.
        """
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  {problem}" for problem in problems)
        return cls(f"{subject} has {count}\n{lines}", hint=hint, problems=list(problems))


class ConfigTypeError(ConfigError, TypeError):
    """A setting has the wrong type."""


class ResourcesError(ConfigError):
    """No node of the cluster could ever hold one trial."""


class TrainableError(TunekitError, TypeError):
    """The trainable cannot be used: wrong kind, not picklable, missing methods."""


class SilentRestartError(TrainableError):
    """A trial was given a checkpoint to go on from and began anew, under ``silent_restart="fail"``."""


class ValidationError(TrainableError):
    """``validate_save_restore`` found that a trainable does not come back as it was saved.

    Its fields: ``problem`` (short and always the same for the same kind, such as ``no-op load``), ``step`` (the
    iteration at which it showed, or None), ``key`` (of the metric, of the state, or the method's name; may be empty),
    ``expected`` and ``found`` (the two values, as text), ``traceback`` (text, if user code raised; else empty).
    """

    problem: str
    step: int | None
    key: str
    expected: str
    found: str
    traceback: str


class ReportError(TunekitError, ValueError):
    """``report()`` or ``step()`` gave something that cannot be recorded."""


class MetricNotFoundError(ReportError, KeyError):
    """The metric that the sweep optimises is not among the reported ones."""


class SessionError(TunekitError, RuntimeError):
    """A function that belongs inside a trial was called outside one."""


class ExperimentError(TunekitError):
    """Base of the errors about an experiment folder."""


class ExperimentNotFoundError(ExperimentError, FileNotFoundError):
    """There is no experiment at this path."""


class ExperimentExistsError(ExperimentError, FileExistsError):
    """Another driver is running this experiment."""


class ExperimentMismatchError(ExperimentError, ValueError):
    """The script does not describe the experiment that the folder holds."""


class StorageError(TunekitError, OSError):
    """The storage path is unusable, unreachable or failed while in use."""


class JournalError(TunekitError):
    """Base of the errors about the journal."""


class JournalCorruptError(JournalError, ValueError):
    """The journal is damaged before its end, where no crash can damage it."""


class JournalVersionError(JournalError, ValueError):
    """The journal was written by a newer tunekit."""


class ReplayMismatchError(TunekitError):
    """Replaying the journal gave other commands than the journal records."""


class CheckpointError(TunekitError):
    """Base of the errors about checkpoints."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no checkpoint at this path."""


class CheckpointCorruptError(CheckpointError, ValueError):
    """The checkpoint does not match its manifest."""


class CheckpointVersionError(CheckpointError, ValueError):
    """The checkpoint was written by a newer tunekit."""


class SaveError(CheckpointError, ValueError):
    """User code saved something that cannot be a checkpoint."""


class NoResultError(TunekitError, LookupError):
    """No trial has a result that answers the question."""


class TrialError(TunekitError):
    """What a failed trial died of.

    Its fields: ``cause`` (a ``LossCause``), ``error_type`` (the qualified name of the
    user's exception), ``traceback`` (text, from the worker).
    """


class CoreBugError(TunekitError):
    """tunekit broke its own rules. The message carries the trial's story."""


class InvalidTransitionError(CoreBugError):
    """An event met a trial status for which the transition table has no entry."""


class InvariantViolationError(CoreBugError):
    """Two facts that must agree do not."""
