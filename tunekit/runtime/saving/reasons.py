"""Why a checkpoint is saved."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class SaveReason(StrEnum):
    """Why a checkpoint is saved; kept in its manifest."""

    FREQUENCY = "frequency"
    TIME = "time"
    """``checkpoint_every_s``. The only kind that a newer save may replace while it waits."""
    DEMAND = "demand"
    """``should_checkpoint`` or ``pin_checkpoint`` in a result."""
    USER = "user"
    """A folder that user code reported."""
    AT_END = "at_end"
    PAUSE = "pause"
    PREEMPTION = "preemption"
    """The machine is about to be taken away."""
    FAILURE = "failure"
    """User code raised; the state is what it left behind, and nothing is resumed from it."""


INTERIM: Final = frozenset({SaveReason.PAUSE, SaveReason.PREEMPTION})
"""What is saved only because the trial has to leave its place. Where nothing disturbs it, there is none of them."""
