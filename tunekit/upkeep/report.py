"""What copying, checking and clearing up tell about themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from tunekit.errors import ExperimentNotFoundError
from tunekit.store.contents import Kind
from tunekit.store.inspection import Problem


class Meter(Protocol):
    """Shows how far something has come."""

    def expect(self, num_bytes: int) -> None:
        """So many bytes more are to be gone through."""
        ...

    def advance(self, num_bytes: int) -> None:
        """So many of them are done."""
        ...


class NoMeter:
    """Shows nothing."""

    def expect(self, num_bytes: int) -> None:
        """Ignore it."""

    def advance(self, num_bytes: int) -> None:
        """Ignore it."""


class NothingHereError(ExperimentNotFoundError):
    """The path is neither an experiment nor a trial nor a checkpoint."""

    exit_code = 2
    """Of a command that was given it: it was used wrongly."""


def nothing_here(where: str) -> NothingHereError:
    """Return the error for a path at which there is nothing of ours."""
    return NothingHereError(
        f"{where} is neither an experiment nor a trial nor a checkpoint",
        hint="give the folder <storage_path>/<experiment>, or a trial or a checkpoint in it",
        path=where,
    )


@dataclass
class Report:
    """What was looked at, and what is wrong with it."""

    path: str
    kind: Kind
    num_checkpoints: int = 0
    num_files: int = 0
    num_bytes: int = 0
    num_records: int = 0
    """Of the journal."""
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    """What is worth knowing and no damage."""

    @property
    def is_clean(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        plain = {name: value for name, value in vars(self).items() if not isinstance(value, list)}
        told = {name: [problem._asdict() for problem in getattr(self, name)] for name in ("problems", "notes")}
        return {**plain, "clean": self.is_clean, **told}
