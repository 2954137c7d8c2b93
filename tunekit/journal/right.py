"""The right to be the driver of an experiment, wherever the experiment is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class DriverRight(ABC):
    """The right to write an experiment, which one driver has at a time. A context manager that can be used again.

    It can be taken over: then ``check`` raises for the driver that had it, which writes nothing from there on.
    """

    took_over = False
    """Whether a driver before has not ended in peace, and so might still be writing."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Which driver of the experiment the holder is, counted from 1; 0 before the right was first acquired."""

    @abstractmethod
    def acquire(self, *, takeover: bool = False) -> int:
        """Take the right, and return the generation.

        Args:
            takeover: Whether to take it from a driver that holds it, instead of being refused.

        Raises:
            ExperimentExistsError: Another driver holds it.
            StorageError: The storage does not let us.
        """

    @abstractmethod
    def release(self) -> None:
        """Give the right back. Does nothing when it is not held."""

    @abstractmethod
    def check(self) -> None:
        """Raise if it is known that another driver has taken over.

        Raises:
            ExperimentExistsError: One has.
            StorageError: It cannot be found out.
        """

    def opened(self) -> None:  # noqa: B027 - where nothing is held for opening, nothing is given back
        """Note that the experiment is open, so that from here on it can be taken over."""

    def __enter__(self) -> Self:
        """Acquire."""
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release."""
        self.release()
