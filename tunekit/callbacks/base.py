"""``Callback``: how a user's code follows a sweep, over any number of drivers.

Whatever is told is in the journal already, and what a callback does changes nothing: it gets copies, on a thread of
its own, and when it raises that is logged and costs nobody else anything.

*Numbers.* The records of the journal are counted from 1, and a number never stands for another record. Each call says
to which record it belongs. Since a driver may die between the moment at which a record is durable and the one at which
its callbacks are told, exactly once is a matter of both sides:

- A callback says with ``position`` how far it has come, and is told everything behind that, whichever driver journalled
  it: at least once, in the order of the journal.
- After each batch it is called with ``flush(number)``: all records up to this number have been told. One that stores
  this number together with what it has made of them (in one transaction, or in a way that bears repetition) has each
  record exactly once. ``JsonlLogger`` does.
- One that keeps nothing need not say anything. It is told what happens from the start of each driver on, and
  ``on_restore`` tells it where things stand. It hears of nothing twice, and may miss what was journalled in the last
  moment of a driver that was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunekit.checkpoint import Checkpoint
from tunekit.types import TrialStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """A trial as a callback sees it: a snapshot, which nothing can be changed by."""

    index: int
    """Its place in the order of creation, from 0."""
    trial_id: str
    """Its name, such as ``train_00003``."""
    path: str
    """Its folder, which exists if it has saved anything."""
    status: TrialStatus
    attempt: int
    """Its newest attempt, counted from 1."""
    iteration: int
    """Of its newest row; for one that has come to its end, of the last row that counts."""
    reason: str
    """Why it ended; empty if there is nothing to say."""
    make_config: Callable[[], dict[str, Any]] = field(repr=False, compare=False)
    """Makes the configuration."""

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration, made anew."""
        return self.make_config()


class Callback:
    """Follows a sweep: derive from it, define the methods that you need, give it to ``RunConfig(callbacks=[…])``.

    Methods have the names and arguments of Ray Tune's where the meaning is the same, and are called by keyword.
    ``iteration`` is the number of the record, which takes the place of Ray Tune's count of its loop. ``trials`` shows
    all trials as they are now, and ``trial`` one of them as it was at that record. Take ``**info`` for what will be
    added.

    Differs:
        From Ray Tune: a callback that raises does not end the sweep. It is told nothing more in this run; if it has a
        ``position``, the next run of the script goes on from there.
    """

    def setup(
        self,
        stop: Any = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Get ready, once in each run of the script and before anything else.

        Args:
            stop: The stop criterion of the script.
            num_samples: As the script says.
            total_num_samples: How many trials there are to be; None: as many as there are.
            info: ``name`` and ``path`` of the experiment, its ``metric`` and ``mode``, and ``experiment_id``, a text
                that no other experiment has and that moves with it.
        """

    def position(self) -> int | None:
        """Return the number of the last record that needs not be told again.

        0: everything from the beginning is told. None: only what happens from now on. Anything else but a number from
        0 on counts as an error of the callback.
        """
        return None

    def on_restore(self, iteration: int, trials: Sequence[TrialView], **info: Any) -> None:
        """Learn that another driver has taken over: trials that ran go on from their checkpoints.

        Args:
            iteration: Number of the record.
            trials: All trials as they were at that moment.
            info: What will be added.
        """

    def on_trial_start(self, iteration: int, trials: Sequence[TrialView], trial: TrialView, **info: Any) -> None:
        """Learn that a trial runs for the first time."""

    def on_trial_restore(self, iteration: int, trials: Sequence[TrialView], trial: TrialView, **info: Any) -> None:
        """Learn that a trial runs again, and from where.

        Args:
            iteration: Number of the record.
            trials: All trials.
            trial: The trial.
            info: ``restored_from``: iteration of the checkpoint, 0 if it starts over. ``superseded``: a range of
                iterations that were told and that the trial has lost: it computes them again, or will never have had
                them. (The results keep such a row until it is replaced, and for good if the trial fails before that.)
        """

    def on_trial_result(
        self, iteration: int, trials: Sequence[TrialView], trial: TrialView, result: dict[str, Any], **info: Any
    ) -> None:
        """Learn of a row of results. One with an iteration that was told before replaces that row.

        Args:
            iteration: Number of the record.
            trials: All trials.
            trial: The trial.
            result: A copy of its metrics, with ``training_iteration``, ``time_total_s`` and the like.
            info: What will be added.
        """

    def on_checkpoint(
        self, iteration: int, trials: Sequence[TrialView], trial: TrialView, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """Learn that a checkpoint is visible. Retention may have deleted it since.

        Args:
            iteration: Number of the record.
            trials: All trials.
            trial: The trial.
            checkpoint: A handle to it.
            info: ``training_iteration``: that of the checkpoint.
        """

    def on_trial_pause(self, iteration: int, trials: Sequence[TrialView], trial: TrialView, **info: Any) -> None:
        """Learn that a trial has made room, and will go on."""

    def on_trial_recover(self, iteration: int, trials: Sequence[TrialView], trial: TrialView, **info: Any) -> None:
        """Learn that an attempt has failed or was lost, and that the trial is tried again.

        Args:
            iteration: Number of the record.
            trials: All trials.
            trial: The trial.
            info: ``error``: what happened, as text.
        """

    def on_trial_complete(self, iteration: int, trials: Sequence[TrialView], trial: TrialView, **info: Any) -> None:
        """Learn that a trial has come to its end or was stopped. It has no rows beyond ``trial.iteration``."""

    def on_trial_error(self, iteration: int, trials: Sequence[TrialView], trial: TrialView, **info: Any) -> None:
        """Learn that a trial has failed for good.

        Args:
            iteration: Number of the record.
            trials: All trials.
            trial: The trial.
            info: ``error``: what it died of, as text.
        """

    def flush(self, number: int) -> None:
        """Store what was told. All records up to this number have been; ``position`` may say so from now on.

        Args:
            number: Of the last record.
        """

    def on_experiment_end(self, trials: Sequence[TrialView], **info: Any) -> None:
        """Learn that this run is over, whatever its outcome. This is no record: it happens in each run."""
