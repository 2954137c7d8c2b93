"""The saves of a simulated attempt: each takes a while, and the trial goes on meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tunekit.core.commands import LaunchTrial
from tunekit.core.events import CheckpointStaged, Event, SaveFailed
from tunekit.testing.sim_diary import HOLD_S
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.testing.sim_training import ERROR, SimTraining
from tunekit.testing.sim_world import metric_of, size_of


class SimSaves:
    """What an attempt saves.

    Args:
        around: The world.
        launch: Of the attempt.
        work: What there is to save.
        tell: Has something said to the driver.
        when_done: Called when all saves are finished that had been begun.
    """

    def __init__(
        self,
        around: Surroundings,
        launch: LaunchTrial,
        work: SimTraining,
        tell: Callable[[Event], None],
        when_done: Callable[[], None],
    ) -> None:
        """Begin with none."""
        self.saved_at = work.iteration
        """Iteration of the newest checkpoint."""
        self._around = around
        self._trial, self._attempt = launch.trial, launch.attempt
        self._work = work
        self._tell = tell
        self._when_done = when_done
        self._queue: deque[tuple[float, Event]] = deque()
        """Saves that are not finished, each with the seconds that it takes: the first is under way."""

    @property
    def first_s(self) -> float:
        """How long the save takes that is under way; 0: there is none."""
        return self._queue[0][0] if self._queue else 0.0

    @property
    def are_done(self) -> bool:
        """Whether none is under way."""
        return not self._queue

    def save(self, *, pinned: bool = False, interim: bool = False) -> bool:
        """Save the newest row, and return whether that had not been done."""
        if self._work.iteration in {0, self.saved_at}:
            return False
        self.saved_at = self._work.iteration
        self._stage(self._work.state, pinned=pinned, interim=interim)
        return True

    def save_failed(self) -> None:
        """Save what is left when user code raises, perhaps in the middle of an iteration."""
        self._stage(self._work.state ^ 1, exact=False)

    def clear(self) -> None:
        """Let nothing become of those under way."""
        self._queue.clear()

    def _stage(self, state: int, *, exact: bool = True, pinned: bool = False, interim: bool = False) -> None:
        """Begin to save. What is said of the save comes when it is finished."""
        options, work = self._around.options, self._work
        about = {"trial": self._trial, "attempt": self._attempt, "iteration": work.iteration}
        event: Event
        if exact and self._around.coin(options.faults.save):
            event = SaveFailed(**about, error=ERROR)
        else:
            self._around.store.staged[self._trial, work.iteration, self._attempt, exact] = state
            manifest = {
                "iteration": work.iteration,
                "time_total_s": work.time_total_s,
                "files": [{"name": "state", "size": size_of(state)}],
            }
            score = metric_of(state) if options.by_score and exact else None
            event = CheckpointStaged(
                **about,
                manifest=manifest,
                score=score,
                pinned=pinned,
                exact=exact,
                interim=interim,
                blocked_s=HOLD_S,
                took_s=options.persist_s,
            )
        if not options.persist_s:
            self._tell(event)
            return
        self._queue.append((options.persist_s * self._around.rng.random(), event))
        if len(self._queue) == 1:
            self._around.timeline.after(self.first_s, self._finish)

    def _finish(self) -> None:
        if not self._queue:
            return
        self._tell(self._queue.popleft()[1])
        if self._queue:
            self._around.timeline.after(self.first_s, self._finish)
        else:
            self._when_done()
