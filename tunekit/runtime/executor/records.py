"""What the driver knows of one worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tunekit.runtime.executor.heads import Held
from tunekit.runtime.line.shapes import Shape
from tunekit.runtime.line.wire import AttemptKey


@dataclass(slots=True)
class WorkerRecord:
    """A worker, as the driver sees it."""

    id: int
    shape: Shape
    node: str = ""
    """Id of its node; empty until it said hello."""
    pid: int = 0
    avoid: Sequence[str] = ()
    """Nodes on which it may not be."""
    shuns: Sequence[str] = ()
    """Nodes that were to be left alone when it was asked for, so that Ray does not start it there."""
    has_run: bool = False
    """Whether a trial has started there."""
    is_dismissed: bool = False
    """Whether it is given nothing more, for good."""
    process_notice: str = ""
    """Who told its process to end, if anybody did."""
    machine_notice: str = ""
    """Who said that its machine is to go, if anybody did; may be taken back."""
    held: dict[AttemptKey, Held] = field(default_factory=dict)
    """In the order in which they will run; the first one runs."""
    busy_since: float = 0.0
    hired_at: float = 0.0

    @property
    def is_up(self) -> bool:
        """Whether it has said hello."""
        return bool(self.pid)

    @property
    def notice(self) -> str:
        """Why it is to end, if notice was given: it was taken away then, however it ends."""
        return self.process_notice or self.machine_notice

    @property
    def is_leaving(self) -> bool:
        """Whether it is given nothing more."""
        return self.is_dismissed or bool(self.notice)

    @property
    def is_idle(self) -> bool:
        """Whether it waits for work."""
        return self.is_up and not self.held and not self.is_leaving
