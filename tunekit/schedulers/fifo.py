"""Every trial runs to its own end, in the order of creation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tunekit.core.decisions import Continue, Decision
from tunekit.types import Mode, TrialId


@dataclass(frozen=True, kw_only=True)
class FIFO:
    """First in, first out: no trial is stopped for the sake of another. The default scheduler."""

    needs_metric: ClassVar[bool] = False

    def begin(self, mode: Mode) -> FIFOState:
        """Return fresh state for one experiment; FIFO has none to speak of."""
        del mode  # nothing is compared
        return FIFOState()

    def identity(self) -> dict[str, object]:
        """Return class name and arguments as JSON values."""
        return {"class": type(self).__name__}


class FIFOState:
    """Never wants to be asked, and says so again if it is."""

    def horizon(self, trial: TrialId, iteration: int) -> int | None:
        """Return None: no trial need ever ask."""
        del trial, iteration  # all are treated alike
        return None

    def decide(self, trial: TrialId, iteration: int, value: float | None) -> Decision:
        """Let the trial go on."""
        del trial, iteration, value  # all are treated alike
        return Continue(until=None, reason="no trial is stopped under FIFO")
